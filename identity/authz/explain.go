package authz

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An Explanation is a decision with everything that was looked at. Making one
// is slow; it is for people.
type Explanation struct {
	Request  Request
	Decision Decision
	Policies []PolicyStep // that apply: global, of the namespace, named; by key in each
}

// A PolicyStep says how one policy applies to a request.
type PolicyStep struct {
	Key     string
	Scope   Scope
	Action  Action
	DryRun  bool
	Missing bool // it is named and not there; the rest is zero then
	Matches bool // some group matches
	Groups  []GroupStep
}

// A GroupStep says whether a group of a policy matches.
type GroupStep struct {
	Matches bool

	// Rule is the index of the first rule that does not match, -1 if all do.
	Rule int

	// Fields has, for each match of that rule, the first field that does not
	// match.
	Fields []string
}

// Explain decides like Check and says how.
func (s *Set) Explain(r Request) Explanation {
	e := Explanation{Request: r, Decision: s.Check(r)}
	c := newConn(&r)
	for _, p := range sortedPolicies(s.policies) {
		if p.source.Scope == ScopeGlobal {
			e.Policies = append(e.Policies, p.explain(&c))
		}
	}
	for _, p := range sortedPolicies(s.policies) {
		if p.source.Scope == ScopeNamespace && p.source.Namespace == r.Namespace {
			e.Policies = append(e.Policies, p.explain(&c))
		}
	}
	for _, key := range r.Policies {
		if p := s.policies[key]; p != nil {
			e.Policies = append(e.Policies, p.explain(&c))
		} else {
			e.Policies = append(e.Policies, PolicyStep{Key: key, Missing: true})
		}
	}
	return e
}

func sortedPolicies(m map[string]*policy) []*policy {
	return slices.SortedFunc(maps.Values(m), func(a, b *policy) int { return strings.Compare(a.key, b.key) })
}

func (p *policy) explain(c *conn) PolicyStep {
	step := PolicyStep{Key: p.key, Scope: p.source.Scope, Action: p.source.Action, DryRun: p.source.DryRun}
	for _, g := range p.groups {
		gs := g.explain(c)
		step.Matches = step.Matches || gs.Matches
		step.Groups = append(step.Groups, gs)
	}
	return step
}

func (g *group) explain(c *conn) GroupStep {
	for i, r := range g.rules {
		if r.match(c) {
			continue
		}
		step := GroupStep{Rule: i}
		for j := range r {
			step.Fields = append(step.Fields, r[j].failing(c))
		}
		return step
	}
	return GroupStep{Matches: true, Rule: -1}
}

// String tells the story in a few lines: the verdict first, then a line for
// each policy.
func (e Explanation) String() string {
	var b strings.Builder
	peer := "a peer without identity"
	if !e.Request.Peer.IsZero() {
		peer = e.Request.Peer.String()
	}
	fmt.Fprintf(&b, "%s from %s to %s: %s\n", peer, e.Request.Source.Addr(), e.Request.Destination, e.Decision.Verdict)
	if e.Decision.DryRun != e.Decision.Verdict {
		fmt.Fprintf(&b, "with dry-run policies enforced: %s\n", e.Decision.DryRun)
	}
	for _, p := range e.Policies {
		b.WriteString(p.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// String says what decided, such as "refused: denied by policy app/block, group 1".
func (v Verdict) String() string {
	s := "refused: "
	if v.Allowed {
		s = "allowed: "
	}
	s += v.Reason.String()
	if v.Policy != "" {
		s += " " + v.Policy
	}
	if v.Group >= 0 {
		s += fmt.Sprintf(", group %d", v.Group)
	}
	return s
}

// String is one line about the policy.
func (p PolicyStep) String() string {
	if p.Missing {
		return fmt.Sprintf("  %s: MISSING", p.Key)
	}
	s := fmt.Sprintf("  %s: %s, %s", p.Key, p.Scope, p.Action)
	if p.DryRun {
		s += " (dry run)"
	}
	if len(p.Groups) == 0 {
		return s + ": has no rules, matches nothing"
	}
	if p.Matches {
		return s + ": matches"
	}
	s += ": no match"
	for i, g := range p.Groups {
		s += fmt.Sprintf("; group %d fails at rule %d (%s)", i, g.Rule, strings.Join(g.Fields, ", "))
	}
	return s
}
