package authz

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func port(p uint16) Group { return groupOf(Match{DestinationPorts: []uint16{p}}) }

func TestOrderOfPolicies(t *testing.T) {
	allow8080 := Policy{Namespace: "dst", Name: "allow", Scope: ScopeNamespace, Groups: []Group{port(1), port(8080)}}
	allowOther := Policy{Namespace: "dst", Name: "other", Scope: ScopeNamespace, Groups: []Group{port(9999)}}
	allowNothing := Policy{Namespace: "dst", Name: "nothing", Scope: ScopeNamespace}
	denyNothing := Policy{Namespace: "dst", Name: "nothing", Scope: ScopeNamespace, Action: Deny}
	deny8080 := Policy{Namespace: "root", Name: "deny", Scope: ScopeGlobal, Action: Deny, Groups: []Group{port(8080)}}
	elsewhere := Policy{Namespace: "src", Name: "deny", Scope: ScopeNamespace, Action: Deny, Groups: []Group{{}}}
	named := Policy{Namespace: "dst", Name: "named", Scope: ScopeWorkload, Groups: []Group{port(8080)}}
	namedDeny := Policy{Namespace: "dst", Name: "namedDeny", Scope: ScopeWorkload, Action: Deny, Groups: []Group{port(8080)}}
	tests := []struct {
		name     string
		policies []Policy
		names    []string
		want     Verdict
	}{
		{"nothing at all", nil, nil, Verdict{true, NoPolicy, "", -1}},
		{"an ALLOW that matches", []Policy{allow8080}, nil, Verdict{true, AllowedBy, "dst/allow", 1}},
		{"an ALLOW that does not", []Policy{allowOther}, nil, Verdict{false, NoMatch, "", -1}},
		{"one ALLOW of two", []Policy{allowOther, allow8080}, nil, Verdict{true, AllowedBy, "dst/allow", 1}},
		{"an ALLOW without rules", []Policy{allowNothing}, nil, Verdict{false, NoMatch, "", -1}},
		{"a DENY without rules", []Policy{denyNothing}, nil, Verdict{true, NoPolicy, "", -1}},
		{"DENY before ALLOW", []Policy{allow8080, deny8080}, nil, Verdict{false, DeniedBy, "root/deny", 0}},
		{"another namespace's", []Policy{elsewhere}, nil, Verdict{true, NoPolicy, "", -1}},
		{"a named one that is not named", []Policy{namedDeny}, nil, Verdict{true, NoPolicy, "", -1}},
		{"named DENY", []Policy{namedDeny, allow8080}, []string{"dst/namedDeny"}, Verdict{false, DeniedBy, "dst/namedDeny", 0}},
		{"named ALLOW", []Policy{named, allowOther}, []string{"dst/named"}, Verdict{true, AllowedBy, "dst/named", 0}},
		{"missing", nil, []string{"dst/gone"}, Verdict{false, MissingPolicy, "dst/gone", -1}},
		{"missing beside an ALLOW that matches", []Policy{allow8080, named}, []string{"dst/gone", "dst/named"}, Verdict{false, MissingPolicy, "dst/gone", -1}},
		{"missing beside a DENY that matches", []Policy{deny8080}, []string{"dst/gone"}, Verdict{false, DeniedBy, "root/deny", 0}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r := withTLS()
			r.Policies = tc.names
			d := mustCompile(t, tc.policies...).Check(r)
			if d.Verdict != tc.want || d.DryRun != tc.want {
				t.Errorf("got %+v, dry run %+v, want %+v", d.Verdict, d.DryRun, tc.want)
			}
		})
	}
}

func TestZeroSetAllows(t *testing.T) {
	var s Set
	if d := s.Check(withTLS()); !d.Allowed || s.Len() != 0 {
		t.Errorf("got %v", d)
	}
	if e := s.Explain(withTLS()); len(e.Policies) != 0 {
		t.Errorf("got %v", e)
	}
}

func TestDryRun(t *testing.T) {
	allowed, refused := Verdict{true, NoPolicy, "", -1}, Verdict{false, NoMatch, "", -1}
	dryDeny := Policy{Namespace: "dst", Name: "dry", Scope: ScopeNamespace, Action: Deny, DryRun: true, Groups: []Group{port(8080)}}
	dryAllow := Policy{Namespace: "dst", Name: "dry", Scope: ScopeWorkload, DryRun: true, Groups: []Group{port(1)}}
	t.Run("deny", func(t *testing.T) {
		d := mustCompile(t, dryDeny).Check(withTLS())
		if d.Verdict != allowed || d.DryRun != (Verdict{false, DeniedBy, "dst/dry", 0}) {
			t.Errorf("got %+v", d)
		}
	})
	t.Run("allow", func(t *testing.T) {
		r := withTLS()
		r.Policies = []string{"dst/dry"}
		d := mustCompile(t, dryAllow).Check(r)
		if d.Verdict != allowed || d.DryRun != refused {
			t.Errorf("got %+v", d)
		}
	})
}

