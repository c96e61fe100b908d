package dnsproxy_test

import (
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// peerEntries are the names that the tests of Istio's agent and of ztunnel use.
func peerEntries() []dnsproxy.Entry {
	k8s, ext := dnsproxy.Kubernetes, dnsproxy.External
	return []dnsproxy.Entry{
		{Host: "www.google.com", Registry: ext, Addresses: addrs("1.1.1.1")},
		{Host: "productpage.ns1.svc.cluster.local", Registry: k8s, Namespace: "ns1", ShortName: "productpage", Addresses: addrs("9.9.9.9")},
		{Host: "example.ns2.svc.cluster.local", Registry: k8s, Namespace: "ns2", ShortName: "example", Addresses: addrs("10.10.10.10")},
		{Host: "details.ns2.svc.cluster.remote", Registry: k8s, Namespace: "ns2", ShortName: "details", Addresses: addrs("11.11.11.11", "12.12.12.12", "13.13.13.13", "14.14.14.14")},
		{Host: "svc-with-alt.ns1.svc.cluster.local", Registry: k8s, Namespace: "ns1", ShortName: "svc-with-alt", Addresses: addrs("15.15.15.15"), AltHosts: []string{"svc-with-alt.ns1.svc.clusterset.local"}},
		{Host: "ipv6.localhost", Registry: ext, Addresses: addrs("2001:db8::ff00:42:8329")},
		{Host: "dual.localhost", Registry: ext, Addresses: addrs("2.2.2.2", "2001:db8::ff00:42:8329")},
		{Host: "ipv4.localhost", Registry: ext, Addresses: addrs("2.2.2.2")},
		{Host: "*.b.wildcard", Registry: ext, Addresses: addrs("11.11.11.11")},
		{Host: "*.wildcard", Registry: ext, Addresses: addrs("10.10.10.10")},
		{Host: "*.svc.mesh.company.net", Registry: ext, Addresses: addrs("10.1.2.3")},
		{Host: "decorator.ns1.svc.cluster.local", Registry: ext, Namespace: "ns1", Addresses: addrs("10.1.2.4")},
		{Host: "example.localhost.", Registry: ext, Addresses: addrs("3.3.3.3")},
	}
}

// ambientEntries are those that only ztunnel's tests have.
func ambientEntries() []dnsproxy.Entry {
	k8s, ext := dnsproxy.Kubernetes, dnsproxy.External
	return append(peerEntries(), []dnsproxy.Entry{
		{Host: "everywhere.io", Namespace: "ns2", Registry: ext, Addresses: addrs("10.10.10.110")},
		{Host: "preferred.io", Namespace: "ns2", Registry: ext, Addresses: addrs("10.10.10.210")},
		{Host: "everywhere.io", Namespace: "preferred-ns", Registry: ext, Addresses: addrs("10.10.10.111"), Canonical: true},
		{Host: "preferred.io", Namespace: "preferred-ns", Registry: ext, Addresses: addrs("10.10.10.211"), Canonical: true},
		{Host: "everywhere.io", Namespace: "ns1", Registry: ext, Addresses: addrs("10.10.10.112")},
		{Host: "nw2-only.ns1.svc.cluster.local", Namespace: "ns1", Registry: k8s},
		{Host: "both-networks.ns1.svc.cluster.local", Namespace: "ns1", Registry: k8s, Addresses: addrs("21.21.21.21")},
		{Host: "headless.ns1.svc.cluster.local", Namespace: "ns1", Registry: k8s, Headless: true, Pods: []dnsproxy.Pod{
			{Name: "pod0", Addresses: addrs("30.30.30.30", "2001:db8::30")},
			{Name: "pod1", Addresses: addrs("31.31.31.31", "2001:db8::31")},
		}},
		{Host: "headless-ipv6.ns1.svc.cluster.local", Namespace: "ns1", Registry: k8s, Headless: true, Addresses: addrs("2001:db8::33")},
		{Host: "headless.example.com", Namespace: "ns1", Registry: ext},
		{Host: "secret.example.com", Namespace: "ns2", Registry: ext, Addresses: addrs("10.10.10.220"), Private: true},
	}...)
}

// giant are 64 addresses, more than fit into 512 bytes.
func giant() []dns.RR {
	var out []dns.RR
	for i := range 64 {
		out = append(out, &dns.A{
			Hdr: dns.RR_Header{Name: "aaaaaaaaaaaa.aaaaaa.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30},
			A:   net.IPv4(240, 0, 0, byte(i)),
		})
	}
	return out
}

// peerUpstream is the upstream of the peers' tests: it knows one name, and two
// with many addresses: giant. is too long for UDP and not truncated, giant-tc. is.
func peerUpstream(t testing.TB) string {
	return foreignServer(t, dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		resp := new(dns.Msg).SetReply(q)
		switch dns.CanonicalName(q.Question[0].Name) {
		case "www.bing.com.":
			resp.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30},
				A:   net.IPv4(1, 1, 1, 1),
			}}
		case "giant.":
			resp.Answer = giant()
		case "giant-tc.":
			resp.Answer = giant()
			resp.Truncate(512)
		default:
			resp.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(resp)
	}))
}

