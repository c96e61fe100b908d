package dnsproxy_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// meshEntries are hosts of every kind.
func meshEntries() []dnsproxy.Entry {
	return []dnsproxy.Entry{
		{Host: "reviews.app.svc.cluster.local", Namespace: "app", Registry: dnsproxy.Kubernetes, Addresses: addrs("10.0.0.10"),
			Ports: []dnsproxy.Port{{Name: "http", Number: 80}, {Name: "dns", Protocol: "UDP", Number: 53}}},
		{Host: "db.app.svc.cluster.local", Namespace: "app", Registry: dnsproxy.Kubernetes, Headless: true,
			Ports: []dnsproxy.Port{{Name: "mysql", Number: 3306}},
			Pods: []dnsproxy.Pod{
				{Name: "db-0", Addresses: addrs("10.1.0.13", "fd00::13")},
				{Addresses: addrs("10.1.0.14")},
			}},
		{Host: "reviews.app.svc.clusterset.local", Namespace: "app", Registry: dnsproxy.Kubernetes, Addresses: addrs("10.0.0.20")},
		{Host: "api.example.com", Namespace: "app", Addresses: addrs("240.240.1.1", "2001:2::1")},
		{Host: "hidden.example.com", Namespace: "vault", Addresses: addrs("240.240.1.2"), Private: true},
		{Host: "*.example.org", Addresses: addrs("240.240.1.3")},
		{Host: "alias.example.net", Addresses: addrs("240.240.1.1")},
	}
}

