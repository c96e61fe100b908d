package dnsproxy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

func openVIPs(t testing.TB, cfg dnsproxy.VIPConfig) *dnsproxy.VIPs {
	t.Helper()
	v, err := dnsproxy.OpenVIPs(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func allocate(t testing.TB, v *dnsproxy.VIPs, hosts ...string) []dnsproxy.VIP {
	t.Helper()
	vips, err := v.Allocate(hosts...)
	if err != nil {
		t.Fatal(err)
	}
	return vips
}

// small has 254 IPv4 addresses, so that hosts collide.
var small = dnsproxy.VIPConfig{IPv4: netip.MustParsePrefix("240.240.0.0/24")}

func TestVIPsAreTheSameEverywhere(t *testing.T) {
	east, west := openVIPs(t, dnsproxy.VIPConfig{}), openVIPs(t, dnsproxy.VIPConfig{})
	hosts := []string{"mymongodb.somedomain", "api.example.com", "*.example.com"}
	a := allocate(t, east, hosts...)
	slices.Reverse(hosts)
	b := allocate(t, west, hosts...)
	slices.Reverse(b)
	if !slices.Equal(a, b) {
		t.Errorf("two clusters have %v and %v", a, b)
	}
	for i, vip := range a {
		if !netip.MustParsePrefix("240.240.0.0/16").Contains(vip.IPv4) || !netip.MustParsePrefix("2001:2::/48").Contains(vip.IPv6) {
			t.Errorf("%d: %v is not of the default prefixes", i, vip)
		}
	}
	if again := allocate(t, east, "API.Example.com."); again[0] != a[1] {
		t.Errorf("another spelling has %v, want %v", again[0], a[1])
	}
}

// TestVIPsAreForever holds the hash to what it was: allocations in the field depend on it.
func TestVIPsAreForever(t *testing.T) {
	v := openVIPs(t, dnsproxy.VIPConfig{})
	want := map[string]string{
		"mymongodb.somedomain": "240.240.11.4 2001:2::5fb2:9ac0:36d:c4ef",
		"api.example.com":      "240.240.39.233 2001:2::50c4:3d38:8506:4d9c",
	}
	for host, want := range want {
		vip := allocate(t, v, host)[0]
		if got := fmt.Sprint(vip.IPv4, " ", vip.IPv6); got != want {
			t.Errorf("%s has %s, want %s", host, got, want)
		}
	}
}

func TestVIPsAvoidBroadcastLikeAddresses(t *testing.T) {
	for _, prefix := range []string{"240.240.0.0/24", "240.240.0.0/22", "10.9.8.64/28", "10.9.8.252/30"} {
		t.Run(prefix, func(t *testing.T) {
			p := netip.MustParsePrefix(prefix)
			want := map[netip.Addr]bool{}
			for a := p.Addr(); p.Contains(a); a = a.Next() {
				last := a.As4()[3]
				network := a == p.Addr() || !p.Contains(a.Next())
				if last != 0 && last != 255 && !network {
					want[a] = true
				}
			}
			v := openVIPs(t, dnsproxy.VIPConfig{IPv4: p})
			for i := range len(want) {
				a := allocate(t, v, fmt.Sprintf("host-%d.example.com", i))[0].IPv4
				if !want[a] {
					t.Fatalf("%s was given, or was given twice", a)
				}
				delete(want, a)
			}
			var exhausted *dnsproxy.ExhaustedError
			if _, err := v.Allocate("one-more.example.com"); !errors.As(err, &exhausted) || exhausted.Prefix != p {
				t.Errorf("the next one gets %v, want an *ExhaustedError of %s", err, p)
			}
		})
	}
}

func TestVIPsQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := openVIPs(t, dnsproxy.VIPConfig{IPv4: netip.MustParsePrefix("10.9.8.252/30"), Quarantine: time.Hour})
		old := allocate(t, v, "a.example.com", "b.example.com")
		if err := v.Release("a.example.com"); err != nil {
			t.Fatal(err)
		}
		var exhausted *dnsproxy.ExhaustedError
		if _, err := v.Allocate("c.example.com"); !errors.As(err, &exhausted) {
			t.Fatalf("in quarantine: %v, want an *ExhaustedError", err)
		}
		if exhausted.InUse != 1 || exhausted.Quarantined != 1 || exhausted.Host != "c.example.com" {
			t.Errorf("error is %+v, want 1 in use, 1 in quarantine", exhausted)
		}
		if _, ok := v.Lookup("c.example.com"); ok {
			t.Error("a failed allocation left something behind")
		}
		if back := allocate(t, v, "a.example.com")[0]; back != old[0] {
			t.Errorf("back in time, a has %v, want %v", back, old[0])
		}
		if err := v.Release("a.example.com"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if c := allocate(t, v, "c.example.com")[0]; c.IPv4 != old[0].IPv4 {
			t.Errorf("after the quarantine c has %v, want %v", c.IPv4, old[0].IPv4)
		}
		if _, err := v.Allocate("a.example.com"); !errors.As(err, &exhausted) {
			t.Errorf("a gets %v, want an *ExhaustedError: its address has gone", err)
		}
	})
}

