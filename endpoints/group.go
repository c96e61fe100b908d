package endpoints

import "math"

// A groupKey says where backends of a service are.
type groupKey struct {
	network, cluster string
}

// A group is the workloads of one cluster on one network that back a service, with the sums that a gateway
// in front of them is shown with. One workload more or less costs the same however many there are.
type group struct {
	members    map[*packed]struct{}
	places     map[Locality]*tally
	identities map[identity]int
}

// A tally sums up workloads in one place.
type tally struct {
	count, healthy        int
	weight, healthyWeight uint64
	weightless            int // those of capacity 0
}

// An identity is what a backend proves to be.
type identity struct {
	trustDomain, namespace, account string
	hbone                           bool
}

func newGroup() *group {
	return &group{
		members:    make(map[*packed]struct{}),
		places:     make(map[Locality]*tally),
		identities: make(map[identity]int),
	}
}

// add adds a workload, and reports whether its identity is new.
func (g *group) add(w *packed) bool {
	g.members[w] = struct{}{}
	t := g.places[w.shape.Locality]
	if t == nil {
		t = new(tally)
		g.places[w.shape.Locality] = t
	}
	t.count++
	t.weight += uint64(w.weight())
	if w.weight() == 0 {
		t.weightless++
	}
	if w.health == Healthy {
		t.healthy++
		t.healthyWeight += uint64(w.weight())
	}
	g.identities[w.identity]++
	return g.identities[w.identity] == 1
}

// remove removes a workload, and reports whether its identity is gone.
func (g *group) remove(w *packed) bool {
	delete(g.members, w)
	t := g.places[w.shape.Locality]
	t.count--
	t.weight -= uint64(w.weight())
	if w.weight() == 0 {
		t.weightless--
	}
	if w.health == Healthy {
		t.healthy--
		t.healthyWeight -= uint64(w.weight())
	}
	if t.count == 0 {
		delete(g.places, w.shape.Locality)
	}
	g.identities[w.identity]--
	if g.identities[w.identity] == 0 {
		delete(g.identities, w.identity)
		return true
	}
	return false
}

func (t *tally) merge(o *tally) {
	t.count += o.count
	t.healthy += o.healthy
	t.weight += o.weight
	t.healthyWeight += o.healthyWeight
	t.weightless += o.weightless
}

// capacity returns the weight that connections to these workloads should have: of the healthy ones, unless
// unhealthy ones are served too or there are only such.
func (t *tally) capacity(allowAll bool) uint32 {
	if allowAll || t.healthy == 0 {
		return saturate(t.weight)
	}
	return saturate(t.healthyWeight)
}

// istioCapacity counts as istiod does: every workload, healthy or not, and those of capacity 0 as 1.
func (t *tally) istioCapacity() uint32 { return saturate(t.weight + uint64(t.weightless)) }

func saturate(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }

// common returns the place that a and b are both in.
func (l Locality) common(o Locality) Locality {
	switch {
	case l == o:
		return l
	case l.Region != o.Region:
		return Locality{}
	case l.Zone != o.Zone:
		return Locality{Region: l.Region}
	}
	return Locality{Region: l.Region, Zone: l.Zone}
}