func TestResolve(t *testing.T) {
	r := &dnsproxy.Resolver{
		Names:   namesOf(t, meshEntries()...),
		Shuffle: inOrder,
		Zones:   []string{"clusterset.local", "deep.clusterset.local."},
	}
	app := dnsproxy.View{Namespace: "app"}
	tests := []struct {
		name   string
		view   dnsproxy.View
		host   string
		qtype  uint16
		known  bool
		rcode  int
		answer []string
		ns     string // owner of the SOA
		extra  []string
	}{
		{name: "the client's spelling", view: app, host: "ReViews.APP.svc.cluster.local.", qtype: dns.TypeA, known: true, answer: []string{"ReViews.APP.svc.cluster.local. A 10.0.0.10"}},
		{name: "the client's spelling, search domain", view: app, host: "API.example.COM.app.SVC.cluster.local.", qtype: dns.TypeA, known: true, answer: []string{
			"API.example.COM.app.SVC.cluster.local. CNAME API.example.COM.", "API.example.COM. A 240.240.1.1"}},
		{name: "clusterset.local has no short name", view: dnsproxy.View{Namespace: "app", ClusterDomain: "clusterset.local"}, host: "reviews.", qtype: dns.TypeA},
		{name: "another cluster domain", view: dnsproxy.View{Namespace: "app", ClusterDomain: "cluster.west"}, host: "reviews.app.", qtype: dns.TypeA},
		{name: "search domains of the pod", view: dnsproxy.View{Search: []string{"corp.example.", "Example.Com"}}, host: "api.example.com.", qtype: dns.TypeA, known: true, answer: []string{"api.example.com. A 240.240.1.1"}},
		{name: "search domain of the pod", view: dnsproxy.View{Search: []string{"corp.example."}}, host: "api.example.com.corp.example.", qtype: dns.TypeA, known: true, answer: []string{
			"api.example.com.corp.example. CNAME api.example.com.", "api.example.com. A 240.240.1.1"}},
		{name: "no search domains", view: dnsproxy.View{Search: []string{}}, host: "api.example.com.svc.cluster.local.", qtype: dns.TypeA},
		{name: "private, same namespace", view: dnsproxy.View{Namespace: "vault"}, host: "hidden.example.com.", qtype: dns.TypeA, known: true, answer: []string{"hidden.example.com. A 240.240.1.2"}},
		{name: "private, other namespace", view: app, host: "hidden.example.com.", qtype: dns.TypeA},
		{name: "the name of a wildcard itself", view: app, host: "example.org.", qtype: dns.TypeA},
		{name: "wildcard, deep", view: app, host: "a.b.c.example.org.", qtype: dns.TypeA, known: true, answer: []string{"a.b.c.example.org. A 240.240.1.3"}},
		{name: "literal wildcard", view: app, host: "*.example.org.", qtype: dns.TypeA, known: true, answer: []string{"*.example.org. A 240.240.1.3"}},
		{name: "root", view: app, host: ".", qtype: dns.TypeA},
		{name: "escapes", view: app, host: `reviews\.app.svc.cluster.local.`, qtype: dns.TypeA},
		{name: "NODATA of a Kubernetes host", view: app, host: "reviews.", qtype: dns.TypeAAAA, known: true, ns: "reviews."},
		{name: "NODATA within the cluster domain", view: app, host: "reviews.app.svc.cluster.local.", qtype: dns.TypeAAAA, known: true, ns: "cluster.local."},
		{name: "NODATA of an external host", view: app, host: "alias.example.net.", qtype: dns.TypeAAAA, known: true, ns: "alias.example.net."},

		{name: "HTTPS", view: app, host: "api.example.com.", qtype: dns.TypeHTTPS, known: true, ns: "api.example.com."},
		{name: "HTTPS of a port", view: app, host: "_8443._https.api.example.com.", qtype: dns.TypeHTTPS, known: true, ns: "_8443._https.api.example.com."},
		{name: "SVCB", view: app, host: "reviews.app.svc.cluster.local.", qtype: dns.TypeSVCB, known: true, ns: "cluster.local."},
		{name: "HTTPS of an unknown host", view: app, host: "www.example.com.", qtype: dns.TypeHTTPS},
		{name: "ANY", view: app, host: "api.example.com.", qtype: dns.TypeANY, known: true, answer: []string{`api.example.com. HINFO "RFC8482" ""`}},
		{name: "ANY of an unknown host", view: app, host: "www.example.com.", qtype: dns.TypeANY},
		{name: "TXT", view: app, host: "api.example.com.", qtype: dns.TypeTXT},

		{name: "PTR of a service", view: app, host: "10.0.0.10.in-addr.arpa.", qtype: dns.TypePTR, known: true, answer: []string{"10.0.0.10.in-addr.arpa. PTR reviews.app.svc.cluster.local."}},
		{name: "PTR of a pod", view: app, host: "13.0.1.10.IN-ADDR.arpa.", qtype: dns.TypePTR, known: true, answer: []string{"13.0.1.10.IN-ADDR.arpa. PTR db-0.db.app.svc.cluster.local."}},
		{name: "PTR, IPv6", view: app, host: reverse(t, "2001:2::1"), qtype: dns.TypePTR, known: true, answer: []string{reverse(t, "2001:2::1") + " PTR api.example.com."}},
		{name: "PTR of a shared address", view: app, host: reverse(t, "240.240.1.1"), qtype: dns.TypePTR, known: true, answer: []string{
			"1.1.240.240.in-addr.arpa. PTR alias.example.net.", "1.1.240.240.in-addr.arpa. PTR api.example.com."}},
		{name: "PTR of a private host", view: app, host: reverse(t, "240.240.1.2"), qtype: dns.TypePTR},
		{name: "PTR of a wildcard", view: app, host: reverse(t, "240.240.1.3"), qtype: dns.TypePTR},
		{name: "PTR of somebody else", view: app, host: "1.2.0.192.in-addr.arpa.", qtype: dns.TypePTR},

		{name: "SRV", view: app, host: "_http._tcp.reviews.app.svc.cluster.local.", qtype: dns.TypeSRV, known: true,
			answer: []string{"_http._tcp.reviews.app.svc.cluster.local. SRV 0 100 80 reviews.app.svc.cluster.local."},
			extra:  []string{"reviews.app.svc.cluster.local. A 10.0.0.10"}},
		{name: "SRV, UDP, short name", view: app, host: "_dns._udp.reviews.", qtype: dns.TypeSRV, known: true,
			answer: []string{"_dns._udp.reviews. SRV 0 100 53 reviews.app.svc.cluster.local."},
			extra:  []string{"reviews.app.svc.cluster.local. A 10.0.0.10"}},
		{name: "SRV of all ports", view: app, host: "reviews.app.", qtype: dns.TypeSRV, known: true,
			answer: []string{"reviews.app. SRV 0 100 80 reviews.app.svc.cluster.local.", "reviews.app. SRV 0 100 53 reviews.app.svc.cluster.local."},
			extra:  []string{"reviews.app.svc.cluster.local. A 10.0.0.10"}},
		{name: "SRV of a headless service", view: app, host: "_mysql._tcp.db.app.svc.", qtype: dns.TypeSRV, known: true,
			answer: []string{
				"_mysql._tcp.db.app.svc. SRV 0 50 3306 db-0.db.app.svc.cluster.local.",
				"_mysql._tcp.db.app.svc. SRV 0 50 3306 10-1-0-14.db.app.svc.cluster.local.",
			},
			extra: []string{
				"db-0.db.app.svc.cluster.local. A 10.1.0.13", "db-0.db.app.svc.cluster.local. AAAA fd00::13",
				"10-1-0-14.db.app.svc.cluster.local. A 10.1.0.14",
			}},
		{name: "SRV of an unknown port", view: app, host: "_grpc._tcp.reviews.app.svc.cluster.local.", qtype: dns.TypeSRV, known: true, rcode: dns.RcodeNameError, ns: "cluster.local."},
		{name: "SRV without known ports", view: app, host: "_http._tcp.api.example.com.", qtype: dns.TypeSRV},
		{name: "pod without a name", view: app, host: "10-1-0-14.db.app.svc.cluster.local.", qtype: dns.TypeA, known: true, answer: []string{"10-1-0-14.db.app.svc.cluster.local. A 10.1.0.14"}},

		{name: "unknown name of a zone of ours", view: app, host: "nobody.app.svc.clusterset.local.", qtype: dns.TypeA, known: true, rcode: dns.RcodeNameError, ns: "clusterset.local."},
		{name: "the most specific zone", view: app, host: "a.deep.clusterset.local.", qtype: dns.TypeA, known: true, rcode: dns.RcodeNameError, ns: "deep.clusterset.local."},
		{name: "other type in a zone of ours", view: app, host: "reviews.app.svc.clusterset.local.", qtype: dns.TypeTXT, known: true, ns: "clusterset.local."},
		{name: "escaped name in a zone of ours", view: app, host: `a\032b.svc.clusterset.local.`, qtype: dns.TypeA, known: true, rcode: dns.RcodeNameError, ns: "clusterset.local."},
		{name: "an escaped dot ends no label", view: app, host: `x\.clusterset.local.`, qtype: dns.TypeA},
		{name: "zones are whole labels", view: app, host: "my-clusterset.local.", qtype: dns.TypeA},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, known := r.Resolve(tt.view, dns.Question{Name: tt.host, Qtype: tt.qtype, Qclass: dns.ClassINET})
			if known != tt.known || a.Rcode != tt.rcode {
				t.Errorf("known %v, rcode %s, want %v, %s", known, dns.RcodeToString[a.Rcode], tt.known, dns.RcodeToString[tt.rcode])
			}
			if diff := cmp.Diff(append([]string{}, tt.answer...), lines(a.Answer)); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(append([]string{}, tt.extra...), lines(a.Extra)); diff != "" {
				t.Errorf("additional records (-want +got):\n%s", diff)
			}
			soa := ""
			if len(a.Ns) == 1 {
				soa = a.Ns[0].Header().Name
			}
			if soa != tt.ns {
				t.Errorf("SOA of %q, want %q", soa, tt.ns)
			}
		})
	}
}

