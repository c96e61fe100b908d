package authz

import (
	"net/netip"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The cases of this file are those of ztunnel's own tests of its rbac module.

func plaintext() Request {
	return Request{Namespace: "dst", Source: netip.MustParseAddrPort("127.0.0.1:1234"), Destination: netip.MustParseAddrPort("127.0.0.2:8080")}
}

func withTLS() Request {
	r := plaintext()
	r.Peer = spiffeid.RequireFromString("spiffe://td/ns/namespace/sa/account")
	return r
}

func withOtherTLS() Request {
	return Request{
		Namespace:   "dst",
		Peer:        spiffeid.RequireFromString("spiffe://td-alt/ns/ns-alt/sa/sa-alt"),
		Source:      netip.MustParseAddrPort("127.0.0.3:1234"),
		Destination: netip.MustParseAddrPort("127.0.0.4:9090"),
	}
}

func mustCompile(t testing.TB, policies ...Policy) *Set {
	t.Helper()
	s, err := Compile(policies)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func exact(v string) StringMatch  { return StringMatch{MatchExact, v} }
func prefix(v string) StringMatch { return StringMatch{MatchPrefix, v} }
func suffix(v string) StringMatch { return StringMatch{MatchSuffix, v} }
func present() StringMatch        { return StringMatch{Kind: MatchPresence} }

func groupOf(matches ...Match) Group { return Group{Rules: []Rule{{Matches: matches}}} }

func cidrs(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// matches reports whether a policy with these groups matches a request.
func matches(t *testing.T, r Request, groups ...Group) bool {
	t.Helper()
	s := mustCompile(t, Policy{Namespace: "namespace", Name: "p", Groups: groups})
	return s.Check(r).Allowed
}

func TestFieldsAsZtunnel(t *testing.T) {
	account := []ServiceAccount{{"namespace", "account"}}
	tests := []struct {
		name                  string
		m                     Match
		plaintext, tls, other bool
	}{
		{"namespaces", Match{Namespaces: []StringMatch{exact("namespace")}}, false, true, false},
		{"not_namespaces", Match{NotNamespaces: []StringMatch{exact("namespace")}}, true, false, true},
		{"service_accounts", Match{ServiceAccounts: account}, false, true, false},
		{"not_service_accounts", Match{NotServiceAccounts: account}, true, false, true},
		{"principals", Match{Principals: []StringMatch{exact("td/ns/namespace/sa/account")}}, false, true, false},
		{"not_principals", Match{NotPrincipals: []StringMatch{exact("td/ns/namespace/sa/account")}}, true, false, true},
		{"source_ips", Match{SourceIPs: cidrs("127.0.0.1/32")}, true, true, false},
		{"not_source_ips", Match{NotSourceIPs: cidrs("127.0.0.1/32")}, false, false, true},
		{"destination_ips", Match{DestinationIPs: cidrs("127.0.0.2/32")}, true, true, false},
		{"not_destination_ips", Match{NotDestinationIPs: cidrs("127.0.0.2/32")}, false, false, true},
		{"cidr_range", Match{DestinationIPs: cidrs("127.0.0.1/24")}, true, true, true},
		{"destination_ports", Match{DestinationPorts: []uint16{8080}}, true, true, false},
		{"not_destination_ports", Match{NotDestinationPorts: []uint16{8080}}, false, false, true},
		// Without spiffe:// nothing matches a principal.
		{"empty principal prefix", Match{Principals: []StringMatch{prefix("")}}, false, true, true},
		{"empty principal", Match{Principals: []StringMatch{exact("")}}, false, false, false},
		{"principal presence", Match{Principals: []StringMatch{present()}}, false, true, true},
		{"no principal", Match{NotPrincipals: []StringMatch{present()}}, true, false, false},
		{"principal prefix", Match{Principals: []StringMatch{prefix("td/")}}, false, true, false},
		{"principal suffix", Match{Principals: []StringMatch{suffix("/sa-alt")}}, false, false, true},
		{"principal with spiffe://", Match{Principals: []StringMatch{exact("spiffe://td/ns/namespace/sa/account")}}, false, false, false},
		{"empty namespace", Match{Namespaces: []StringMatch{exact("")}}, true, false, false},
		{"namespace presence", Match{Namespaces: []StringMatch{present()}}, false, true, true},
		{"positive and negative", Match{Namespaces: []StringMatch{present()}, NotNamespaces: []StringMatch{exact("namespace")}}, false, false, true},
		{"values are alternatives", Match{DestinationPorts: []uint16{9090, 8080}}, true, true, true},
		{"fields are required together", Match{DestinationPorts: []uint16{8080}, SourceIPs: cidrs("127.0.0.3/32")}, false, false, false},
		{"mapped prefix", Match{SourceIPs: cidrs("::ffff:127.0.0.1/128")}, true, true, false},
		{"all of IPv6", Match{SourceIPs: cidrs("::/0")}, false, false, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := [3]bool{matches(t, plaintext(), groupOf(tc.m)), matches(t, withTLS(), groupOf(tc.m)), matches(t, withOtherTLS(), groupOf(tc.m))}
			if want := [3]bool{tc.plaintext, tc.tls, tc.other}; got != want {
				t.Errorf("plaintext, tls, other: got %v, want %v", got, want)
			}
		})
	}
}

func TestEmptyPartsAsZtunnel(t *testing.T) {
	tests := []struct {
		name   string
		groups []Group
		want   bool
	}{
		{"no groups", nil, false},
		{"a group without rules", []Group{{}}, true},
		{"a rule without matches", []Group{{Rules: []Rule{{}}}}, true},
		{"an empty match", []Group{groupOf(Match{})}, false},
		{"an empty match beside one that holds", []Group{groupOf(Match{}, Match{DestinationPorts: []uint16{8080}})}, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := matches(t, plaintext(), tc.groups...); got != tc.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestNestingAsZtunnel(t *testing.T) {
	in := func(ns string, port string) Request {
		r := plaintext()
		r.Peer = spiffeid.RequireFromString("spiffe://td/ns/" + ns + "/sa/account")
		r.Destination = netip.MustParseAddrPort("127.0.0.2:" + port)
		return r
	}
	either := []Match{{Namespaces: []StringMatch{exact("a")}}, {Namespaces: []StringMatch{exact("b")}}}
	nested := Group{Rules: []Rule{{Matches: either}, {Matches: []Match{{DestinationPorts: []uint16{80}}}}}}
	for _, tc := range []struct {
		ns, port string
		want     bool
	}{{"a", "80", true}, {"b", "80", true}, {"bad", "80", false}, {"b", "12345", false}} {
		if got := matches(t, in(tc.ns, tc.port), nested); got != tc.want {
			t.Errorf("namespace %s, port %s: got %t", tc.ns, tc.port, got)
		}
	}
	for ns, want := range map[string]bool{"a": true, "b": true, "bad": false} {
		if got := matches(t, in(ns, "80"), groupOf(either[0]), groupOf(either[1])); got != want {
			t.Errorf("two groups, namespace %s: got %t", ns, got)
		}
	}
}

func TestMappedAndZonedAddresses(t *testing.T) {
	r := plaintext()
	r.Source = netip.MustParseAddrPort("[::ffff:10.0.0.1]:1")
	if !matches(t, r, groupOf(Match{SourceIPs: cidrs("10.0.0.0/8")})) {
		t.Error("a mapped address is not its IPv4 address")
	}
	r.Source = netip.MustParseAddrPort("[fe80::1%eth0]:1")
	if !matches(t, r, groupOf(Match{SourceIPs: cidrs("fe80::/10")})) {
		t.Error("a zone hides an address")
	}
}
