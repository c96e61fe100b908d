package authz

import (
	"fmt"
	"net/netip"
	"testing"
)

// manyPolicies makes n policies of so many rules each for the namespace of
// withTLS's destination, of which only the last one lets it in.
func manyPolicies(t testing.TB, n, rules int) *Set {
	policies := make([]Policy, n)
	for i := range policies {
		policies[i] = Policy{Namespace: "dst", Name: fmt.Sprint(i), Scope: ScopeNamespace}
		for j := range rules {
			from := Match{Principals: []StringMatch{exact(fmt.Sprintf("td/ns/n%d/sa/s%d", i, j))}}
			if i == n-1 && j == rules-1 {
				from.Principals = append(from.Principals, exact("td/ns/namespace/sa/account"))
			}
			to := Match{DestinationPorts: []uint16{8080}}
			policies[i].Groups = append(policies[i].Groups, Group{Rules: []Rule{{Matches: []Match{to}}, {Matches: []Match{from}}}})
		}
	}
	return mustCompile(t, policies...)
}

// BenchmarkCheck has 10,000 policies of 10 rules that all apply to the
// workload, as ztunnel's benchmark does.
func BenchmarkCheck(b *testing.B) {
	s := manyPolicies(b, 10_000, 10)
	for name, r := range map[string]Request{"hit": withTLS(), "miss": withOtherTLS(), "plaintext": plaintext()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if s.Check(r).Allowed != (name == "hit") {
					b.Fatal("wrong decision")
				}
			}
		})
	}
}

// BenchmarkCheckUnindexed has 10,000 policies that require nothing exact, the
// worst case of the index.
func BenchmarkCheckUnindexed(b *testing.B) {
	policies := make([]Policy, 10_000)
	for i := range policies {
		policies[i] = Policy{Namespace: "dst", Name: fmt.Sprint(i), Scope: ScopeNamespace, Groups: []Group{
			groupOf(Match{SourceIPs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)}}),
		}}
	}
	s := mustCompile(b, policies...)
	r := withTLS()
	b.ReportAllocs()
	for b.Loop() {
		s.Check(r)
	}
}

func BenchmarkCompile(b *testing.B) {
	var policies []Policy
	for i := range 1000 {
		policies = append(policies, Policy{Namespace: "dst", Name: fmt.Sprint(i), Scope: ScopeNamespace, Groups: []Group{port(uint16(i))}})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(policies); err != nil {
			b.Fatal(err)
		}
	}
}
