package endpoints

import (
	"cmp"
	"slices"
	"strings"
)

// The split horizon: what backs a service on another network is shown as workloads that stand for the
// gateways there.

// A horizonKey names a part of a service's horizon that is shown, and changes, as one.
type horizonKey struct {
	groupKey        // with Compat Istio, the cluster is empty: a network is one
	sni      bool   // for sidecars
	home     string // with Compat Istio, the client's cluster
}

// A horizon is one such part: through which gateways, standing for how much in which places.
type horizon struct {
	state  *serviceState
	key    horizonKey
	fronts []front
	places []place
	made   []madeHorizon // for views that see the service differently
}

// A place is a locality with what backs the service there.
type place struct {
	Locality
	tally
}

// A madeHorizon is a horizon's workloads, for views that agree on what is in its key.
type madeHorizon struct {
	ports       []Port
	allowAll    bool
	trustDomain string
	workloads   []*Workload
}

func (m *Mesh) newHorizon(s *serviceState, k horizonKey) *horizon {
	h := &horizon{state: s, key: k}
	if m.config.Compat == Istio {
		h.fronts = m.fronts.first(k.network, k.home)
	} else {
		h.fronts = m.fronts.toward(k.groupKey, k.sni)
	}
	sums := make(map[Locality]*tally)
	for gk, g := range s.groups {
		wanted := gk.cluster == k.cluster || m.config.Compat == Istio
		if wanted && gk.network == k.network && s.exports(gk.cluster) {
			addPlaces(sums, g)
		}
	}
	for l, t := range sums {
		h.places = append(h.places, place{l, *t})
	}
	slices.SortFunc(h.places, func(a, b place) int { return a.compare(b.Locality) })
	if !k.sni && len(h.places) > 1 {
		h.places = []place{join(h.places)}
	}
	return h
}

func addPlaces(sums map[Locality]*tally, g *group) {
	for l, t := range g.places {
		if sums[l] == nil {
			sums[l] = new(tally)
		}
		sums[l].merge(t)
	}
}

// join makes one place of several: what they have in common, judged by healthy workloads if there are any.
func join(places []place) place {
	var sum tally
	for i := range places {
		sum.merge(&places[i].tally)
	}
	considered := slices.Clone(places)
	if sum.healthy > 0 {
		considered = slices.DeleteFunc(considered, func(p place) bool { return p.healthy == 0 })
	}
	l := considered[0].Locality
	for _, p := range considered[1:] {
		l = l.common(p.Locality)
	}
	return place{l, sum}
}

func (l Locality) compare(o Locality) int {
	return cmp.Or(strings.Compare(l.Region, o.Region), strings.Compare(l.Zone, o.Zone), strings.Compare(l.Subzone, o.Subzone))
}

// names returns the names of all workloads of the horizon.
func (h *horizon) names(compat Compat) []string {
	names := make([]string, 0, len(h.fronts)*len(h.places))
	for _, g := range h.fronts {
		for _, p := range h.places {
			names = append(names, h.uid(g, p, compat))
		}
	}
	return names
}

// uid names a workload as istiod does; outside of compatible output the cluster follows, and for sidecars
// the place.
func (h *horizon) uid(g front, p place, compat Compat) string {
	parts := []string{h.key.network, horizonUIDPart, g.Namespace, g.Name, g.host(), h.state.key}
	if compat == Native {
		parts = append(parts, h.key.cluster)
		if h.key.sni {
			parts = append(parts, p.Region, p.Zone, p.Subzone)
		}
	}
	return strings.Join(parts, "/")
}

// workloads returns the horizon as it is shown with a merged service. Views that see it alike share the result.
func (h *horizon) workloads(m *Mesh, merged *Service, c Client) []*Workload {
	want := madeHorizon{
		ports:       merged.Ports,
		allowAll:    merged.allowAll(),
		trustDomain: elideTrustDomain(m.horizonTrustDomain(h.key, c)),
	}
	for _, made := range h.made {
		if made.allowAll == want.allowAll && made.trustDomain == want.trustDomain && slices.Equal(made.ports, want.ports) {
			return made.workloads
		}
	}
	for _, p := range h.places {
		shares := split(p.capacity(want.allowAll), h.fronts)
		for i, g := range h.fronts {
			w := h.workload(m.config.Compat, merged, g, p, shares[i])
			w.TrustDomain = want.trustDomain
			want.workloads = append(want.workloads, w)
		}
	}
	h.made = append(h.made, want)
	return want.workloads
}

func (m *Mesh) horizonTrustDomain(k horizonKey, c Client) string {
	if cl := m.clusters[k.cluster]; cl != nil && m.config.Compat == Native {
		return cl.TrustDomain
	}
	return m.meshTrustDomain(c)
}

func (h *horizon) workload(compat Compat, merged *Service, g front, p place, capacity uint32) *Workload {
	uid := h.uid(g, p, compat)
	w := &Workload{
		UID:            uid,
		Name:           uid,
		Namespace:      merged.Namespace,
		Cluster:        h.key.cluster,
		Network:        h.key.network,
		Services:       []ServicePorts{{h.state.key, merged.Ports}},
		NetworkGateway: g.address(g.port(h.key.sni)),
		Tunnel:         TunnelHBONE,
		Type:           Pod,
		Capacity:       &capacity,
		Locality:       p.Locality,
	}
	if p.healthy == 0 {
		w.Health = Unhealthy
	}
	if h.key.sni {
		w.Tunnel = TunnelNone
	}
	if compat == Istio {
		w.Cluster, w.Health, w.Locality = g.cluster, Healthy, Locality{}
		w.Capacity = new(p.istioCapacity())
	}
	return w
}

// split shares a capacity among gateways by their weights. The sum is kept, except that no gateway is left
// without any share, for then it would not be there to fall back to; a capacity of 0 stays 0.
func split(capacity uint32, of []front) []uint32 {
	shares := make([]uint32, len(of))
	if capacity == 0 {
		return shares
	}
	var sum uint64
	for _, g := range of {
		sum += g.weight()
	}
	left := uint64(capacity)
	for i, g := range of {
		shares[i] = uint32(uint64(capacity) * g.weight() / sum)
		left -= uint64(shares[i])
	}
	for i := range shares { // fewer are left than there are gateways
		if left > 0 {
			shares[i]++
			left--
		}
		shares[i] = max(shares[i], 1)
	}
	return shares
}

func (m *Mesh) horizonKey(k groupKey, c Client) horizonKey {
	if m.config.Compat == Istio {
		return horizonKey{groupKey: groupKey{network: k.network}, home: c.Cluster}
	}
	return horizonKey{groupKey: k, sni: c.Role == Sidecar}
}
