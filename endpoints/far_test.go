package endpoints_test

import (
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// A sharingMesh is four clusters that all have reviews, with a view each.
type sharingMesh struct {
	*testing.T
	*endpoints.Mesh
	clusters []string
	views    map[string]*endpoints.View
	changes  int
}

func newSharingMesh(t *testing.T) *sharingMesh {
	s := &sharingMesh{T: t, clusters: []string{"a", "b", "c", "d"}, views: make(map[string]*endpoints.View)}
	s.Mesh = newMesh(t, endpoints.Config{}, s.clusters...)
	for _, id := range s.clusters {
		apply(t, s.Mesh, endpoints.Change{Cluster: id, Services: []*endpoints.Service{service("10.92.0.1")}, Workloads: []*endpoints.Workload{pod(id, "x")}})
	}
	for _, id := range s.clusters {
		s.views[id] = s.View(endpoints.Client{Network: id + "-net", Cluster: id})
		t.Cleanup(func() { s.views[id].Close() })
	}
	return s
}

// sees checks how many workloads on other networks each view shows, and that views differ in as many sets,
// once those that are the same had some changes to meet.
func (s *sharingMesh) sees(sets int, far map[string]int) {
	s.Helper()
	for range 100 {
		if endpoints.FarSets(s.Mesh) == sets {
			break
		}
		s.changePod()
	}
	if n := endpoints.FarSets(s.Mesh); n != sets {
		s.Errorf("views have %d sets, want %d", n, sets)
	}
	for _, id := range s.clusters {
		n := 0
		for r := range s.views[id].Snapshot().All() {
			if r.Workload != nil && r.Workload.NetworkGateway != nil {
				n++
			}
		}
		if n != far[id] {
			s.Errorf("%s sees %d workloads on other networks, want %d", id, n, far[id])
		}
	}
}

// changePod changes the capacity of a pod.
func (s *sharingMesh) changePod() {
	s.changes++
	id := s.clusters[s.changes%len(s.clusters)]
	w := pod(id, "x")
	w.Capacity = new(uint32(s.changes))
	apply(s.T, s.Mesh, endpoints.Change{Cluster: id, Workloads: []*endpoints.Workload{w}})
}

func (s *sharingMesh) setService(id string, change ...func(*endpoints.Service)) {
	apply(s.T, s.Mesh, endpoints.Change{Cluster: id, Services: []*endpoints.Service{service("10.92.0.1", change...)}})
}

// TestViewsShareTheHorizon: views on different networks have one set of what is on others, unless services
// do not look alike to them, and again when they do.
func TestViewsShareTheHorizon(t *testing.T) {
	s := newSharingMesh(t)
	all := map[string]int{"a": 3, "b": 3, "c": 3, "d": 3}
	s.sees(1, all)
	s.changePod()
	if n := endpoints.FarSets(s.Mesh); n != 1 {
		t.Errorf("after a change, views have %d sets", n)
	}
	s.setService("a", local)
	s.sees(2, map[string]int{"b": 2, "c": 2, "d": 2})
	s.setService("a")
	s.sees(1, all)
	ports := func(s *endpoints.Service) { s.Ports = []endpoints.Port{{ServicePort: 80, TargetPort: 9090}} }
	s.setService("a", ports)
	s.setService("b", ports)
	s.sees(2, all)
	s.setService("c", ports)
	s.setService("d", ports)
	s.sees(1, all)
}

// TestNoNewsFromOwnNetwork: how others see a client's own network is no news to it.
func TestNoNewsFromOwnNetwork(t *testing.T) {
	s := newSharingMesh(t)
	if n := s.views["a"].Snapshot().Version(); n != 1 {
		t.Errorf("views on other networks were opened, which made %d states more", n-1)
	}
	other := endpoints.Client{Network: "a-net", Cluster: "b"}
	v := s.View(other)
	t.Cleanup(func() { v.Close() })
	before, seen := v.Snapshot(), s.views["b"].Snapshot()
	apply(t, s.Mesh, endpoints.Change{Cluster: "a", Gateways: []*endpoints.Gateway{gateway("ew", 0), gateway("ew2", 9)}})
	if now := v.Snapshot(); now != before {
		t.Errorf("a gateway of the client's own network makes another state: %+v", now.Since(before))
	}
	if d := s.views["b"].Snapshot().Since(seen); len(d.Upserts) == 0 {
		t.Error("nor does it make one of a view of another network")
	}
}
