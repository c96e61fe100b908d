package endpoints_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// TestRefusedFacts: what is wrong is named, and everything else is taken.
func TestRefusedFacts(t *testing.T) {
	zone := netip.MustParseAddr("fe80::1%eth0")
	tests := []struct {
		name   string
		change endpoints.Change
		object string
		field  string
	}{
		{"nil service", endpoints.Change{Services: []*endpoints.Service{nil}}, "Service", ""},
		{"namespace", endpoints.Change{Services: []*endpoints.Service{service("", func(s *endpoints.Service) { s.Namespace = "" })}}, "Service /reviews.app.svc.cluster.local", "Namespace"},
		{"slash", endpoints.Change{Services: []*endpoints.Service{service("", func(s *endpoints.Service) { s.Hostname = "a/b" })}}, "Service app/a/b", "Hostname"},
		{"no address", endpoints.Change{Services: []*endpoints.Service{service("", func(s *endpoints.Service) { s.Addresses = make([]endpoints.NetworkAddress, 1) })}}, "Service " + reviews, "Addresses[0].Prefix"},
		{"service port", endpoints.Change{Services: []*endpoints.Service{service("", func(s *endpoints.Service) { s.Ports = make([]endpoints.Port, 1) })}}, "Service " + reviews, "Ports[0].ServicePort"},
		{"mode", endpoints.Change{Services: []*endpoints.Service{service("", func(s *endpoints.Service) { s.LoadBalancing = &endpoints.LoadBalancing{Mode: 9} })}}, "Service " + reviews, "LoadBalancing.Mode"},
		{"preference", endpoints.Change{Services: []*endpoints.Service{service("", func(s *endpoints.Service) {
			s.LoadBalancing = &endpoints.LoadBalancing{Preference: []endpoints.RoutingScope{1, 99}}
		})}}, "Service " + reviews, "LoadBalancing.Preference[1]"},
		{"waypoint", endpoints.Change{Services: []*endpoints.Service{service("", func(s *endpoints.Service) { s.Waypoint = &endpoints.GatewayAddress{Port: 1} })}}, "Service " + reviews, "Waypoint"},
		{"weighted waypoint", endpoints.Change{Services: []*endpoints.Service{service("", func(s *endpoints.Service) { s.WeightedWaypoints = make([]endpoints.WeightedWaypoint, 1) })}},
			"Service " + reviews, "WeightedWaypoints[0].Destination"},
		{"another's UID", endpoints.Change{Workloads: []*endpoints.Workload{pod("east", "a")}}, "Workload east//Pod/app/a", "UID"},
		{"made-up UID", endpoints.Change{Workloads: []*endpoints.Workload{pod("west", "", func(w *endpoints.Workload) { w.UID = "west/SplitHorizonWorkload/x" })}}, "Workload west/SplitHorizonWorkload/x", "UID"},
		{"another cluster", endpoints.Change{Workloads: []*endpoints.Workload{pod("west", "x", func(w *endpoints.Workload) { w.Cluster = "east" })}}, "Workload west//Pod/app/x", "Cluster"},
		{"zone", endpoints.Change{Workloads: []*endpoints.Workload{pod("west", "x", func(w *endpoints.Workload) { w.Addresses = []netip.Addr{zone} })}}, "Workload west//Pod/app/x", "Addresses[0]"},
		{"membership", endpoints.Change{Workloads: []*endpoints.Workload{pod("west", "x", func(w *endpoints.Workload) { w.Services[0].Service = "reviews" })}}, "Workload west//Pod/app/x", "Services[0].Service"},
		{"twice", endpoints.Change{Workloads: []*endpoints.Workload{pod("west", "x", func(w *endpoints.Workload) { w.Services = append(w.Services, w.Services[0]) })}}, "Workload west//Pod/app/x", "Services"},
		{"membership port", endpoints.Change{Workloads: []*endpoints.Workload{pod("west", "x", func(w *endpoints.Workload) { w.Services[0].Ports[0].ServicePort = 0 })}},
			"Workload west//Pod/app/x", "Services[0].Ports[0].ServicePort"},
		{"policy", endpoints.Change{Workloads: []*endpoints.Workload{pod("west", "x", func(w *endpoints.Workload) { w.AuthorizationPolicies = []string{"a/b", "c"} })}}, "Workload west//Pod/app/x", "AuthorizationPolicies[1]"},
		{"text", endpoints.Change{Workloads: []*endpoints.Workload{pod("west", "x", func(w *endpoints.Workload) { w.Node = "\xff" })}}, "Workload west//Pod/app/x", ""},
		{"tunnel", endpoints.Change{Workloads: []*endpoints.Workload{pod("west", "x", func(w *endpoints.Workload) { w.Tunnel = 2 })}}, "Workload west//Pod/app/x", "Tunnel"},
		{"gateway nowhere", endpoints.Change{Gateways: []*endpoints.Gateway{{Namespace: "a", Name: "b"}}}, "Gateway a/b", "Addresses"},
		{"gateway for nobody", endpoints.Change{Gateways: []*endpoints.Gateway{{Namespace: "a", Name: "b", NoHBONE: true, Hostnames: []string{"h"}}}}, "Gateway a/b", "SNIPort"},
		{"gateway with and without HBONE", endpoints.Change{Gateways: []*endpoints.Gateway{{Namespace: "a", Name: "b", NoHBONE: true, SNIPort: 15443, HBONEPort: 15008, Hostnames: []string{"h"}}}},
			"Gateway a/b", "HBONEPort"},
		{"place", endpoints.Change{Workloads: []*endpoints.Workload{pod("west", "x", inZone("z/1"))}}, "Workload west//Pod/app/x", "Locality"},
		{"gateway network", endpoints.Change{Gateways: []*endpoints.Gateway{{Namespace: "a", Name: "b", Network: "x/y", Hostnames: []string{"h"}}}}, "Gateway a/b", "Network"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMesh(t, endpoints.Config{}, "east", "west")
			tt.change.Cluster = "west"
			tt.change.Workloads = append(tt.change.Workloads, pod("west", "good"))
			err := m.Apply(tt.change)
			e := new(endpoints.FactError)
			if !errors.As(err, &e) || e.Cluster != "west" || e.Object != tt.object || e.Field != tt.field || e.Problem == "" {
				t.Errorf("got %q (%+v), want object %q, field %q", err, e, tt.object, tt.field)
			}
			if _, ok := seen(t, m, endpoints.Client{Network: "west-net", Cluster: "west"})["west//Pod/app/good"]; !ok {
				t.Error("the good workload of the same change was not taken")
			}
		})
	}
}

// TestLastGoodState: an object that is told wrong stays as it was, on resync too.
func TestLastGoodState(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east")
	apply(t, m, endpoints.Change{Cluster: "east", Workloads: []*endpoints.Workload{pod("east", "a"), pod("east", "b")}})
	bad := pod("east", "a", func(w *endpoints.Workload) { w.Tunnel = 9 })
	if err := m.Apply(endpoints.Change{Cluster: "east", Resync: true, Workloads: []*endpoints.Workload{bad}}); err == nil {
		t.Fatal("a bad workload was taken")
	}
	got := seen(t, m, eastNode)
	if w := got["east//Pod/app/a"].Workload; w == nil || w.Tunnel != endpoints.TunnelHBONE {
		t.Errorf("the last good state is gone: %+v", w)
	}
	if _, ok := got["east//Pod/app/b"]; ok {
		t.Error("a workload that the resync did not bring is still there")
	}
}
