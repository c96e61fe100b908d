package istiod

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// entry is a ServiceEntry for a host, with addresses if the user gives any.
func entry(name string, addresses ...string) string {
	return fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s, namespace: app}
spec:
  hosts: [%s.example.com]
  addresses: [%s]
  resolution: STATIC
  ports: [{number: 80, name: http}]
---
`, name, name, strings.Join(addresses, ", "))
}

// addresses are those of a host on the network of east, as a client knows them.
func (c *client) addresses(host string) string {
	for s := range c.State.Index().ServicesByHostname(host) {
		var all []string
		for _, a := range s.Addresses {
			if a.Network == "east-network" {
				all = append(all, a.Prefix.Addr().String())
			}
		}
		return strings.Join(all, " ")
	}
	return "no service"
}

func (w *world) lease(host string) dnsproxy.Lease {
	all := w.server.clusters.vips.pool.Leases()
	i := slices.IndexFunc(all, func(l dnsproxy.Lease) bool { return l.Host == host })
	if i < 0 {
		return dnsproxy.Lease{}
	}
	return all[i]
}

func TestUserAddressesWin(t *testing.T) {
	w := newWorld(t).serve()
	proxy := w.ztunnel()
	w.awaitView(proxy, eastView)
	payments := proxy.addresses("payments.example.com")
	vip, _, _ := strings.Cut(payments, " ")
	ratings := proxy.addresses(host("ratings"))
	ratingsVIP, _, _ := strings.Cut(ratings, " ")
	for _, addrs := range []string{payments, ratings} {
		if !strings.HasPrefix(addrs, "240.240.") || !strings.Contains(addrs, " 2001:2::") {
			t.Fatalf("virtual addresses: %s", addrs)
		}
	}

	// A user claims what we gave to a ServiceEntry, and what we gave to a
	// service of the other network: both move, and go on.
	w.write("east", "user.yaml", entry("one", vip)+entry("two", ratingsVIP))
	w.await("claimed", func() bool {
		return proxy.addresses("one.example.com") == vip && proxy.addresses("two.example.com") == ratingsVIP
	})
	w.await("moved", func() bool {
		p, r := proxy.addresses("payments.example.com"), proxy.addresses(host("ratings"))
		return p != payments && strings.HasPrefix(p, "240.240.") && r != ratings && strings.HasPrefix(r, "240.240.")
	})
	w.awaitView(proxy, strings.Replace(eastView, "payments", "one[] payments", 1)+" two[]")

	// Who has an address keeps it when the user goes.
	moved := proxy.addresses("payments.example.com")
	w.write("east", "user.yaml", entry("two", ratingsVIP))
	w.await("gone", func() bool { return proxy.addresses("one.example.com") == "no service" })
	if got := proxy.addresses("payments.example.com"); got != moved {
		t.Errorf("payments moved from %s to %s", moved, got)
	}
}

// At the start, too, whatever was given before.
func TestUserAddressesWinAtStart(t *testing.T) {
	w := newWorld(t).serve()
	vip := w.lease("payments.example.com").VIP.IPv4.String()
	next := newWorld(t)
	next.write("east", "user.yaml", entry("one", vip))
	next.serve()
	proxy := next.ztunnel()
	next.await("services", func() bool { return proxy.addresses("one.example.com") == vip })
	if got := proxy.addresses("payments.example.com"); strings.Contains(got, vip) || !strings.HasPrefix(got, "240.240.") {
		t.Errorf("payments has %s, the user gave %s to another", got, vip)
	}
}

// What an earlier control plane wrote into a status belongs to its host.
func TestStatusAddressesAreKept(t *testing.T) {
	vip := func() string {
		return newWorld(t).serve().lease("payments.example.com").VIP.IPv4.String()
	}()
	w := newWorld(t)
	w.write("east", "status.yaml", strings.TrimSuffix(entry("old"), "---\n")+"status: {addresses: [{host: old.example.com, value: "+vip+"}]}\n")
	w.serve()
	proxy := w.ztunnel()
	w.await("services", func() bool { return proxy.addresses("old.example.com") == vip })
	if got := proxy.addresses("payments.example.com"); strings.Contains(got, vip) || !strings.HasPrefix(got, "240.240.") {
		t.Errorf("payments has %s, which another host had before: %s", got, vip)
	}
}

// The hosts that nobody needs an address for any more give theirs back.
func TestAddressesAreReleased(t *testing.T) {
	w := newWorld(t).serve()
	proxy := w.ztunnel()
	w.awaitView(proxy, eastView)
	for _, h := range []string{"payments.example.com", host("ratings")} {
		if l := w.lease(h); !l.VIP.IPv4.IsValid() || !l.Released.IsZero() {
			t.Errorf("%s has no address: %+v", h, l)
		}
	}
	before := proxy.addresses("payments.example.com")
	if err := os.Remove(filepath.Join(w.dirs["east"], "external.yaml")); err != nil {
		t.Fatal(err)
	}
	w.await("payments released", func() bool { return !w.lease("payments.example.com").Released.IsZero() })
	w.edit("west", "apps.yaml", "name: ratings,", "name: stars,")
	w.await("ratings released", func() bool { return !w.lease(host("ratings")).Released.IsZero() })

	data, err := os.ReadFile("testdata/east/external.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w.write("east", "external.yaml", string(data))
	w.await("payments is back", func() bool { return proxy.addresses("payments.example.com") == before })
}

func TestAddressesOutliveTheServer(t *testing.T) {
	store := func(path string) dnsproxy.VIPConfig {
		return dnsproxy.VIPConfig{Store: &dnsproxy.FileStore{Path: path}}
	}
	path := filepath.Join(t.TempDir(), "vips.json")
	w := newWorld(t)
	w.config.VIPs = store(path)
	// Taken first, so that payments has to go elsewhere.
	first := newWorld(t).serve().lease("payments.example.com").VIP.IPv4
	w.write("east", "user.yaml", entry("one", first.String()))
	w.serve()
	kept := w.lease("payments.example.com").VIP
	_ = w.stop()

	again := newWorld(t)
	again.config.VIPs = store(path)
	again.serve()
	if got := again.lease("payments.example.com").VIP; got != kept || got.IPv4 == first {
		t.Errorf("payments has %v, and had %v", got, kept)
	}
}

// Two users of a host share its addresses; the last one gives them back.
func TestVIPUsers(t *testing.T) {
	v, err := openVIPs(dnsproxy.VIPConfig{}, newWorld(t).config.Logger)
	if err != nil {
		t.Fatal(err)
	}
	released := func(host string) bool {
		vip, ok := v.pool.Lookup(host)
		return !ok || vip == dnsproxy.VIP{}
	}
	a, b := v.as("a"), v.as("b")
	one, err := a.Assign("Host.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if two, err := b.Assign("host.example.com."); err != nil || !slices.Equal(one, two) {
		t.Errorf("b got %v, %v; a got %v", two, err, one)
	}
	a.Release("host.example.com")
	a.Release("host.example.com")
	if released("host.example.com") {
		t.Error("released while b needs it")
	}
	b.keep([]string{"other.example.com"})
	if !released("host.example.com") {
		t.Error("kept, though nobody needs it")
	}

	// A host whose user gave it an address of the pool has that, for all.
	claim := netip.MustParseAddr("240.240.7.7")
	if moved, err := v.claim(claims{"host.example.com": {claim}}); err != nil || len(moved) > 0 {
		t.Errorf("moved %v, %v", moved, err)
	}
	if got, err := a.Assign("host.example.com"); err != nil || !slices.Equal(got, []netip.Addr{claim}) {
		t.Errorf("got %v, %v, want what the user gave", got, err)
	}
	a.Release("host.example.com")
	if _, err := a.Assign("host.example.com"); err != nil {
		t.Errorf("the claim is gone: %v", err)
	}
	if moved, err := v.claim(nil); err != nil || !slices.Equal(moved, []string{"host.example.com"}) {
		t.Errorf("moved %v, %v, want the host that loses its claim", moved, err)
	}
}