func TestVIPsWithoutQuarantine(t *testing.T) {
	v := openVIPs(t, dnsproxy.VIPConfig{IPv4: netip.MustParsePrefix("10.9.8.252/30"), Quarantine: -1})
	allocate(t, v, "a.example.com", "b.example.com")
	if err := v.Release("a.example.com"); err != nil {
		t.Fatal(err)
	}
	allocate(t, v, "c.example.com")
}

// TestUserAddresses are the cases that istiod's allocator is tested with.
func TestUserAddresses(t *testing.T) {
	t.Run("addresses of a user, none allocated", func(t *testing.T) {
		v := openVIPs(t, small)
		moves, err := v.Claim("user.example.com", addrs("240.240.0.7")...)
		if err != nil || len(moves) != 0 {
			t.Errorf("claim: %v, %v, want no moves", moves, err)
		}
		if _, err := v.Allocate("user.example.com"); !errors.Is(err, dnsproxy.ErrClaimed) {
			t.Errorf("allocation: %v, want ErrClaimed", err)
		}
	})
	t.Run("a user claims what was allocated", func(t *testing.T) {
		v := openVIPs(t, small)
		old := allocate(t, v, "auto.example.com", "other.example.com")
		moves, err := v.Claim("user.example.com", old[0].IPv4)
		if err != nil {
			t.Fatal(err)
		}
		now, _ := v.Lookup("auto.example.com")
		want := []dnsproxy.Move{{Host: "auto.example.com", From: old[0], To: now}}
		if !slices.Equal(moves, want) {
			t.Errorf("moves are %v, want %v", moves, want)
		}
		if now.IPv4 == old[0].IPv4 || now.IPv6 != old[0].IPv6 {
			t.Errorf("auto has %v after %v: only the claimed address may change", now, old[0])
		}
		if other, _ := v.Lookup("other.example.com"); other != old[1] {
			t.Errorf("other has moved from %v to %v", old[1], other)
		}
	})
	t.Run("a user claims what is allocated to the same host", func(t *testing.T) {
		v := openVIPs(t, small)
		old := allocate(t, v, "host.example.com")[0]
		moves, err := v.Claim("host.example.com", old.IPv4)
		if err != nil || len(moves) != 0 {
			t.Errorf("claim: %v, %v, want no moves", moves, err)
		}
		if vip, ok := v.Lookup("host.example.com"); ok {
			t.Errorf("host still has %v allocated", vip)
		}
	})
	t.Run("two hosts share an address of their users", func(t *testing.T) {
		v := openVIPs(t, small)
		for _, host := range []string{"one.example.com", "two.example.com"} {
			if _, err := v.Claim(host, addrs("240.240.0.7")...); err != nil {
				t.Error(err)
			}
		}
		if err := v.Release("one.example.com"); err != nil {
			t.Error(err)
		}
		err := v.Adopt("three.example.com", dnsproxy.VIP{IPv4: netip.MustParseAddr("240.240.0.7"), IPv6: netip.MustParseAddr("2001:2::7")})
		var taken *dnsproxy.TakenError
		if !errors.As(err, &taken) || taken.Owner != "two.example.com" {
			t.Errorf("adopting it: %v, want a *TakenError of two", err)
		}
	})
	t.Run("the user takes the addresses away again", func(t *testing.T) {
		v := openVIPs(t, small)
		old := allocate(t, v, "host.example.com")
		if _, err := v.Claim("host.example.com", addrs("192.0.2.1")...); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Claim("host.example.com"); err != nil {
			t.Fatal(err)
		}
		if again := allocate(t, v, "host.example.com"); again[0] != old[0] {
			t.Errorf("host has %v, want %v: it was in quarantine", again[0], old[0])
		}
	})
	t.Run("no room for who has to move", func(t *testing.T) {
		v := openVIPs(t, dnsproxy.VIPConfig{IPv4: netip.MustParsePrefix("10.9.8.252/30")})
		old := allocate(t, v, "a.example.com", "b.example.com")
		var exhausted *dnsproxy.ExhaustedError
		if _, err := v.Claim("user.example.com", old[0].IPv4); !errors.As(err, &exhausted) {
			t.Fatalf("claim: %v, want an *ExhaustedError", err)
		}
		if a, _ := v.Lookup("a.example.com"); a != old[0] {
			t.Errorf("a has %v after a claim that failed, want %v", a, old[0])
		}
		if _, err := v.Allocate("user.example.com"); errors.Is(err, dnsproxy.ErrClaimed) {
			t.Error("a claim that failed holds")
		}
	})
	t.Run("what is no address", func(t *testing.T) {
		v := openVIPs(t, small)
		if _, err := v.Claim("user.example.com", netip.Addr{}); err == nil {
			t.Error("the zero address was accepted")
		}
	})
}

