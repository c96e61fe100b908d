package dnsproxy_test

import (
	"errors"
	"fmt"
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