// peerCase is one row of the peers' tables.
type peerCase struct {
	name    string
	host    string
	qtype   uint16 // zero: A
	network string // empty: both
	edns    uint16 // zero: none
	rcode   int
	forward bool // answered by the upstream
	cut     bool
	want    []string
}

func runPeerCases(t *testing.T, addr string, cases []peerCase) {
	for _, c := range cases {
		for _, network := range []string{"udp", "tcp"} {
			if c.network != "" && c.network != network {
				continue
			}
			t.Run(c.name+"/"+network, func(t *testing.T) { c.run(t, network, addr) })
		}
	}
}

func (c peerCase) run(t *testing.T, network, addr string) {
	if c.qtype == 0 {
		c.qtype = dns.TypeA
	}
	var edit []func(*dns.Msg)
	if c.edns != 0 {
		edit = append(edit, edns(c.edns))
	}
	resp := ask(t, network, addr, c.host, c.qtype, edit...)
	if resp.Rcode != c.rcode {
		t.Errorf("rcode is %s, want %s", dns.RcodeToString[resp.Rcode], dns.RcodeToString[c.rcode])
	}
	if resp.Authoritative == c.forward {
		t.Errorf("authoritative is %v, want %v", resp.Authoritative, !c.forward)
	}
	if !resp.RecursionAvailable {
		t.Error("recursion is not available")
	}
	if resp.Truncated != c.cut {
		t.Errorf("truncated is %v, want %v", resp.Truncated, c.cut)
	}
	got := lines(resp.Answer)
	if c.want == nil {
		c.want = []string{}
	}
	if diff := cmp.Diff(c.want, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if wantSOA := len(c.want) == 0 && !c.forward; wantSOA != hasSOA(resp) {
		t.Errorf("SOA in the authority section: %v, want %v", hasSOA(resp), wantSOA)
	}
	for _, rr := range resp.Answer {
		if !c.forward && rr.Header().Ttl != 30 {
			t.Errorf("TTL of %s is %d, want 30", rr, rr.Header().Ttl)
		}
	}
}

func hasSOA(m *dns.Msg) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
}

// giantLines are the first n answers for a giant name.
func giantLines(n int) []string { return lines(giant()[:n]) }

