package authz

import (
	"net/netip"
	"slices"
	"strings"
)

// is reports whether the policy has an action and counts: dry-run policies do
// only if asked for.
func (p *policy) is(a Action, dryRun bool) bool {
	return p.source.Action == a && (dryRun || !p.source.DryRun)
}

// match returns the first group that matches, if the policy has that action.
func (p *policy) match(a Action, dryRun bool, c *conn) *group {
	if !p.is(a, dryRun) {
		return nil
	}
	for _, g := range p.groups {
		if g.match(c) {
			return g
		}
	}
	return nil
}

func (g *group) match(c *conn) bool {
	for _, r := range g.rules {
		if !r.match(c) {
			return false
		}
	}
	return true
}

func (r rule) match(c *conn) bool {
	if len(r) == 0 {
		return true
	}
	for i := range r {
		if r[i].failing(c) == "" {
			return true
		}
	}
	return false
}

// failing returns the name of the first field that does not match, "" if all
// do. The cheap ones come first.
func (m *match) failing(c *conn) string {
	switch {
	case m.never:
		return "empty match"
	case len(m.destinationPorts) > 0 && !slices.Contains(m.destinationPorts, c.port):
		return "destinationPorts"
	case slices.Contains(m.notDestinationPorts, c.port):
		return "notDestinationPorts"
	case !m.principals.empty() && !m.principals.principal(c):
		return "principals"
	case m.notPrincipals.principal(c):
		return "notPrincipals"
	case !m.namespaces.empty() && !m.namespaces.contains(c.namespace):
		return "namespaces"
	case m.notNamespaces.contains(c.namespace):
		return "notNamespaces"
	case len(m.serviceAccounts) > 0 && !c.isAccount(m.serviceAccounts):
		return "serviceAccounts"
	case c.isAccount(m.notServiceAccounts):
		return "notServiceAccounts"
	case len(m.sourceIPs) > 0 && !contains(m.sourceIPs, c.source):
		return "sourceIPs"
	case contains(m.notSourceIPs, c.source):
		return "notSourceIPs"
	case len(m.destinationIPs) > 0 && !contains(m.destinationIPs, c.dest):
		return "destinationIPs"
	case contains(m.notDestinationIPs, c.dest):
		return "notDestinationIPs"
	}
	return ""
}

func (c *conn) isAccount(list []ServiceAccount) bool {
	return c.account != ServiceAccount{} && slices.Contains(list, c.account)
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// strset is a list of StringMatches of which one must match.
type strset struct {
	exact    map[string]struct{}
	patterns []StringMatch
}

func newStrset(list []StringMatch) strset {
	var s strset
	for _, m := range list {
		if m.Kind != MatchExact {
			s.patterns = append(s.patterns, m)
			continue
		}
		if s.exact == nil {
			s.exact = make(map[string]struct{}, len(list))
		}
		s.exact[m.Value] = struct{}{}
	}
	return s
}

func (s *strset) empty() bool { return len(s.exact) == 0 && len(s.patterns) == 0 }

// principal matches the peer's identity. Without one nothing matches, not even
// an empty pattern: ztunnel fails on the missing spiffe:// then.
func (s *strset) principal(c *conn) bool { return c.principal != "" && s.contains(c.principal) }

func (s *strset) contains(v string) bool {
	if _, ok := s.exact[v]; ok {
		return true
	}
	for _, m := range s.patterns {
		if m.matches(v) {
			return true
		}
	}
	return false
}

func (m StringMatch) matches(v string) bool {
	switch m.Kind {
	case MatchExact:
		return v == m.Value
	case MatchPrefix:
		return strings.HasPrefix(v, m.Value)
	case MatchSuffix:
		return strings.HasSuffix(v, m.Value)
	case MatchPresence:
		return v != ""
	default:
		return false
	}
}
