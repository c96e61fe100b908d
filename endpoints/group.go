package endpoints

import (
	"math"
	"slices"
)

// A groupKey says where backends of a service are.
type groupKey struct {
	network, cluster string
}

// A group is the workloads of one cluster on one network that back a service, with the sums that a gateway
// in front of them is shown with. One workload more or less costs the same however many there are.
type group struct {
	members    map[*packed]struct{}
	places     []place        // each once; there are few
	identities []identityUser // each once; there are few
	ports      [][]Port       // the lists of ports that workloads have, each once; replaced when it changes
	portUsers  []int          // of each list
}

// A place is a locality with what is there.
type place struct {
	Locality
	tally
}

type identityUser struct {
	identity
	count int
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
	return &group{members: make(map[*packed]struct{})}
}

// add adds a workload, with the ports on which it backs the service, and reports whether its identity is new.
func (g *group) add(w *packed, ports []Port) bool {
	g.members[w] = struct{}{}
	g.addPorts(ports)
	i := slices.IndexFunc(g.places, func(p place) bool { return p.Locality == w.shape.Locality })
	if i < 0 {
		i = len(g.places)
		g.places = append(g.places, place{Locality: w.shape.Locality})
	}
	g.places[i].add(w)
	for i := range g.identities {
		if g.identities[i].identity == w.identity {
			g.identities[i].count++
			return false
		}
	}
	g.identities = append(g.identities, identityUser{w.identity, 1})
	return true
}

// remove removes a workload, and reports whether its identity is gone.
func (g *group) remove(w *packed, ports []Port) bool {
	delete(g.members, w)
	g.removePorts(ports)
	i := slices.IndexFunc(g.places, func(p place) bool { return p.Locality == w.shape.Locality })
	g.places[i].remove(w)
	if g.places[i].count == 0 {
		g.places = slices.Delete(g.places, i, i+1)
	}
	i = slices.IndexFunc(g.identities, func(u identityUser) bool { return u.identity == w.identity })
	g.identities[i].count--
	if g.identities[i].count > 0 {
		return false
	}
	g.identities = slices.Delete(g.identities, i, i+1)
	return true
}

func (g *group) indexPorts(ports []Port) int {
	return slices.IndexFunc(g.ports, func(list []Port) bool { return slices.Equal(list, ports) })
}

func (g *group) addPorts(ports []Port) {
	i := g.indexPorts(ports)
	if i < 0 {
		i = len(g.ports)
		g.ports, g.portUsers = append(slices.Clip(g.ports), ports), append(g.portUsers, 0)
	}
	g.portUsers[i]++
}

func (g *group) removePorts(ports []Port) {
	i := g.indexPorts(ports)
	if g.portUsers[i]--; g.portUsers[i] == 0 {
		g.ports, g.portUsers = slices.Concat(g.ports[:i], g.ports[i+1:]), slices.Delete(g.portUsers, i, i+1)
	}
}

// served returns those ports of a service that some of its backends have, given their lists of ports.
func served(ports []Port, lists [][]Port) []Port {
	missing := func(p Port) bool {
		return !slices.ContainsFunc(lists, func(list []Port) bool {
			return slices.ContainsFunc(list, func(o Port) bool { return o.ServicePort == p.ServicePort })
		})
	}
	if !slices.ContainsFunc(ports, missing) {
		return ports
	}
	return slices.DeleteFunc(slices.Clone(ports), missing)
}

func (t *tally) add(w *packed) {
	t.count++
	t.weight += uint64(w.weight())
	if w.weight() == 0 {
		t.weightless++
	}
	if w.health == Healthy {
		t.healthy++
		t.healthyWeight += uint64(w.weight())
	}
}

func (t *tally) remove(w *packed) {
	t.count--
	t.weight -= uint64(w.weight())
	if w.weight() == 0 {
		t.weightless--
	}
	if w.health == Healthy {
		t.healthy--
		t.healthyWeight -= uint64(w.weight())
	}
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
