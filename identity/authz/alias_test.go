package authz

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/identity"
)

// TestCanonicalPolicies compares with the meaning: a policy matches a peer if it
// matches any of the peer's names.
func TestCanonicalPolicies(t *testing.T) {
	td := spiffeid.RequireTrustDomainFromString
	aliases := identity.Aliases{td("old.example"): td("new.example"), td("older.example"): td("new.example"), td("x.test"): td("y.test")}
	domains := []string{"new.example", "old.example", "older.example", "x.test", "y.test", "z.test"}
	paths := []string{"/ns/app/sa/a", "/ns/app/sa/b", "/sa/a", "/example/ns/app"}
	var values []string
	for _, d := range domains {
		values = append(values, d, d[1:], d[:3], d+"/", "*"+d)
		for _, p := range paths {
			values = append(values, d+p, d[2:]+p, p, p[2:], d+p[:len(p)-1])
		}
	}
	values = append(values, "", "/", "o", "e")
	names := func(id spiffeid.ID) []spiffeid.ID {
		canonical := aliases.Canonical(id)
		out := []spiffeid.ID{canonical}
		for alias, to := range aliases {
			if to == canonical.TrustDomain() {
				out = append(out, spiffeid.RequireFromPath(alias, canonical.Path()))
			}
		}
		return out
	}
	matches := func(m StringMatch, id spiffeid.ID) bool { return m.matches(id.String()[len("spiffe://"):]) }
	checked := 0
	for _, kind := range []MatchKind{MatchExact, MatchPrefix, MatchSuffix, MatchPresence} {
		for _, value := range values {
			m := StringMatch{kind, value}
			policy := Policy{Name: "p", Groups: []Group{{Rules: []Rule{{Matches: []Match{{Principals: []StringMatch{m}}}}}}}}
			set, err := Compile([]Policy{policy.Canonical(aliases)})
			if err != nil {
				t.Fatal(err)
			}
			if len(policy.Groups[0].Rules[0].Matches[0].Principals) != 1 {
				t.Fatal("the policy itself was changed")
			}
			for _, d := range domains {
				for _, p := range paths {
					id := spiffeid.RequireFromPath(td(d), p)
					want := false
					for _, name := range names(id) {
						want = want || matches(m, name)
					}
					if got := set.Check(Request{Peer: aliases.Canonical(id)}).Allowed; got != want {
						t.Errorf("%v of kind %d, peer %s: allowed %t, want %t", m, kind, id, got, want)
					}
					checked++
				}
			}
		}
	}
	if checked < 10_000 {
		t.Errorf("only %d cases", checked)
	}
}

func TestCanonicalWithoutAliases(t *testing.T) {
	p := Policy{Name: "p", Groups: []Group{{Rules: []Rule{{Matches: []Match{{NotPrincipals: []StringMatch{{MatchExact, "a/b"}}}}}}}}}
	if got := p.Canonical(nil); &got.Groups[0] != &p.Groups[0] {
		t.Error("copied for nothing")
	}
	td := spiffeid.RequireTrustDomainFromString
	got := p.Canonical(identity.Aliases{td("a"): td("c")})
	if list := got.Groups[0].Rules[0].Matches[0].NotPrincipals; len(list) != 2 || list[1].Value != "c/b" {
		t.Errorf("negative principals: %v", list)
	}
}
