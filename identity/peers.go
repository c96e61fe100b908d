package identity

import (
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Peers says whom we accept on a hop: the listed identities, and every identity
// of the listed trust domains. The zero value accepts nobody.
type Peers struct {
	IDs          []spiffeid.ID          // exact identities
	TrustDomains []spiffeid.TrustDomain // all of their members
}

// Accepts reports whether an identity is accepted.
func (p Peers) Accepts(id spiffeid.ID) bool {
	if id.IsZero() {
		return false
	}
	return slices.Contains(p.IDs, id) || slices.Contains(p.TrustDomains, id.TrustDomain())
}

// Key returns a canonical form: equal for equal sets whatever their order and
// repetitions, and only for those.
func (p Peers) Key() string {
	names := make([]string, 0, len(p.IDs)+len(p.TrustDomains))
	for _, id := range p.IDs {
		names = append(names, id.String())
	}
	for _, td := range p.TrustDomains {
		names = append(names, td.IDString()+"/*")
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// String lists the set for people: the beginning of it if it is long.
func (p Peers) String() string {
	key := p.Key()
	if key == "" {
		return "nobody"
	}
	const some = 8
	names := strings.SplitN(key, ",", some+1)
	if len(names) > some {
		names[some] = "..."
	}
	return strings.Join(names, ", ")
}

// peerSet is Peers prepared for look-ups, by their canonical names.
type peerSet struct {
	ids     map[spiffeid.ID]struct{}
	domains map[spiffeid.TrustDomain]struct{}
	known   map[spiffeid.TrustDomain]struct{} // those that any accepted ID is of
	aliases Aliases
	peers   Peers // a copy as they were given, for errors
	key     string
}

func newPeerSet(p Peers, aliases Aliases) peerSet {
	s := peerSet{
		ids:     make(map[spiffeid.ID]struct{}, len(p.IDs)),
		domains: make(map[spiffeid.TrustDomain]struct{}, len(p.TrustDomains)),
		known:   make(map[spiffeid.TrustDomain]struct{}),
		aliases: aliases,
		peers:   Peers{IDs: slices.Clone(p.IDs), TrustDomains: slices.Clone(p.TrustDomains)},
		key:     p.Key(),
	}
	for _, id := range p.IDs {
		if !id.IsZero() {
			s.ids[aliases.Canonical(id)] = struct{}{}
			s.known[aliases.resolve(id.TrustDomain())] = struct{}{}
		}
	}
	for _, td := range p.TrustDomains {
		if !td.IsZero() {
			s.domains[aliases.resolve(td)] = struct{}{}
			s.known[aliases.resolve(td)] = struct{}{}
		}
	}
	return s
}

func (s *peerSet) accepts(id spiffeid.ID) bool {
	if _, ok := s.ids[s.aliases.Canonical(id)]; ok {
		return true
	}
	_, ok := s.domains[s.aliases.resolve(id.TrustDomain())]
	return ok
}

// knowsDomain reports whether any member of a trust domain is accepted.
func (s *peerSet) knowsDomain(td spiffeid.TrustDomain) bool {
	_, ok := s.known[s.aliases.resolve(td)]
	return ok
}
