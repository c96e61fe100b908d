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

// A horizon is one such part: through which gateways, standing for how much in which places. Views that see
// it alike share its workloads.
type horizon struct {
	state   *serviceState
	key     horizonKey
	stale   bool   // something that it is made of changed
	version uint64 // of the gateways
	fronts  []front
	places  []place
	ports   [][]Port // that backends have, as in a group; with Compat Istio, it does not matter which
	names   []string // of its workloads, by gateway and place
	before  []string // their names before the last change
	made    []madeHorizon
	last    []madeHorizon // before the last change, where the names are the same
}

// A madeHorizon is a horizon's workloads, for views that agree on what is in its key.
type madeHorizon struct {
	ports       []Port
	allowAll    bool
	trustDomain string
	workloads   []*packed
}

func (a *madeHorizon) alike(b *madeHorizon) bool {
	return a.allowAll == b.allowAll && a.trustDomain == b.trustDomain && slices.Equal(a.ports, b.ports)
}

// newHorizon makes a part of a service's horizon, of which prev (or nil) is the last state.
func (m *Mesh) newHorizon(s *serviceState, k horizonKey, prev *horizon) *horizon {
	h := &horizon{state: s, key: k, version: m.frontsVersion, places: m.places(s, k)}
	same := prev != nil && prev.version == h.version
	if same {
		h.fronts = prev.fronts
	} else if m.config.Compat == Istio {
		h.fronts = m.fronts.first(k.network, k.home)
	} else {
		h.fronts = m.toward(s, k)
	}
	if g := s.groups[k.groupKey]; g != nil {
		h.ports = g.ports
	}
	if prev != nil {
		h.before = prev.names
	}
	if same && slices.EqualFunc(h.places, prev.places, func(a, b place) bool { return a.Locality == b.Locality }) {
		h.names, h.last = prev.names, prev.made
	} else {
		h.names = h.uids(m.config.Compat)
	}
	return h
}

// places returns where the backends are that a part of the horizon stands for, sorted.
func (m *Mesh) places(s *serviceState, k horizonKey) []place {
	var all []place
	if m.config.Compat == Istio {
		for gk, g := range s.groups {
			if gk.network == k.network && s.exports(gk.cluster) {
				all = append(all, g.places...)
			}
		}
	} else if g := s.groups[k.groupKey]; g != nil && s.exports(k.cluster) {
		all = slices.Clone(g.places)
	}
	if !k.sni && len(all) > 1 {
		return []place{join(all)}
	}
	slices.SortFunc(all, func(a, b place) int { return a.compare(b.Locality) })
	return all
}

// join makes one place of several: what they have in common, judged by healthy workloads if there are any.
func join(places []place) place {
	var sum tally
	for i := range places {
		sum.merge(&places[i].tally)
	}
	first, l := true, Locality{}
	for _, p := range places {
		switch {
		case sum.healthy > 0 && p.healthy == 0:
		case first:
			first, l = false, p.Locality
		default:
			l = l.common(p.Locality)
		}
	}
	return place{l, sum}
}

func (l Locality) compare(o Locality) int {
	return cmp.Or(strings.Compare(l.Region, o.Region), strings.Compare(l.Zone, o.Zone), strings.Compare(l.Subzone, o.Subzone))
}

// uids returns the names of all workloads of the horizon.
func (h *horizon) uids(compat Compat) []string {
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
func (h *horizon) workloads(m *Mesh, merged *Service, c Client) []*packed {
	want := madeHorizon{
		ports:       merged.Ports,
		allowAll:    merged.allowAll(),
		trustDomain: elideTrustDomain(m.horizonTrustDomain(h.key, c)),
	}
	if m.config.Compat == Native {
		want.ports = served(merged.Ports, h.ports)
		if len(want.ports) == 0 && len(merged.Ports) > 0 {
			return nil // none of the ports that the client knows is there
		}
	}
	for i := range h.made {
		if h.made[i].alike(&want) {
			return h.made[i].workloads
		}
	}
	var last []*packed
	for i := range h.last {
		if h.last[i].alike(&want) {
			last = h.last[i].workloads
		}
	}
	want.workloads = make([]*packed, len(h.names))
	for i, p := range h.places {
		shares := split(p.capacity(want.allowAll), h.fronts)
		for j, g := range h.fronts {
			at := j*len(h.places) + i
			w := &packed{uid: h.names[at], weighed: true, capacity: shares[j]}
			w.setOwn(w.uid, nil)
			h.finishWorkload(m.config.Compat, p, w)
			if last != nil {
				w.kind = last[at].kind
			} else {
				w.kind = h.kind(m.config.Compat, merged.Namespace, g, p, &want)
			}
			want.workloads[at] = w
		}
	}
	h.made = append(h.made, want)
	return want.workloads
}

// finishWorkload says how well the workload is. istiod's is always well.
func (h *horizon) finishWorkload(compat Compat, p place, w *packed) {
	if compat == Istio {
		w.capacity = p.istioCapacity()
	} else if p.healthy == 0 {
		w.health = Unhealthy
	}
}

func (m *Mesh) horizonTrustDomain(k horizonKey, c Client) string {
	if cl := m.clusters[k.cluster]; cl != nil && m.config.Compat == Native {
		return cl.TrustDomain
	}
	return m.meshTrustDomain(c)
}

func (h *horizon) kind(compat Compat, namespace string, g front, p place, as *madeHorizon) *kind {
	shape := Workload{
		Namespace:      namespace,
		Cluster:        h.key.cluster,
		Network:        h.key.network,
		Services:       []ServicePorts{{h.state.key, as.ports}},
		NetworkGateway: g.address(g.port(h.key.sni)),
		TrustDomain:    as.trustDomain,
		Tunnel:         TunnelHBONE,
		Type:           Pod,
		Locality:       p.Locality,
	}
	if h.key.sni {
		shape.Tunnel = TunnelNone
	}
	if compat == Istio {
		shape.Cluster, shape.Locality = g.cluster, Locality{}
	}
	return newKind(&shape)
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
