package authz

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Set is policies that are ready to be checked. It is immutable and safe for
// concurrent use. The zero value has no policies.
type Set struct {
	policies    map[string]*policy // by key
	global      *bucket
	byNamespace map[string]*bucket
	dryRun      bool // there is any
}

// policy is a compiled Policy.
type policy struct {
	key    string
	source Policy // normalized
	groups []*group
}

// group is a compiled Group.
type group struct {
	policy *policy
	number int // index in the policy
	rules  []rule
}

type rule []match // any; empty matches

// match is a compiled Match. Empty ones are kept as never.
type match struct {
	never                                 bool
	namespaces, notNamespaces             strset
	principals, notPrincipals             strset
	serviceAccounts, notServiceAccounts   []ServiceAccount
	sourceIPs, notSourceIPs               []netip.Prefix
	destinationIPs, notDestinationIPs     []netip.Prefix
	destinationPorts, notDestinationPorts []uint16
}

// A PolicyError says which policy cannot be compiled, and why.
type PolicyError struct {
	Policy string // key
	Field  string // such as groups[0].rules[1].matches[0].sourceIPs[2]; "" for the policy itself
	Err    error  // Unwrap returns it
}

func (e *PolicyError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("authz: policy %q: %v", e.Policy, e.Err)
	}
	return fmt.Sprintf("authz: policy %q: %s: %v", e.Policy, e.Field, e.Err)
}

func (e *PolicyError) Unwrap() error { return e.Err }

// Causes that a PolicyError may have.
var (
	ErrDuplicate = errors.New("another policy has the same namespace and name")
	ErrInvalid   = errors.New("invalid value")
)

// Compile prepares policies. The order does not matter. It fails if any policy
// is invalid, with all the PolicyErrors joined: keep the previous Set then. The
// policies are copied.
func Compile(policies []Policy) (*Set, error) {
	s := &Set{policies: make(map[string]*policy, len(policies)), byNamespace: make(map[string]*bucket), global: &bucket{}}
	sorted := slices.Clone(policies)
	slices.SortFunc(sorted, func(a, b Policy) int { return strings.Compare(a.Key(), b.Key()) })
	var errs []error
	for _, p := range sorted {
		c, err := compile(p)
		if err == nil && s.policies[c.key] != nil {
			err = &PolicyError{Policy: c.key, Err: ErrDuplicate}
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.add(c)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

func (s *Set) add(p *policy) {
	s.policies[p.key] = p
	s.dryRun = s.dryRun || p.source.DryRun
	switch p.source.Scope {
	case ScopeGlobal:
		s.global.add(p)
	case ScopeNamespace:
		b := s.byNamespace[p.source.Namespace]
		if b == nil {
			b = &bucket{}
			s.byNamespace[p.source.Namespace] = b
		}
		b.add(p)
	}
}

// Len returns how many policies there are.
func (s *Set) Len() int { return len(s.policies) }

// Policy returns the policy of a key, "namespace/name". It must not be modified.
func (s *Set) Policy(key string) (Policy, bool) {
	p, ok := s.policies[key]
	if !ok {
		return Policy{}, false
	}
	return p.source, true
}

func compile(p Policy) (*policy, error) {
	c := &policy{key: p.Key(), source: p}
	switch {
	case p.Name == "":
		return nil, &PolicyError{Policy: c.key, Field: "name", Err: fmt.Errorf("%w: it is empty", ErrInvalid)}
	case p.Scope > ScopeWorkload:
		return nil, &PolicyError{Policy: c.key, Field: "scope", Err: fmt.Errorf("%w: %s", ErrInvalid, p.Scope)}
	case p.Action > Deny:
		return nil, &PolicyError{Policy: c.key, Field: "action", Err: fmt.Errorf("%w: %s", ErrInvalid, p.Action)}
	}
	c.source.Groups = make([]Group, len(p.Groups))
	for i, g := range p.Groups {
		out := &group{policy: c, number: i}
		c.source.Groups[i].Rules = make([]Rule, len(g.Rules))
		for j, r := range g.Rules {
			matches := make([]Match, len(r.Matches))
			compiled := make(rule, len(r.Matches))
			for k, m := range r.Matches {
				var err *PolicyError
				if matches[k], err = normalize(m); err != nil {
					err.Policy = c.key
					err.Field = fmt.Sprintf("groups[%d].rules[%d].matches[%d].%s", i, j, k, err.Field)
					return nil, err
				}
				compiled[k] = compileMatch(&matches[k])
			}
			c.source.Groups[i].Rules[j].Matches = matches
			out.rules = append(out.rules, compiled)
		}
		c.groups = append(c.groups, out)
	}
	return c, nil
}

func compileMatch(m *Match) match {
	return match{
		never:               m.empty(),
		namespaces:          newStrset(m.Namespaces),
		notNamespaces:       newStrset(m.NotNamespaces),
		principals:          newStrset(m.Principals),
		notPrincipals:       newStrset(m.NotPrincipals),
		serviceAccounts:     m.ServiceAccounts,
		notServiceAccounts:  m.NotServiceAccounts,
		sourceIPs:           m.SourceIPs,
		notSourceIPs:        m.NotSourceIPs,
		destinationIPs:      m.DestinationIPs,
		notDestinationIPs:   m.NotDestinationIPs,
		destinationPorts:    m.DestinationPorts,
		notDestinationPorts: m.NotDestinationPorts,
	}
}

// normalize copies a match, with its prefixes in the form that conn's addresses
// have.
func normalize(m Match) (Match, *PolicyError) {
	for _, f := range []struct {
		name string
		list *[]StringMatch
	}{
		{"namespaces", &m.Namespaces}, {"notNamespaces", &m.NotNamespaces},
		{"principals", &m.Principals}, {"notPrincipals", &m.NotPrincipals},
	} {
		*f.list = slices.Clone(*f.list)
		for i, s := range *f.list {
			if s.Kind > MatchPresence {
				return m, &PolicyError{Field: fmt.Sprintf("%s[%d]", f.name, i), Err: fmt.Errorf("%w: kind %d", ErrInvalid, s.Kind)}
			}
		}
	}
	for _, f := range []struct {
		name string
		list *[]netip.Prefix
	}{
		{"sourceIPs", &m.SourceIPs}, {"notSourceIPs", &m.NotSourceIPs},
		{"destinationIPs", &m.DestinationIPs}, {"notDestinationIPs", &m.NotDestinationIPs},
	} {
		*f.list = slices.Clone(*f.list)
		for i, p := range *f.list {
			if !p.IsValid() {
				return m, &PolicyError{Field: fmt.Sprintf("%s[%d]", f.name, i), Err: fmt.Errorf("%w: not a prefix", ErrInvalid)}
			}
			(*f.list)[i] = plainPrefix(p)
		}
	}
	m.ServiceAccounts, m.NotServiceAccounts = slices.Clone(m.ServiceAccounts), slices.Clone(m.NotServiceAccounts)
	m.DestinationPorts, m.NotDestinationPorts = slices.Clone(m.DestinationPorts), slices.Clone(m.NotDestinationPorts)
	return m, nil
}

// plainPrefix is plain for prefixes. One of IPv4 addresses mapped into IPv6 is
// meant for the IPv4 addresses.
func plainPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}