// TestAdopt: of two statuses with one address the one that is adopted first, the older, stays.
func TestAdopt(t *testing.T) {
	v := openVIPs(t, dnsproxy.VIPConfig{})
	vip := dnsproxy.VIP{IPv4: netip.MustParseAddr("240.240.0.1"), IPv6: netip.MustParseAddr("2001:2::1")}
	if err := v.Adopt("older.example.com", vip); err != nil {
		t.Fatal(err)
	}
	var taken *dnsproxy.TakenError
	if err := v.Adopt("younger.example.com", vip); !errors.As(err, &taken) || taken.Owner != "older.example.com" || taken.Addr != vip.IPv4 {
		t.Errorf("adopting it for another host: %v, want a *TakenError", err)
	}
	if got := allocate(t, v, "older.example.com")[0]; got != vip {
		t.Errorf("older has %v, want %v", got, vip)
	}
	if err := v.Adopt("older.example.com", vip); err != nil {
		t.Errorf("adopting it again: %v", err)
	}
	other := dnsproxy.VIP{IPv4: netip.MustParseAddr("240.240.0.2"), IPv6: netip.MustParseAddr("2001:2::2")}
	if err := v.Adopt("older.example.com", other); !errors.As(err, &taken) {
		t.Errorf("adopting another one: %v, want a *TakenError: nothing that is allocated moves", err)
	}
	if err := v.Adopt("half.example.com", dnsproxy.VIP{IPv4: other.IPv4}); err == nil {
		t.Error("half a VIP was adopted")
	}
	if err := v.Adopt("swapped.example.com", dnsproxy.VIP{IPv4: other.IPv6, IPv6: other.IPv4}); err == nil {
		t.Error("swapped families were adopted")
	}
}

func TestVIPConfigErrors(t *testing.T) {
	tests := map[string]dnsproxy.VIPConfig{
		"IPv6 as IPv4":  {IPv4: netip.MustParsePrefix("2001:2::/48")},
		"IPv4 as IPv6":  {IPv6: netip.MustParsePrefix("240.240.0.0/16")},
		"one address":   {IPv4: netip.MustParsePrefix("240.240.0.0/32")},
		"two addresses": {IPv6: netip.MustParsePrefix("2001:2::/127")},
	}
	for name, cfg := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := dnsproxy.OpenVIPs(cfg); err == nil {
				t.Error("accepted")
			}
		})
	}
	v := openVIPs(t, dnsproxy.VIPConfig{})
	for _, host := range []string{"", ".", "a..b", "no host", "*"} {
		if _, err := v.Allocate(host); err == nil {
			t.Errorf("host %q was accepted", host)
		}
	}
}

// TestVIPsAgainstOracle runs random operations and checks after each, the slow
// way, what must hold, and that a restart changes nothing.
func TestVIPsAgainstOracle(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newVIPOracle(t, seed)
				for range 300 {
					o.step()
					o.check()
				}
			})
		})
	}
}

// vipOracle remembers everything that was handed out.
type vipOracle struct {
	t      *testing.T
	rnd    *rand.Rand
	cfg    dnsproxy.VIPConfig
	vips   *dnsproxy.VIPs
	has    map[string]dnsproxy.VIP // allocated and not given back
	freed  map[netip.Addr]freed
	claims map[string][]netip.Addr
}

type freed struct {
	host string
	at   time.Time
}

func newVIPOracle(t *testing.T, seed uint64) *vipOracle {
	cfg := dnsproxy.VIPConfig{
		IPv4:       netip.MustParsePrefix("10.9.8.0/27"),
		IPv6:       netip.MustParsePrefix("fd00::/123"),
		Quarantine: time.Hour,
		Store:      new(dnsproxy.MemoryStore),
	}
	return &vipOracle{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), cfg: cfg, vips: openVIPs(t, cfg),
		has: map[string]dnsproxy.VIP{}, freed: map[netip.Addr]freed{}, claims: map[string][]netip.Addr{},
	}
}

func (o *vipOracle) host() string { return fmt.Sprintf("host-%d.example.com", o.rnd.IntN(45)) }

func (o *vipOracle) step() {
	switch o.rnd.IntN(10) {
	case 0, 1, 2, 3, 4:
		o.allocate(o.host())
	case 5, 6:
		o.release(o.host())
	case 7:
		o.claim(o.host())
	case 8:
		time.Sleep(time.Duration(o.rnd.IntN(40)) * time.Minute)
	case 9:
		o.restart()
	}
}

