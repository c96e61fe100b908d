package endpoints_test

import (
	"slices"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// TestScope: a service that is not global anywhere else, or not at home, is the client's own.
func TestScope(t *testing.T) {
	tests := []struct {
		name             string
		east, west       *endpoints.Service
		addresses        int // of reviews in east; -1: not seen
		horizon, gateway bool
		eastern, foreign bool // pods behind reviews in a view of both clusters' network
	}{
		{"global in both", service("10.91.0.1"), service("10.92.0.1"), 2, true, true, true, true},
		{"local at home", service("10.91.0.1", local), service("10.92.0.1"), 1, false, false, true, false},
		{"local there", service("10.91.0.1"), service("10.92.0.1", local), 1, false, true, true, false},
		{"only there", nil, service("10.92.0.1"), 1, true, true, true, true},
		{"only there, local", nil, service("10.92.0.1", local), -1, false, false, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMesh(t, endpoints.Config{}, "east", "west")
			onEast := func(w *endpoints.Workload) { w.Network = "east-net" }
			east := endpoints.Change{Cluster: "east", Workloads: []*endpoints.Workload{pod("east", "a")}}
			if tt.east != nil {
				east.Services = []*endpoints.Service{tt.east}
			}
			apply(t, m, east, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{tt.west},
				Workloads: []*endpoints.Workload{pod("west", "a"), pod("west", "flat", onEast)}})
			got := seen(t, m, eastNode)
			if s := got[reviews].Service; s == nil && tt.addresses >= 0 || s != nil && len(s.Addresses) != tt.addresses {
				t.Errorf("reviews is %+v, want %d addresses", s, tt.addresses)
			}
			if n := len(horizon(t, m, eastNode)); (n > 0) != tt.horizon {
				t.Errorf("%d workloads stand for west", n)
			}
			if _, ok := got["east//Pod/app/a"].Workload.Ports(reviews); ok != tt.eastern {
				t.Errorf("own pod backs reviews: %v", ok)
			}
			if _, ok := got["west//Pod/app/flat"].Workload.Ports(reviews); ok != tt.foreign {
				t.Errorf("the other cluster's pod on this network backs reviews: %v", ok)
			}
			atGateway := seen(t, m, endpoints.Client{Network: "east-net", Cluster: "east", Role: endpoints.GatewayRole})
			if ok := atGateway[reviews].Service != nil; ok != tt.gateway {
				t.Errorf("the gateway serves reviews: %v", ok)
			}
		})
	}
}

// TestBothSides: a service is seen in a cluster only if its own exports it and that one accepts it.
func TestBothSides(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east", "west", "south")
	refusedBy := func(clusters ...string) func(*endpoints.Service) {
		return func(s *endpoints.Service) { s.Refused = clusters }
	}
	tell := func(refused ...string) {
		apply(t, m, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("10.92.0.1", refusedBy(refused...))},
			Workloads: []*endpoints.Workload{pod("west", "a")}})
	}
	sees := func(cluster string) int { return len(describe(t, m, node(cluster+"-net", cluster))) }
	for _, step := range []struct {
		refused     []string
		east, south int // lines of what is seen
	}{{nil, 2, 2}, {[]string{"south"}, 2, 0}, {[]string{"east", "south"}, 0, 0}, {[]string{"east"}, 0, 2}} {
		tell(step.refused...)
		if east, south := sees("east"), sees("south"); east != step.east || south != step.south || sees("west") != 2 {
			t.Errorf("refused by %v: east sees %d, south %d, west itself %d", step.refused, east, south, sees("west"))
		}
	}
	err := m.Apply(endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("", refusedBy("west"))}})
	if err == nil {
		t.Error("a cluster refuses what it exports")
	}
}

// TestGatewayView: a gateway sees global services, their waypoints, what backs these on its network, and
// nothing else.
func TestGatewayView(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east", "west")
	waypoint := &endpoints.Service{Name: "wp", Namespace: "app", Hostname: "wp.app.svc.cluster.local", Ports: []endpoints.Port{{ServicePort: 15008, TargetPort: 15008}}}
	other := &endpoints.Service{Name: "other", Namespace: "app", Hostname: "other.app.svc.cluster.local"}
	behind := func(name string, services ...string) *endpoints.Workload {
		return pod("east", name, func(w *endpoints.Workload) {
			w.Services = nil
			for _, s := range services {
				w.Services = append(w.Services, endpoints.ServicePorts{Service: s})
			}
		})
	}
	withWaypoint := func(s *endpoints.Service) {
		s.Waypoint = &endpoints.GatewayAddress{Namespace: "app", Hostname: waypoint.Hostname, Port: 15008}
	}
	apply(t, m,
		endpoints.Change{Cluster: "east", Services: []*endpoints.Service{service("10.91.0.1", withWaypoint), waypoint, other}, Workloads: []*endpoints.Workload{
			behind("both", other.Key(), reviews), behind("other", other.Key()), behind("wp", waypoint.Key()), behind("none"),
		}},
		endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("10.92.0.1")}, Workloads: []*endpoints.Workload{pod("west", "a")}},
	)
	client := endpoints.Client{Network: "east-net", Cluster: "east", Role: endpoints.GatewayRole}
	names := func() (all []string) {
		for name := range seen(t, m, client) {
			all = append(all, name)
		}
		slices.Sort(all)
		return all
	}
	want := []string{reviews, waypoint.Key(), "east//Pod/app/both", "east//Pod/app/wp"}
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if w := seen(t, m, client)["east//Pod/app/both"].Workload; len(w.Services) != 1 || w.Services[0].Service != reviews {
		t.Errorf("the gateway sees a pod behind %v", w.Services)
	}
	apply(t, m, endpoints.Change{Cluster: "east", Services: []*endpoints.Service{service("10.91.0.1")}})
	want = []string{reviews, "east//Pod/app/both"}
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("without the waypoint: got %q, want %q", got, want)
	}
}