func TestSidecarDialect(t *testing.T) {
	h := &dnsproxy.Handler{
		Resolver: &dnsproxy.Resolver{Names: namesOf(t, peerEntries()...), Shuffle: inOrder},
		View: dnsproxy.View{
			Namespace: "ns1",
			Search:    []string{"ns1.svc.cluster.local", "svc.cluster.local", "cluster.local"},
			Dialect:   dnsproxy.Sidecar,
		},
		Upstream: forwarder(t, peerUpstream(t)),
	}
	nx := dns.RcodeNameError
	runPeerCases(t, serve(t, h), []peerCase{
		{name: "external host", host: "www.google.com.", want: []string{"www.google.com. A 1.1.1.1"}},
		{name: "external host with search domain", host: "www.google.com.ns1.svc.cluster.local.", want: []string{
			"www.google.com.ns1.svc.cluster.local. CNAME www.google.com.", "www.google.com. A 1.1.1.1"}},
		{name: "unknown external host", host: "www.bing.com.", forward: true, want: []string{"www.bing.com. A 1.1.1.1"}},
		{name: "full name", host: "productpage.ns1.svc.cluster.local.", want: []string{"productpage.ns1.svc.cluster.local. A 9.9.9.9"}},
		{name: "name.namespace", host: "productpage.ns1.", want: []string{"productpage.ns1. A 9.9.9.9"}},
		{name: "short name", host: "productpage.", want: []string{"productpage. A 9.9.9.9"}},
		{name: "full name with search domain", host: "productpage.ns1.svc.cluster.local.ns1.svc.cluster.local.", rcode: nx, forward: true},
		{name: "name.namespace with search domain", host: "productpage.ns1.ns1.svc.cluster.local.", want: []string{
			"productpage.ns1.ns1.svc.cluster.local. CNAME productpage.ns1.", "productpage.ns1. A 9.9.9.9"}},
		{name: "name.namespace with search domain, AAAA", host: "productpage.ns1.ns1.svc.cluster.local.", qtype: dns.TypeAAAA},
		{name: "other namespace, name.namespace", host: "example.ns2.", want: []string{"example.ns2. A 10.10.10.10"}},
		{name: "other namespace, full name", host: "example.ns2.svc.cluster.local.", want: []string{"example.ns2.svc.cluster.local. A 10.10.10.10"}},
		{name: "other namespace, name.namespace.svc", host: "example.ns2.svc.", want: []string{"example.ns2.svc. A 10.10.10.10"}},
		{name: "other namespace, short name", host: "example.", rcode: nx, forward: true},
		{name: "alt host, short name", host: "svc-with-alt.", want: []string{"svc-with-alt. A 15.15.15.15"}},
		{name: "alt host, name.namespace", host: "svc-with-alt.ns1.", want: []string{"svc-with-alt.ns1. A 15.15.15.15"}},
		{name: "alt host, name.namespace.svc", host: "svc-with-alt.ns1.svc.", want: []string{"svc-with-alt.ns1.svc. A 15.15.15.15"}},
		{name: "alt host, full name", host: "svc-with-alt.ns1.svc.cluster.local.", want: []string{"svc-with-alt.ns1.svc.cluster.local. A 15.15.15.15"}},
		{name: "alt host, clusterset.local", host: "svc-with-alt.ns1.svc.clusterset.local.", want: []string{"svc-with-alt.ns1.svc.clusterset.local. A 15.15.15.15"}},
		{name: "other domain, full name", host: "details.ns2.svc.cluster.remote.", want: []string{
			"details.ns2.svc.cluster.remote. A 11.11.11.11", "details.ns2.svc.cluster.remote. A 12.12.12.12",
			"details.ns2.svc.cluster.remote. A 13.13.13.13", "details.ns2.svc.cluster.remote. A 14.14.14.14"}},
		{name: "other domain, name.namespace", host: "details.ns2.", rcode: nx, forward: true},
		{name: "dual stack, A", host: "dual.localhost.", want: []string{"dual.localhost. A 2.2.2.2"}},
		{name: "dual stack, AAAA", host: "dual.localhost.", qtype: dns.TypeAAAA, want: []string{"dual.localhost. AAAA 2001:db8::ff00:42:8329"}},
		{name: "IPv6 only, A", host: "ipv6.localhost."},
		{name: "IPv4 only, AAAA", host: "ipv4.localhost.", qtype: dns.TypeAAAA},
		{name: "wildcard", host: "foo.wildcard.", want: []string{"foo.wildcard. A 10.10.10.10"}},
		{name: "more specific wildcard", host: "a.b.wildcard.", want: []string{"a.b.wildcard. A 11.11.11.11"}},
		{name: "wildcard with search domain", host: "foo.wildcard.ns1.svc.cluster.local.", want: []string{
			"foo.wildcard.ns1.svc.cluster.local. CNAME *.wildcard.", "*.wildcard. A 10.10.10.10"}},
		{name: "wildcard with a domain", host: "foo.svc.mesh.company.net.", want: []string{"foo.svc.mesh.company.net. A 10.1.2.3"}},
		{name: "wildcard with namespace and domain", host: "foo.foons.svc.mesh.company.net.", want: []string{"foo.foons.svc.mesh.company.net. A 10.1.2.3"}},
		{name: "external host of the form of Kubernetes", host: "decorator.ns1.svc.cluster.local.", want: []string{"decorator.ns1.svc.cluster.local. A 10.1.2.4"}},
		{name: "its short name", host: "decorator.ns1.", rcode: nx, forward: true},
		{name: "key with a trailing dot", host: "example.localhost.", want: []string{"example.localhost. A 3.3.3.3"}},

		// The agent says SERVFAIL here: its upstream ignores the limit of 512 bytes.
		// We offered more to the upstream, and tell the client to come over TCP.
		{name: "giant", network: "udp", host: "giant.", forward: true, cut: true, want: giantLines(29)},
		{name: "giant", network: "tcp", host: "giant.", forward: true, want: giantLines(64)},
		{name: "giant with EDNS", host: "giant.", edns: dns.MaxMsgSize, forward: true, want: giantLines(64)},
		{name: "giant, truncated upstream", host: "giant-tc.", forward: true, cut: true, want: giantLines(29)},
	})
}