func reverse(t *testing.T, addr string) string {
	t.Helper()
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestResolverTTLs(t *testing.T) {
	r := &dnsproxy.Resolver{Names: namesOf(t, meshEntries()...), TTL: time.Minute, NegativeTTL: 7 * time.Second}
	a, _ := r.Resolve(dnsproxy.View{}, dns.Question{Name: "api.example.com.", Qtype: dns.TypeA, Qclass: dns.ClassINET})
	if got := a.Answer[0].Header().Ttl; got != 60 {
		t.Errorf("TTL is %d, want 60", got)
	}
	a, _ = r.Resolve(dnsproxy.View{}, dns.Question{Name: "alias.example.net.", Qtype: dns.TypeAAAA, Qclass: dns.ClassINET})
	if soa := a.Ns[0].(*dns.SOA); soa.Hdr.Ttl != 7 || soa.Minttl != 7 {
		t.Errorf("negative TTLs are %d and %d, want 7", soa.Hdr.Ttl, soa.Minttl)
	}
}

// TestResponsesDecode packs and unpacks every kind of answer: what is not valid
// on the wire cannot be sent.
func TestResponsesDecode(t *testing.T) {
	long := strings.Repeat("a123456789.", 22) + "example"
	names := namesOf(t, append(meshEntries(), dnsproxy.Entry{Host: long, Addresses: addrs("192.0.2.1")})...)
	r := &dnsproxy.Resolver{Names: names, Zones: []string{"."}}
	for _, host := range []string{"reviews.app.", long + ".", "_http._tcp.reviews.app.", "nobody."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeHTTPS, dns.TypeTXT} {
			a, _ := r.Resolve(dnsproxy.View{}, dns.Question{Name: host, Qtype: qtype, Qclass: dns.ClassINET})
			m := &dns.Msg{Answer: a.Answer, Ns: a.Ns, Extra: a.Extra}
			packed, err := m.Pack()
			if err == nil {
				err = new(dns.Msg).Unpack(packed)
			}
			if err != nil {
				t.Errorf("%s %s: %v", host, dns.Type(qtype), err)
			}
		}
	}
}

