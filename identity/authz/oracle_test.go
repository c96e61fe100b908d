package authz

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// oracle decides by reading the rules of doc.go from top to bottom, with no
// index and no preparation.
func oracle(policies []Policy, r Request, dryRun bool) (allowed bool, why Reason) {
	var applicable []Policy
	missing := false
	for _, p := range policies {
		if p.Scope == ScopeGlobal || p.Scope == ScopeNamespace && p.Namespace == r.Namespace {
			applicable = append(applicable, p)
		}
	}
	for _, name := range r.Policies {
		i := slices.IndexFunc(policies, func(p Policy) bool { return p.Namespace+"/"+p.Name == name })
		if i < 0 {
			missing = true
			continue
		}
		applicable = append(applicable, policies[i])
	}
	applicable = slices.DeleteFunc(applicable, func(p Policy) bool { return p.DryRun && !dryRun })
	anyAllow, allowMatches := false, false
	for _, p := range applicable {
		hit := slices.ContainsFunc(p.Groups, func(g Group) bool { return oracleGroup(g, r) })
		if p.Action == Deny && hit {
			return false, DeniedBy
		}
		if p.Action == Allow {
			anyAllow = true
			allowMatches = allowMatches || hit
		}
	}
	switch {
	case missing:
		return false, MissingPolicy
	case !anyAllow:
		return true, NoPolicy
	case allowMatches:
		return true, AllowedBy
	default:
		return false, NoMatch
	}
}

func oracleGroup(g Group, r Request) bool {
	for _, rule := range g.Rules {
		if len(rule.Matches) > 0 && !slices.ContainsFunc(rule.Matches, func(m Match) bool { return oracleMatch(m, r) }) {
			return false
		}
	}
	return true
}

func oracleMatch(m Match, r Request) bool {
	if fmt.Sprint(m) == fmt.Sprint(Match{}) {
		return false
	}
	parts := strings.Split(r.Peer.String(), "/") // spiffe: "" td ns N sa A
	ns, sa := "", ""
	if len(parts) == 7 {
		ns, sa = parts[4], parts[6]
	}
	principal, secure := strings.CutPrefix(r.Peer.String(), "spiffe://")
	str := func(list []StringMatch, v string, ok bool) func() (int, bool) {
		return func() (int, bool) {
			return len(list), slices.ContainsFunc(list, func(s StringMatch) bool { return ok && oracleString(s, v) })
		}
	}
	ip := func(list []netip.Prefix, a netip.Addr) func() (int, bool) {
		return func() (int, bool) {
			return len(list), slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
		}
	}
	acc := func(list []ServiceAccount) func() (int, bool) {
		return func() (int, bool) { return len(list), secure && slices.Contains(list, ServiceAccount{ns, sa}) }
	}
	ports := func(list []uint16) func() (int, bool) {
		return func() (int, bool) { return len(list), slices.Contains(list, r.Destination.Port()) }
	}
	for _, f := range []struct{ positive, negative func() (int, bool) }{
		{str(m.Namespaces, ns, true), str(m.NotNamespaces, ns, true)},
		{str(m.Principals, principal, secure), str(m.NotPrincipals, principal, secure)},
		{acc(m.ServiceAccounts), acc(m.NotServiceAccounts)},
		{ip(m.SourceIPs, r.Source.Addr()), ip(m.NotSourceIPs, r.Source.Addr())},
		{ip(m.DestinationIPs, r.Destination.Addr()), ip(m.NotDestinationIPs, r.Destination.Addr())},
		{ports(m.DestinationPorts), ports(m.NotDestinationPorts)},
	} {
		if n, hit := f.positive(); n > 0 && !hit {
			return false
		}
		if n, hit := f.negative(); n > 0 && hit {
			return false
		}
	}
	return true
}

func oracleString(s StringMatch, v string) bool {
	switch s.Kind {
	case MatchExact:
		return v == s.Value
	case MatchPrefix:
		return len(v) >= len(s.Value) && v[:len(s.Value)] == s.Value
	case MatchSuffix:
		return len(v) >= len(s.Value) && v[len(v)-len(s.Value):] == s.Value
	default:
		return v != ""
	}
}

// generator makes policies and requests from a small world, so that they meet
// often.
type generator struct{ *rand.Rand }

func (g generator) pick(list ...string) string { return list[g.IntN(len(list))] }

func several[T any](g generator, chance int, one func() T) []T {
	var out []T
	for g.IntN(100) < chance {
		out = append(out, one())
		chance /= 2
	}
	return out
}