func TestAmbientDialect(t *testing.T) {
	h := &dnsproxy.Handler{
		Resolver: &dnsproxy.Resolver{Names: namesOf(t, ambientEntries()...), Shuffle: inOrder},
		View:     dnsproxy.View{Namespace: "ns1"},
		Upstream: forwarder(t, peerUpstream(t)),
	}
	nx := dns.RcodeNameError
	runPeerCases(t, serve(t, h), []peerCase{
		{name: "other type", host: "productpage.ns1.", qtype: dns.TypeNS, rcode: nx, forward: true},
		{name: "external host", host: "www.google.com.", want: []string{"www.google.com. A 1.1.1.1"}},
		{name: "external host with search domain", host: "www.google.com.ns1.svc.cluster.local.", want: []string{
			"www.google.com.ns1.svc.cluster.local. CNAME www.google.com.", "www.google.com. A 1.1.1.1"}},
		{name: "external host with second search domain", host: "www.google.com.svc.cluster.local.", want: []string{
			"www.google.com.svc.cluster.local. CNAME www.google.com.", "www.google.com. A 1.1.1.1"}},
		{name: "external host with third search domain", host: "www.google.com.cluster.local.", want: []string{
			"www.google.com.cluster.local. CNAME www.google.com.", "www.google.com. A 1.1.1.1"}},
		{name: "unknown external host", host: "www.bing.com.", forward: true, want: []string{"www.bing.com. A 1.1.1.1"}},
		{name: "full name", host: "productpage.ns1.svc.cluster.local.", want: []string{"productpage.ns1.svc.cluster.local. A 9.9.9.9"}},
		{name: "full name with search domain", host: "productpage.ns1.svc.cluster.local.ns1.svc.cluster.local.", want: []string{
			"productpage.ns1.svc.cluster.local.ns1.svc.cluster.local. CNAME productpage.ns1.svc.cluster.local.",
			"productpage.ns1.svc.cluster.local. A 9.9.9.9"}},
		{name: "name.namespace", host: "productpage.ns1.", want: []string{"productpage.ns1. A 9.9.9.9"}},
		{name: "short name", host: "productpage.", want: []string{"productpage. A 9.9.9.9"}},
		{name: "name.namespace with search domain", host: "productpage.ns1.ns1.svc.cluster.local.", want: []string{
			"productpage.ns1.ns1.svc.cluster.local. CNAME productpage.ns1.", "productpage.ns1. A 9.9.9.9"}},
		{name: "name.namespace with search domain, AAAA", host: "productpage.ns1.ns1.svc.cluster.local.", qtype: dns.TypeAAAA},
		{name: "other namespace, name.namespace", host: "example.ns2.", want: []string{"example.ns2. A 10.10.10.10"}},
		{name: "other namespace, full name", host: "example.ns2.svc.cluster.local.", want: []string{"example.ns2.svc.cluster.local. A 10.10.10.10"}},
		{name: "other namespace, name.namespace.svc", host: "example.ns2.svc.", want: []string{"example.ns2.svc. A 10.10.10.10"}},
		{name: "other namespace, short name", host: "example.", rcode: nx, forward: true},
		{name: "other domain, full name", host: "details.ns2.svc.cluster.remote.", want: []string{
			"details.ns2.svc.cluster.remote. A 11.11.11.11", "details.ns2.svc.cluster.remote. A 12.12.12.12",
			"details.ns2.svc.cluster.remote. A 13.13.13.13", "details.ns2.svc.cluster.remote. A 14.14.14.14"}},
		{name: "other domain, name.namespace", host: "details.ns2.", rcode: nx, forward: true},
		{name: "dual stack, A", host: "dual.localhost.", want: []string{"dual.localhost. A 2.2.2.2"}},
		{name: "dual stack, AAAA", host: "dual.localhost.", qtype: dns.TypeAAAA, want: []string{"dual.localhost. AAAA 2001:db8::ff00:42:8329"}},
		{name: "IPv6 only, A", host: "ipv6.localhost."},
		{name: "IPv4 only, AAAA", host: "ipv4.localhost.", qtype: dns.TypeAAAA},
		{name: "wildcard", host: "foo.wildcard.", want: []string{"foo.wildcard. A 10.10.10.10"}},
		{name: "more specific wildcard", host: "a.b.wildcard.", want: []string{"a.b.wildcard. A 11.11.11.11"}},
		{name: "wildcard with a domain", host: "foo.svc.mesh.company.net.", want: []string{"foo.svc.mesh.company.net. A 10.1.2.3"}},
		{name: "wildcard with namespace and domain", host: "foo.foons.svc.mesh.company.net.", want: []string{"foo.foons.svc.mesh.company.net. A 10.1.2.3"}},
		{name: "wildcard with search domain", host: "foo.svc.mesh.company.net.ns1.svc.cluster.local.", want: []string{
			"foo.svc.mesh.company.net.ns1.svc.cluster.local. A 10.1.2.3"}},
		{name: "no address on the client's network", host: "nw2-only.ns1.svc.cluster.local."},
		{name: "address on the client's network only", host: "both-networks.ns1.svc.cluster.local.", want: []string{"both-networks.ns1.svc.cluster.local. A 21.21.21.21"}},
		{name: "headless, A", host: "headless.ns1.svc.cluster.local.", want: []string{
			"headless.ns1.svc.cluster.local. A 30.30.30.30", "headless.ns1.svc.cluster.local. A 31.31.31.31"}},
		{name: "headless, AAAA", host: "headless.ns1.svc.cluster.local.", qtype: dns.TypeAAAA, want: []string{
			"headless.ns1.svc.cluster.local. AAAA 2001:db8::30", "headless.ns1.svc.cluster.local. AAAA 2001:db8::31"}},
		{name: "headless, IPv6 only, AAAA", host: "headless-ipv6.ns1.svc.cluster.local.", qtype: dns.TypeAAAA, want: []string{"headless-ipv6.ns1.svc.cluster.local. AAAA 2001:db8::33"}},
		{name: "headless, IPv6 only, A", host: "headless-ipv6.ns1.svc.cluster.local."},
		{name: "external without addresses", host: "headless.example.com.", rcode: nx, forward: true},
		{name: "canonical entry where the client's namespace has none", host: "preferred.io.", want: []string{"preferred.io. A 10.10.10.211"}},
		{name: "entry of the client's namespace", host: "everywhere.io.", want: []string{"everywhere.io. A 10.10.10.112"}},
		{name: "private entry of another namespace", host: "secret.example.com.", rcode: nx, forward: true},

		{name: "short name of an external host of the form of Kubernetes", host: "decorator.ns1.", want: []string{"decorator.ns1. A 10.1.2.4"}},

		// ztunnel forwards the names of pods, for want of a lookup.
		{name: "pod, full name", host: "pod0.headless.ns1.svc.cluster.local.", want: []string{"pod0.headless.ns1.svc.cluster.local. A 30.30.30.30"}},
		{name: "pod, pod.name.namespace.svc", host: "pod0.headless.ns1.svc.", want: []string{"pod0.headless.ns1.svc. A 30.30.30.30"}},
		{name: "pod, pod.name.namespace", host: "pod0.headless.ns1.", want: []string{"pod0.headless.ns1. A 30.30.30.30"}},
		{name: "pod, pod.name", host: "pod1.headless.", want: []string{"pod1.headless. A 31.31.31.31"}},
		{name: "unknown pod", host: "pod2.headless.ns1.", rcode: nx, forward: true},
	})
}