func TestCompileErrors(t *testing.T) {
	good := Policy{Namespace: "a", Name: "p"}
	for _, tc := range []struct {
		name  string
		p     []Policy
		field string
		err   error
	}{
		{"duplicate", []Policy{good, good}, "", ErrDuplicate},
		{"no name", []Policy{{Namespace: "a"}}, "name", ErrInvalid},
		{"scope", []Policy{{Name: "p", Scope: 3}}, "scope", ErrInvalid},
		{"action", []Policy{{Name: "p", Action: 2}}, "action", ErrInvalid},
		{"prefix", []Policy{{Name: "p", Groups: []Group{{}, groupOf(Match{}, Match{NotSourceIPs: make([]netip.Prefix, 1)})}}}, "groups[1].rules[0].matches[1].notSourceIPs[0]", ErrInvalid},
		{"kind", []Policy{{Name: "p", Groups: []Group{groupOf(Match{Principals: []StringMatch{{Kind: 4}}})}}}, "groups[0].rules[0].matches[0].principals[0]", ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Compile(tc.p)
			var pe *PolicyError
			if s != nil || !errors.As(err, &pe) || pe.Field != tc.field || !errors.Is(err, tc.err) {
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
}

func TestCompileCopies(t *testing.T) {
	p := Policy{Namespace: "dst", Name: "p", Scope: ScopeNamespace, Groups: []Group{port(8080)}}
	s := mustCompile(t, p)
	p.Groups[0].Rules[0].Matches[0].DestinationPorts[0] = 1
	if !s.Check(withTLS()).Allowed {
		t.Error("the set changed with the caller's policy")
	}
	if got, ok := s.Policy("dst/p"); !ok || got.Groups[0].Rules[0].Matches[0].DestinationPorts[0] != 8080 {
		t.Errorf("Policy returned %v, %t", got, ok)
	}
}

func TestPeerOfAnotherForm(t *testing.T) {
	r := withTLS()
	r.Peer = spiffeid.RequireFromString("spiffe://td/web")
	if !matches(t, r, groupOf(Match{Principals: []StringMatch{exact("td/web")}})) {
		t.Error("the principal does not match")
	}
	if matches(t, r, groupOf(Match{Namespaces: []StringMatch{present()}})) || matches(t, r, groupOf(Match{ServiceAccounts: []ServiceAccount{{"", ""}}})) {
		t.Error("it has a namespace or a service account")
	}
}

func TestExplain(t *testing.T) {
	s := mustCompile(t,
		Policy{Namespace: "root", Name: "deny", Scope: ScopeGlobal, Action: Deny, Groups: []Group{port(1)}},
		Policy{Namespace: "dst", Name: "allow", Scope: ScopeNamespace, Groups: []Group{
			groupOf(Match{Principals: []StringMatch{exact("td/ns/x/sa/y")}}, Match{DestinationPorts: []uint16{8080}, SourceIPs: cidrs("10.0.0.0/8")}),
		}},
		Policy{Namespace: "dst", Name: "dry", Scope: ScopeNamespace, DryRun: true, Groups: []Group{port(8080)}},
		Policy{Namespace: "dst", Name: "nothing", Scope: ScopeNamespace},
		Policy{Namespace: "other", Name: "p", Scope: ScopeNamespace, Action: Deny, Groups: []Group{{}}},
	)
	got := s.Explain(withTLS()).String()
	want := `spiffe://td/ns/namespace/sa/account from 127.0.0.1 to 127.0.0.2:8080: refused: no ALLOW policy matches
with dry-run policies enforced: allowed: allowed by policy dst/dry, group 0
  root/deny: GLOBAL, DENY: no match; group 0 fails at rule 0 (destinationPorts)
  dst/allow: NAMESPACE, ALLOW: no match; group 0 fails at rule 0 (principals, sourceIPs)
  dst/dry: NAMESPACE, ALLOW (dry run): matches
  dst/nothing: NAMESPACE, ALLOW: has no rules, matches nothing
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	r := plaintext()
	r.Policies = []string{"dst/gone"}
	if got := s.Explain(r).String(); !strings.Contains(got, "policy is missing dst/gone") || !strings.Contains(got, "dst/gone: MISSING") {
		t.Errorf("got:\n%s", got)
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	s := manyPolicies(t, 100, 10)
	r := withTLS()
	if n := testing.AllocsPerRun(100, func() { s.Check(r) }); n > 0 {
		t.Errorf("Check allocates %v times", n)
	}
}

func TestUnknownReason(t *testing.T) {
	if got := Reason(200).String(); got != "Reason(200)" {
		t.Errorf("got %q", got)
	}
}
