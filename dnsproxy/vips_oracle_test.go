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