// TestShuffle: every address comes first about as often.
func TestShuffle(t *testing.T) {
	const n = 4000
	all := addrs("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
	r := &dnsproxy.Resolver{Names: namesOf(t, dnsproxy.Entry{Host: "a.example.com", Addresses: all})}
	first := map[string]int{}
	for range n {
		a, _ := r.Resolve(dnsproxy.View{}, dns.Question{Name: "a.example.com.", Qtype: dns.TypeA, Qclass: dns.ClassINET})
		got := lines(a.Answer)
		first[got[0]]++
		slices.Sort(got)
		if len(slices.Compact(got)) != len(all) {
			t.Fatalf("answers are %v", got)
		}
	}
	for line, count := range first {
		if count < n/4-n/10 || count > n/4+n/10 {
			t.Errorf("%s came first %d times of %d", line, count, n)
		}
	}
}

func TestLookup(t *testing.T) {
	table := namesOf(t, meshEntries()...).Load()
	e, ok := table.Lookup(dnsproxy.View{Namespace: "app"}, "Reviews")
	if !ok || e.Host != "reviews.app.svc.cluster.local" || !slices.Equal(e.Addresses, []netip.Addr{netip.MustParseAddr("10.0.0.10")}) {
		t.Errorf("reviews is %v, %v", e, ok)
	}
	if _, ok := table.Lookup(dnsproxy.View{}, "reviews"); ok {
		t.Error("without a namespace, reviews is known")
	}
	if _, ok := (*dnsproxy.NameTable)(nil).Lookup(dnsproxy.View{}, "reviews"); ok {
		t.Error("a nil table knows reviews")
	}
}

// TestLookupAllocates nothing: tables are asked for every packet.
func TestLookupAllocates(t *testing.T) {
	table := namesOf(t, meshEntries()...).Load()
	v := dnsproxy.View{Namespace: "app"}
	for _, name := range []string{"reviews.app.svc.cluster.local", "reviews.app", "reviews", "api.example.com.app.svc.cluster.local", "x.example.org", "www.unknown.test"} {
		if n := testing.AllocsPerRun(100, func() { table.Lookup(v, name) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}
