package endpoints

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Clusters that have a service of the same namespace and hostname have the same service, if it is global in
// them: namespace sameness. A client of a cluster where it is local sees that cluster's copy alone.
// Otherwise it sees one service: with the addresses and the subject alternative names of all global copies,
// and everything else from one of them, the base.

// base returns the copy that others are merged into, and the rule that chose it.
func base(copies []serviceCopy, home, local string) (serviceCopy, string) {
	for _, cluster := range []string{home, local} {
		for _, c := range copies {
			if c.cluster == cluster {
				return c, RuleLocal
			}
		}
	}
	first := slices.MinFunc(copies, compareAge)
	for _, c := range copies {
		if c.cluster != first.cluster && compareAge(c, first) == 0 {
			return first, RuleClusterID // copies are sorted by it
		}
	}
	return first, RuleOldest
}

// compareAge puts the oldest first, and copies of which it is not known last.
func compareAge(a, b serviceCopy) int {
	if a.Created.IsZero() != b.Created.IsZero() {
		return cmp.Compare(bit(a.Created.IsZero()), bit(b.Created.IsZero()))
	}
	return a.Created.Compare(b.Created)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// merge returns the service as clients of c see it, or nil if they do not. Nodes on other networks are told
// whom to expect behind a gateway.
func (m *Mesh) merge(s *serviceState, c Client) *Service {
	home := s.copyOf(c.Cluster)
	if home != nil && home.Scope != ScopeGlobal {
		return m.here(home, c)
	}
	if home != nil && home.Instance && c.Role != GatewayRole {
		own := *m.here(home, c)
		own.Scope = ScopeLocal
		return &own
	}
	global := s.visibles(c.Cluster)
	if len(global) == 0 {
		return nil
	}
	from, _ := base(global, c.Cluster, m.local)
	merged := *from.Service
	if len(global) > 1 {
		merged.Addresses = unionAddresses(global)
	}
	if home != nil {
		merged.Addresses = m.here(&merged, c).Addresses
	}
	if m.config.VIPs != nil && m.config.Compat == Native && home == nil && c.Role != GatewayRole {
		merged.Addresses = m.vips.complete(s.key, &merged, c.Network)
	}
	merged.SubjectAltNames = m.unionSANs(s, global, c)
	if merged.Equal(from.Service) {
		return from.Service
	}
	return &merged
}

// here returns a service of the client's cluster with its virtual addresses on the client's network, too, if
// that is another one of the cluster's networks: they mean the same on all of them.
func (m *Mesh) here(s *Service, c Client) *Service {
	cl := m.clusters[c.Cluster]
	if m.config.Compat == Istio || cl == nil || cl.Network == c.Network {
		return s
	}
	there := *s
	there.Addresses = slices.Clip(s.Addresses)
	for _, a := range s.Addresses {
		if a.Network == c.Network {
			return s
		}
		if a.Network == cl.Network {
			there.Addresses = append(there.Addresses, NetworkAddress{c.Network, a.Prefix})
		}
	}
	return &there
}

// unionAddresses returns the addresses of all copies, each once, sorted as istiod sorts them.
func unionAddresses(copies []serviceCopy) []NetworkAddress {
	var all []NetworkAddress
	for _, c := range copies {
		all = append(all, c.Addresses...)
	}
	slices.SortFunc(all, func(a, b NetworkAddress) int {
		return strings.Compare(a.Network+"/"+a.Prefix.String(), b.Network+"/"+b.Prefix.String())
	})
	return slices.Compact(all)
}

// unionSANs returns the subject alternative names of all copies and the identities of the backends on other
// networks, sorted.
func (m *Mesh) unionSANs(s *serviceState, copies []serviceCopy, c Client) []string {
	names := make(map[string]struct{})
	for _, copy := range copies {
		for _, n := range copy.SubjectAltNames {
			names[n] = struct{}{}
		}
	}
	for k, g := range s.groups {
		if k.network == c.Network || !s.visible(k.cluster, c.Cluster) {
			continue
		}
		for _, id := range g.identities {
			if m.config.Compat == Istio {
				names[spiffeID(m.meshTrustDomain(c), id.namespace, id.account)] = struct{}{}
			} else if id.hbone {
				names[id.spiffeID()] = struct{}{}
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(names))
}

func (id identity) spiffeID() string {
	return spiffeID(orDefault(id.trustDomain, DefaultTrustDomain), id.namespace, orDefault(id.account, "default"))
}

// meshTrustDomain returns what istiod, which knows but one trust domain, would say: that of the client's
// cluster.
func (m *Mesh) meshTrustDomain(c Client) string {
	for _, id := range []string{c.Cluster, m.local} {
		if cl := m.clusters[id]; cl != nil {
			return cl.TrustDomain
		}
	}
	return DefaultTrustDomain
}
