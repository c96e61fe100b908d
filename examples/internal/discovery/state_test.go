package discovery

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/identity/authz"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// apply gives a State an update as an xds.Client would.
func apply(t *testing.T, s *State, u xds.Update) map[string]error {
	t.Helper()
	for _, typ := range s.Types() {
		if typ.URL == u.TypeURL {
			return typ.Handle(u)
		}
	}
	t.Fatalf("no type %s", u.TypeURL)
	return nil
}

func pod(t *testing.T, name, ip string) xds.Resource {
	t.Helper()
	r := endpoints.Resource{Workload: &endpoints.Workload{UID: name, Name: name, Namespace: "app", Addresses: []netip.Addr{netip.MustParseAddr(ip)}}}
	body, err := wds.EncodeAddress(r)
	if err != nil {
		t.Fatal(err)
	}
	return xds.Resource{Name: name, Body: body}
}

// deny is a policy against one identity, for workloads that name it.
func deny(t *testing.T, name, principal string) xds.Resource {
	t.Helper()
	return denyMatch(t, name, wds.Match{Principals: []wds.StringMatch{{Value: principal}}})
}

func denyMatch(t *testing.T, name string, m wds.Match) xds.Resource {
	t.Helper()
	a := &wds.Authorization{Namespace: "app", Name: name, Scope: wds.ScopeWorkload, Action: wds.ActionDeny, Groups: []wds.Group{{Rules: []wds.Rule{{
		Matches: []wds.Match{m},
	}}}}}
	body, err := wds.EncodeAuthorization(a)
	if err != nil {
		t.Fatal(err)
	}
	return xds.Resource{Name: "app/" + name, Body: body}
}

func broken(name string) xds.Resource { return xds.Resource{Name: name, Body: []byte{0xff}} }

func addresses(upserts ...xds.Resource) xds.Update {
	return xds.Update{TypeURL: wds.AddressTypeURL, Upserts: upserts}
}

func authorizations(upserts ...xds.Resource) xds.Update {
	return xds.Update{TypeURL: wds.AuthorizationTypeURL, Upserts: upserts}
}

// allowed asks whether a peer may reach a workload that names the policies.
func allowed(s *State, account string, policies ...string) bool {
	peer := spiffeid.RequireFromString("spiffe://cluster.local/ns/app/sa/" + account)
	return s.Policies().Check(authz.Request{Namespace: "app", Policies: policies, Peer: peer}).Allowed
}

func principal(account string) string { return "cluster.local/ns/app/sa/" + account }

// TestOrder: policies are asked for before the workloads that they protect.
func TestOrder(t *testing.T) {
	var urls []string
	for _, typ := range new(State).Types() {
		urls = append(urls, typ.URL)
	}
	if want := []string{wds.AuthorizationTypeURL, wds.AddressTypeURL}; !slices.Equal(urls, want) {
		t.Errorf("types %q", urls)
	}
}

func TestBadAddress(t *testing.T) {
	s := &State{}
	apply(t, s, addresses(pod(t, "a", "10.1.0.1")))
	rejected := apply(t, s, addresses(broken("a"), pod(t, "b", "10.1.0.2"), broken("c")))
	if len(rejected) != 2 || rejected["a"] == nil || rejected["c"] == nil {
		t.Errorf("rejected %v", rejected)
	}
	if w := s.Index().Workload("a"); w == nil || w.Addresses[0] != netip.MustParseAddr("10.1.0.1") {
		t.Errorf("the last good form of a is now %v", w)
	}
	if s.Index().Workload("b") == nil || s.Index().Workload("c") != nil {
		t.Error("b is held up by what came with it, or c is there")
	}
	apply(t, s, xds.Update{TypeURL: wds.AddressTypeURL, Removals: []string{"a"}})
	if s.Index().Workload("a") != nil {
		t.Error("a was not removed")
	}
}

func TestBadPolicy(t *testing.T) {
	s := &State{}
	s.Complete(wds.AuthorizationTypeURL)
	apply(t, s, authorizations(deny(t, "p", principal("evil"))))
	rejected := apply(t, s, authorizations(broken("app/p"), deny(t, "q", principal("other")), broken("app/r")))
	if len(rejected) != 2 || rejected["app/p"] == nil || rejected["app/r"] == nil {
		t.Errorf("rejected %v", rejected)
	}
	tests := []struct {
		account, policy string
		want            bool
	}{
		{"evil", "app/p", false},  // the last good form
		{"other", "app/p", true},  // which is about evil only
		{"other", "app/q", false}, // came with the broken ones
		{"good", "app/r", false},  // never came
	}
	for _, tt := range tests {
		if got := allowed(s, tt.account, tt.policy); got != tt.want {
			t.Errorf("%s under %s: allowed %t", tt.account, tt.policy, got)
		}
	}
	apply(t, s, xds.Update{TypeURL: wds.AuthorizationTypeURL, Removals: []string{"app/p", "app/q"}})
	if !allowed(s, "evil") {
		t.Error("policies that are gone still deny")
	}
}