func (o *vipOracle) allocate(host string) {
	got, err := o.vips.Allocate(host)
	var exhausted *dnsproxy.ExhaustedError
	switch old, had := o.has[host]; {
	case len(o.claims[host]) > 0:
		if !errors.Is(err, dnsproxy.ErrClaimed) {
			o.t.Fatalf("%s: %v, want ErrClaimed", host, err)
		}
	case errors.As(err, &exhausted):
		if had || o.room(host, exhausted.Prefix) {
			o.t.Fatalf("%s: %v, but there is room", host, err)
		}
	case err != nil:
		o.t.Fatal(err)
	case had && got[0] != old:
		o.t.Fatalf("%s moved from %v to %v", host, old, got[0])
	default:
		o.give(host, got[0])
	}
}

// give notes that host was given vip, and fails if somebody else may still use it.
func (o *vipOracle) give(host string, vip dnsproxy.VIP) {
	for _, a := range []netip.Addr{vip.IPv4, vip.IPv6} {
		if f, ok := o.freed[a]; ok && f.host != host && time.Since(f.at) < o.cfg.Quarantine {
			o.t.Fatalf("%s got %s, which is in quarantine for %s", host, a, f.host)
		}
		delete(o.freed, a)
	}
	o.has[host] = vip
}

// room says whether prefix has an address that nobody uses.
func (o *vipOracle) room(host string, prefix netip.Prefix) bool {
	for a := prefix.Addr().Next(); prefix.Contains(a); a = a.Next() {
		if a.Is4() && (a.As4()[3] == 255 || !prefix.Contains(a.Next())) {
			continue
		}
		f, quarantined := o.freed[a]
		quarantined = quarantined && time.Since(f.at) < o.cfg.Quarantine && f.host != host
		if !quarantined && !o.used(a) {
			return true
		}
	}
	return false
}

func (o *vipOracle) used(a netip.Addr) bool {
	for _, vip := range o.has {
		if vip.IPv4 == a || vip.IPv6 == a {
			return true
		}
	}
	for _, claimed := range o.claims {
		if slices.Contains(claimed, a) {
			return true
		}
	}
	return false
}

func (o *vipOracle) release(host string) {
	if err := o.vips.Release(host); err != nil {
		o.t.Fatal(err)
	}
	o.gone(host)
	delete(o.claims, host)
}

func (o *vipOracle) gone(host string) {
	if vip, ok := o.has[host]; ok {
		o.freed[vip.IPv4] = freed{host, time.Now()}
		o.freed[vip.IPv6] = freed{host, time.Now()}
		delete(o.has, host)
	}
}

func (o *vipOracle) claim(host string) {
	a := o.cfg.IPv4.Addr().Next()
	for range o.rnd.IntN(20) {
		a = a.Next()
	}
	moves, err := o.vips.Claim(host, a)
	var exhausted *dnsproxy.ExhaustedError
	if errors.As(err, &exhausted) {
		return // check sees that nothing has changed
	} else if err != nil {
		o.t.Fatal(err)
	}
	o.gone(host)
	o.claims[host] = []netip.Addr{a}
	delete(o.freed, a)
	for _, m := range moves {
		if o.has[m.Host] != m.From || m.From.IPv4 != a || m.From.IPv6 != m.To.IPv6 {
			o.t.Fatalf("claim of %s: move %+v, but it had %v", a, m, o.has[m.Host])
		}
		o.give(m.Host, m.To)
	}
}

func (o *vipOracle) restart() {
	o.vips = openVIPs(o.t, o.cfg)
	for host, claimed := range o.claims {
		if moves, err := o.vips.Claim(host, claimed...); err != nil || len(moves) > 0 {
			o.t.Fatalf("after a restart: %v, %v", moves, err)
		}
	}
}

// check holds the VIPs to what is remembered: nobody has moved, nobody shares.
func (o *vipOracle) check() {
	owner := map[netip.Addr]string{}
	for host, want := range o.has {
		if got, ok := o.vips.Lookup(host); !ok || got != want {
			o.t.Fatalf("%s has %v, want %v", host, got, want)
		}
		for _, a := range []netip.Addr{want.IPv4, want.IPv6} {
			if other, taken := owner[a]; taken {
				o.t.Fatalf("%s and %s share %s", host, other, a)
			}
			owner[a] = host
		}
	}
	for host, claimed := range o.claims {
		for _, a := range claimed {
			if other, taken := owner[a]; taken {
				o.t.Fatalf("%s was allocated %s, which the user gave to %s", other, a, host)
			}
		}
	}
}