func (g generator) stringMatch(values ...string) StringMatch {
	v := g.pick(values...)
	switch g.IntN(6) {
	case 0:
		return prefix(v[:g.IntN(len(v)+1)])
	case 1:
		return suffix(v[g.IntN(len(v)+1):])
	case 2:
		return present()
	default:
		return exact(v)
	}
}

var (
	namespaces = []string{"a", "b", "ab"}
	accounts   = []string{"x", "y"}
	addresses  = []string{"10.0.0.1", "10.0.0.2", "10.1.0.1", "fd00::1"}
)

func (g generator) match() Match {
	ns := func() StringMatch { return g.stringMatch(namespaces...) }
	principal := func() StringMatch {
		return g.stringMatch("td/ns/" + g.pick(namespaces...) + "/sa/" + g.pick(accounts...))
	}
	account := func() ServiceAccount { return ServiceAccount{g.pick(namespaces...), g.pick(accounts...)} }
	cidr := func() netip.Prefix {
		a := netip.MustParseAddr(g.pick(addresses...))
		return netip.PrefixFrom(a, []int{a.BitLen(), a.BitLen() / 2, 0}[g.IntN(3)])
	}
	p := func() uint16 { return uint16(80 + g.IntN(3)) }
	return Match{
		Namespaces: several(g, 20, ns), NotNamespaces: several(g, 10, ns),
		Principals: several(g, 20, principal), NotPrincipals: several(g, 10, principal),
		ServiceAccounts: several(g, 20, account), NotServiceAccounts: several(g, 10, account),
		SourceIPs: several(g, 20, cidr), NotSourceIPs: several(g, 10, cidr),
		DestinationIPs: several(g, 20, cidr), NotDestinationIPs: several(g, 10, cidr),
		DestinationPorts: several(g, 20, p), NotDestinationPorts: several(g, 10, p),
	}
}

func (g generator) policy(name int) Policy {
	return Policy{
		Namespace: g.pick(namespaces...), Name: fmt.Sprint(name),
		Scope: Scope(g.IntN(3)), Action: Action(g.IntN(2)), DryRun: g.IntN(5) == 0,
		Groups: several(g, 90, func() Group {
			return Group{Rules: several(g, 90, func() Rule { return Rule{Matches: several(g, 95, g.match)} })}
		}),
	}
}

func (g generator) request(policies []Policy) Request {
	r := Request{
		Namespace:   g.pick(namespaces...),
		Source:      netip.AddrPortFrom(netip.MustParseAddr(g.pick(addresses...)), 1234),
		Destination: netip.AddrPortFrom(netip.MustParseAddr(g.pick(addresses...)), uint16(80+g.IntN(4))),
	}
	if g.IntN(5) > 0 {
		r.Peer = spiffeid.RequireFromString("spiffe://td/ns/" + g.pick(namespaces...) + "/sa/" + g.pick(accounts...))
	}
	r.Policies = several(g, 60, func() string {
		if len(policies) == 0 || g.IntN(20) == 0 {
			return "a/missing"
		}
		return policies[g.IntN(len(policies))].Key()
	})
	return r
}

func TestAgainstOracle(t *testing.T) {
	counts := make(map[Reason]int)
	for seed := range uint64(500) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		var policies []Policy
		for i := range g.IntN(8) {
			policies = append(policies, g.policy(i))
		}
		s := mustCompile(t, policies...)
		for range 20 {
			r := g.request(policies)
			d := s.Check(r)
			for dryRun, v := range map[bool]Verdict{false: d.Verdict, true: d.DryRun} {
				allowed, why := oracle(policies, r, dryRun)
				counts[why]++
				if v.Allowed != allowed || v.Reason != why {
					t.Fatalf("seed %d, dry run %t: got %v, want %t, %v\n%v", seed, dryRun, v, allowed, why, s.Explain(r))
				}
				checkBlame(t, s, v, r)
			}
		}
	}
	for why := NoPolicy; why <= MissingPolicy; why++ {
		if counts[why] < 150 {
			t.Errorf("only %d cases of %q: the generator is poor", counts[why], why)
		}
	}
}

// checkBlame checks that the group that is said to have decided does match.
func checkBlame(t *testing.T, s *Set, v Verdict, r Request) {
	t.Helper()
	if v.Reason != AllowedBy && v.Reason != DeniedBy {
		return
	}
	p, ok := s.Policy(v.Policy)
	if !ok || !oracleGroup(p.Groups[v.Group], r) || (p.Action == Deny) != (v.Reason == DeniedBy) {
		t.Fatalf("%v did not decide about %v", v, r)
	}
}