// TestOneTableManyNamespaces asks the same short names from two namespaces.
func TestOneTableManyNamespaces(t *testing.T) {
	names := namesOf(t, ambientEntries()...)
	views := map[string]dnsproxy.View{"10.0.0.1": {Namespace: "ns1"}, "10.0.0.2": {Namespace: "ns2"}}
	h := &dnsproxy.Handler{
		Resolver: &dnsproxy.Resolver{Names: names, Shuffle: inOrder, Zones: []string{"."}},
		ViewOf: func(remote net.Addr) (dnsproxy.View, error) {
			v, ok := views[remote.(*net.UDPAddr).IP.String()]
			if !ok {
				return v, fmt.Errorf("no workload has the address %s", remote)
			}
			return v, nil
		},
	}
	tests := []struct {
		client, host string
		rcode        int
		want         []string
	}{
		{"10.0.0.1", "productpage.", dns.RcodeSuccess, []string{"productpage. A 9.9.9.9"}},
		{"10.0.0.2", "productpage.", dns.RcodeNameError, []string{}},
		{"10.0.0.1", "example.", dns.RcodeNameError, []string{}},
		{"10.0.0.2", "example.", dns.RcodeSuccess, []string{"example. A 10.10.10.10"}},
		{"10.0.0.1", "everywhere.io.", dns.RcodeSuccess, []string{"everywhere.io. A 10.10.10.112"}},
		{"10.0.0.2", "everywhere.io.", dns.RcodeSuccess, []string{"everywhere.io. A 10.10.10.110"}},
		{"10.0.0.2", "secret.example.com.", dns.RcodeSuccess, []string{"secret.example.com. A 10.10.10.220"}},
		{"10.0.0.3", "productpage.ns1.", dns.RcodeServerFailure, []string{}},
	}
	for _, tt := range tests {
		t.Run(tt.client+"/"+tt.host, func(t *testing.T) {
			w := &recorder{remote: &net.UDPAddr{IP: net.ParseIP(tt.client), Port: 1}}
			h.ServeDNS(w, new(dns.Msg).SetQuestion(tt.host, dns.TypeA))
			if w.msg.Rcode != tt.rcode {
				t.Errorf("rcode is %s, want %s", dns.RcodeToString[w.msg.Rcode], dns.RcodeToString[tt.rcode])
			}
			if diff := cmp.Diff(tt.want, lines(w.msg.Answer)); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		})
	}
}

// recorder is a dns.ResponseWriter that keeps the response.
type recorder struct {
	dns.ResponseWriter
	remote net.Addr
	msg    *dns.Msg
}

func (r *recorder) RemoteAddr() net.Addr { return r.remote }

func (r *recorder) WriteMsg(m *dns.Msg) error {
	r.msg = m
	return nil
}
