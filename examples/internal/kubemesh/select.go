package kubemesh

import (
	"cmp"
	"slices"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// selectServices resolves which of the services that share a hostname are
// published: in each namespace a Service, else the oldest ServiceEntry. The
// canonical one, which clients of other namespaces get, is a Service, else the
// oldest that is not for its namespace only. istiod leaves equal ages to
// chance; here the order of names decides.
func (c *converter) selectServices(all []*service) []*service {
	best := make(map[string]*service) // by namespace/hostname
	for _, s := range all {
		key := s.fact.Key()
		loser, other := s, best[key]
		if other == nil || better(s, other) {
			best[key], loser = s, other
		}
		if loser != nil && loser.source != best[key].source {
			c.warn("ServiceEntry", loser.source, "the host %s is that of %s too, which wins", loser.fact.Hostname, best[key].fact.Name)
		}
	}
	canonical := make(map[string]*service) // by hostname
	for _, s := range sortedServices(best) {
		if !s.kubernetes && s.fact.Visibility == endpoints.VisibleNamespace {
			continue
		}
		if other := canonical[s.fact.Hostname]; other == nil || better(s, other) {
			canonical[s.fact.Hostname] = s
		}
	}
	for _, s := range canonical {
		s.fact.Canonical = true
	}
	return sortedServices(best)
}

// better reports whether a wins over b.
func better(a, b *service) bool {
	if a.kubernetes != b.kubernetes {
		return a.kubernetes
	}
	return a.created().Before(b.created())
}

func sortedServices(services map[string]*service) []*service {
	out := make([]*service, 0, len(services))
	for _, s := range services {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *service) int { return cmp.Compare(a.fact.Key(), b.fact.Key()) })
	return out
}

// find returns the Kubernetes Service of a name.
func (c *converter) find(namespace, name string) *service {
	for _, s := range c.services[namespace] {
		if s.kubernetes && s.fact.Name == name {
			return s
		}
	}
	return nil
}
