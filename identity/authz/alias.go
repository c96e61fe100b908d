package authz

import (
	"maps"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/identity"
)

// Canonical returns the policy as it is to be asked about peers by their
// canonical names (see identity.Aliases.Canonical): a principal of a trust
// domain means the same one of each alias of it, and the other way round. That
// is what istiod makes of trustDomainAliases for sidecars, and does not make
// for ztunnel.
func (p Policy) Canonical(aliases identity.Aliases) Policy {
	if len(aliases) == 0 {
		return p
	}
	p.Groups = slices.Clone(p.Groups)
	for i := range p.Groups {
		rules := slices.Clone(p.Groups[i].Rules)
		for j := range rules {
			matches := slices.Clone(rules[j].Matches)
			for k := range matches {
				matches[k].Principals = canonical(matches[k].Principals, aliases)
				matches[k].NotPrincipals = canonical(matches[k].NotPrincipals, aliases)
			}
			rules[j].Matches = matches
		}
		p.Groups[i].Rules = rules
	}
	return p
}

// canonical keeps what is there, as it may match canonical names by itself, and
// adds what it matches by an alias.
func canonical(list []StringMatch, aliases identity.Aliases) []StringMatch {
	out := slices.Clone(list)
	for _, m := range list {
		for _, alias := range slices.SortedFunc(maps.Keys(aliases), spiffeid.TrustDomain.Compare) {
			if added, ok := m.byAlias(alias.Name(), aliases[alias].Name()); ok {
				out = append(out, added)
			}
		}
	}
	return out
}

// byAlias returns what matches the canonical names of those whose names by an
// alias m matches. A principal is TRUST-DOMAIN/PATH.
func (m StringMatch) byAlias(alias, to string) (StringMatch, bool) {
	domain, path, whole := strings.Cut(m.Value, "/")
	switch {
	case m.Kind == MatchExact && whole && domain == alias:
		return StringMatch{MatchExact, to + "/" + path}, true
	case m.Kind == MatchPrefix && whole && domain == alias:
		return StringMatch{MatchPrefix, to + "/" + path}, true
	case m.Kind == MatchPrefix && !whole && strings.HasPrefix(alias, domain):
		return StringMatch{MatchPrefix, to + "/"}, true
	case m.Kind == MatchSuffix && whole && domain != "" && strings.HasSuffix(alias, domain):
		return StringMatch{MatchExact, to + "/" + path}, true
	}
	return StringMatch{}, false
}
