package ztunnel

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
)

// resolve asks the DNS port of a pod, as a program in it does. It returns the
// addresses, or the rcode if there is none.
func (w *world) resolve(pod, network, name string, kind uint16) string {
	w.Helper()
	conn, err := w.network.Pod(addr(pod)).DialContext(w.ctx, network, ":15053")
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	c := &dns.Conn{Conn: conn}
	if err := c.WriteMsg(q); err != nil {
		w.Fatal(err)
	}
	resp, err := c.ReadMsg()
	if err != nil {
		w.Fatal(err)
	}
	var got []string
	for _, rr := range resp.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			got = append(got, rr.A.String())
		case *dns.AAAA:
			got = append(got, rr.AAAA.String())
		}
	}
	if len(got) == 0 {
		return dns.RcodeToString[resp.Rcode]
	}
	slices.Sort(got)
	return strings.Join(got, " ")
}

func inNS(namespace string) func(*endpoints.Workload) {
	return func(w *endpoints.Workload) { w.Namespace, w.UID = namespace, "east//Pod/"+namespace+"/"+w.Name }
}

// TestDNS asks over UDP and TCP, from pods of two namespaces.
func TestDNS(t *testing.T) {
	external := func(host, vip string, change ...func(*endpoints.Service)) endpoints.Resource {
		return service(host, vip, change...)
	}
	elsewhere := func(s *endpoints.Service) {
		s.Addresses = []endpoints.NetworkAddress{endpoints.HostAddress(there, addr("10.96.0.9"))}
	}
	w := newWorld(t, client(), pod1("stranger", "10.1.0.21", inNS("other")),
		service(reviews, "10.96.0.1", func(s *endpoints.Service) {
			s.Addresses = append(s.Addresses, endpoints.HostAddress(here, addr("2001:db8::1")), endpoints.HostAddress(there, addr("10.96.0.8")))
		}),
		service("away.app.svc.cluster.local", "", elsewhere),
		service("db.app.svc.cluster.local", ""),
		pod2("db-0", "10.1.0.30", backs("db.app.svc.cluster.local", 5432), func(w *endpoints.Workload) { w.Addresses = append(w.Addresses, addr("2001:db8::30")) }),
		pod2("db-1", "10.1.0.31", backs("db.app.svc.cluster.local", 5432)),
		pod2("db-2", "10.1.0.32", backs("db.app.svc.cluster.local", 5432), func(w *endpoints.Workload) { w.Health = endpoints.Unhealthy }),
		pod2("db-3", "10.1.0.33", backs("db.app.svc.cluster.local", 5432), network(there)),
		external("api.example.com", "240.240.0.1"), external("*.wild.example.com", "240.240.0.2"),
		external("private.example.com", "240.240.0.3", func(s *endpoints.Service) { s.Visibility = endpoints.VisibleNamespace }),
	)
	tests := []struct {
		pod, name string
		kind      uint16
		want      string
	}{
		{clientIP, "reviews", dns.TypeA, "10.96.0.1"},
		{clientIP, "reviews", dns.TypeAAAA, "2001:db8::1"},
		{clientIP, "reviews.app", dns.TypeA, "10.96.0.1"},
		{clientIP, reviews, dns.TypeA, "10.96.0.1"},
		{"10.1.0.21", "reviews", dns.TypeA, "REFUSED"},
		{"10.1.0.21", "reviews.app", dns.TypeA, "10.96.0.1"},
		{clientIP, "away.app", dns.TypeA, "NOERROR"},
		{clientIP, "db.app", dns.TypeA, "10.1.0.30 10.1.0.31"},
		{clientIP, "db.app", dns.TypeAAAA, "2001:db8::30"},
		{clientIP, "api.example.com", dns.TypeA, "240.240.0.1"},
		{clientIP, "a.b.wild.example.com", dns.TypeA, "240.240.0.2"},
		{clientIP, "private.example.com", dns.TypeA, "240.240.0.3"},
		{"10.1.0.21", "private.example.com", dns.TypeA, "REFUSED"},
		{clientIP, "www.example.org", dns.TypeA, "REFUSED"},
	}
	for _, tt := range tests {
		for _, network := range []string{"udp", "tcp"} {
			if got := w.resolve(tt.pod, network, tt.name, tt.kind); got != tt.want {
				t.Errorf("%s of %s asks for %s %s: %s, want %s", network, tt.pod, tt.name, dns.TypeToString[tt.kind], got, tt.want)
			}
		}
	}
}

// TestNamesFollow adds, changes and removes names, one of which cannot be: it
// keeps out no other, and where it was good before, stays so.
func TestNamesFollow(t *testing.T) {
	w := newWorld(t, client(), service(reviews, "10.96.0.1"), service("old.app.svc.cluster.local", "10.96.0.2"))
	bad := strings.Repeat("a", 64) + ".example.com"
	w.send(addressUpdate(w, []string{"app/old.app.svc.cluster.local"},
		service(bad, "10.96.0.3"), service(reviews, "10.96.0.4"), service("new.app.svc.cluster.local", "10.96.0.5")))
	w.await(func() bool { return !w.named("old.app.svc.cluster.local") })
	for name, want := range map[string]string{"reviews": "10.96.0.4", "new": "10.96.0.5", "old": "REFUSED"} {
		if got := w.resolve(clientIP, "udp", name, dns.TypeA); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	w.remove("app/"+bad, "app/new.app.svc.cluster.local")
	w.await(func() bool { return !w.named("new.app.svc.cluster.local") })
	if n := w.proxy.names.Load().Len(); n != 1 {
		t.Errorf("%d names are left of 1", n)
	}
}

// named reports whether the name table has a host of namespace app.
func (w *world) named(host string) bool {
	_, ok := w.proxy.names.Load().Get(dnsproxy.Key{Namespace: "app", Host: host})
	return ok
}

// TestHeadlessFollows its pods.
func TestHeadlessFollows(t *testing.T) {
	const host = "db.app.svc.cluster.local"
	w := newWorld(t, client(), service(host, ""))
	if got := w.resolve(clientIP, "udp", "db", dns.TypeA); got != "NOERROR" {
		t.Errorf("without pods: %s", got)
	}
	before := w.proxy.names.Load()
	w.apply(pod2("db-0", "10.1.0.30", backs(host, 5432)))
	w.await(func() bool { return w.proxy.names.Load() != before })
	if got := w.resolve(clientIP, "udp", "db", dns.TypeA); got != "10.1.0.30" {
		t.Errorf("with a pod: %s", got)
	}
}

// silent is an upstream server that does not answer.
type silent struct{ asked chan struct{} }

func (s silent) Exchange(ctx context.Context, _ *dns.Msg) (*dns.Msg, error) {
	s.asked <- struct{}{}
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// TestSilentUpstream does not hold up a pod that goes: the test ends only when
// the exchange has.
func TestSilentUpstream(t *testing.T) {
	upstream := silent{make(chan struct{}, 1)}
	w := newClosedWorld(t, Config{Upstream: upstream})
	w.apply(client())
	w.state.Complete(wds.AddressTypeURL)
	w.state.Complete(wds.AuthorizationTypeURL)
	w.awaitReady()
	conn, err := w.network.Pod(netip.MustParseAddr(clientIP)).DialContext(t.Context(), "tcp", ":15053")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := &dns.Conn{Conn: conn}
	if err := c.WriteMsg(new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	<-upstream.asked
	w.remove("east//Pod/app/client")
	w.await(func() bool { return !w.listens(clientIP + ":15053") })
}