// TestUnknownCondition: a policy is refused whole rather than taken without one
// of its conditions.
func TestUnknownCondition(t *testing.T) {
	m := wds.Match{Extensions: []endpoints.Extension{{Name: "moon-phase", TypeURL: "example.com/Moon"}}}
	s := &State{}
	s.Complete(wds.AuthorizationTypeURL)
	if rejected := apply(t, s, authorizations(denyMatch(t, "p", m))); rejected["app/p"] == nil {
		t.Errorf("rejected %v, want app/p", rejected)
	}
	if allowed(s, "anybody", "app/p") {
		t.Error("a workload whose policy was refused is open")
	}
}

// TestComplete: policies are not shown in part, and a mesh without any has
// them all.
func TestComplete(t *testing.T) {
	s := &State{}
	apply(t, s, authorizations(deny(t, "p", principal("evil"))))
	apply(t, s, addresses(pod(t, "a", "10.1.0.1")))
	if s.Policies() != nil || s.Known() {
		t.Error("what came in part is taken for all")
	}
	s.Complete(wds.AuthorizationTypeURL)
	s.Complete(wds.AddressTypeURL)
	if s.Policies() == nil || !s.Known() || allowed(s, "evil", "app/p") {
		t.Error("what is complete is not shown")
	}
	none := &State{}
	none.Complete(wds.AuthorizationTypeURL)
	if none.Policies() == nil || !allowed(none, "anybody") {
		t.Error("a mesh without policies is closed")
	}
}

// TestStored: what was saved was complete, if all of it can still be read.
func TestStored(t *testing.T) {
	stored := func(u xds.Update) xds.Update { u.Stored = true; return u }
	s := &State{}
	apply(t, s, stored(authorizations(deny(t, "p", principal("evil")), broken("app/q"))))
	apply(t, s, stored(addresses(pod(t, "a", "10.1.0.1"), broken("b"))))
	if s.Policies() != nil || s.Known() {
		t.Error("a part of what was saved is taken for all")
	}
	s = &State{}
	apply(t, s, stored(authorizations(deny(t, "p", principal("evil")))))
	apply(t, s, stored(addresses(pod(t, "a", "10.1.0.1"))))
	if s.Policies() == nil || !s.Known() {
		t.Error("what was saved is not shown")
	}
}

func TestOnChange(t *testing.T) {
	s := &State{}
	n := 0
	s.OnChange(func() { n++ })
	apply(t, s, addresses(pod(t, "a", "10.1.0.1")))
	apply(t, s, authorizations(deny(t, "p", principal("evil"))))
	s.Complete(wds.AuthorizationTypeURL)
	s.Complete(wds.AddressTypeURL)
	if n != 4 {
		t.Errorf("told %d times of 4 changes", n)
	}
}

// TestPolicy carries every field over.
func TestPolicy(t *testing.T) {
	prefix := netip.MustParsePrefix("10.0.0.0/8")
	a := &wds.Authorization{Namespace: "app", Name: "p", Scope: wds.ScopeNamespace, Action: wds.ActionDeny, DryRun: true, Groups: []wds.Group{{Rules: []wds.Rule{{Matches: []wds.Match{{
		Namespaces: []wds.StringMatch{{Kind: wds.MatchExact, Value: "1"}}, NotNamespaces: []wds.StringMatch{{Kind: wds.MatchPrefix, Value: "2"}},
		ServiceAccounts: []wds.ServiceAccount{{Namespace: "3", Name: "4"}}, NotServiceAccounts: []wds.ServiceAccount{{Namespace: "5", Name: "6"}},
		Principals: []wds.StringMatch{{Kind: wds.MatchSuffix, Value: "7"}}, NotPrincipals: []wds.StringMatch{{Kind: wds.MatchPresence}},
		SourceIPs: []netip.Prefix{prefix}, NotSourceIPs: []netip.Prefix{prefix}, DestinationIPs: []netip.Prefix{prefix}, NotDestinationIPs: []netip.Prefix{prefix},
		DestinationPorts: []uint16{8}, NotDestinationPorts: []uint16{9},
	}}}, {}}}, {}}}
	want := authz.Policy{Namespace: "app", Name: "p", Scope: authz.ScopeNamespace, Action: authz.Deny, DryRun: true, Groups: []authz.Group{{Rules: []authz.Rule{{Matches: []authz.Match{{
		Namespaces: []authz.StringMatch{{Kind: authz.MatchExact, Value: "1"}}, NotNamespaces: []authz.StringMatch{{Kind: authz.MatchPrefix, Value: "2"}},
		ServiceAccounts: []authz.ServiceAccount{{Namespace: "3", Name: "4"}}, NotServiceAccounts: []authz.ServiceAccount{{Namespace: "5", Name: "6"}},
		Principals: []authz.StringMatch{{Kind: authz.MatchSuffix, Value: "7"}}, NotPrincipals: []authz.StringMatch{{Kind: authz.MatchPresence}},
		SourceIPs: []netip.Prefix{prefix}, NotSourceIPs: []netip.Prefix{prefix}, DestinationIPs: []netip.Prefix{prefix}, NotDestinationIPs: []netip.Prefix{prefix},
		DestinationPorts: []uint16{8}, NotDestinationPorts: []uint16{9},
	}}}, {}}}, {}}}
	if diff := cmp.Diff(want, Policy(a), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}
