package endpoints_test

import (
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// horizon returns the workloads behind reviews that stand for other networks, by name.
func horizon(t *testing.T, m *endpoints.Mesh, c endpoints.Client) []*endpoints.Workload {
	t.Helper()
	var all []*endpoints.Workload
	for _, r := range seen(t, m, c) {
		if r.Workload != nil && r.Workload.NetworkGateway != nil {
			all = append(all, r.Workload)
		}
	}
	slices.SortFunc(all, func(a, b *endpoints.Workload) int { return strings.Compare(a.UID, b.UID) })
	return all
}

func TestHorizonCountsHealthyOnly(t *testing.T) {
	tests := []struct {
		name     string
		pods     []*endpoints.Workload
		service  func(*endpoints.Service)
		capacity uint32
		health   endpoints.Health
		locality endpoints.Locality
	}{
		{"all healthy", []*endpoints.Workload{pod("west", "a"), pod("west", "b")}, nil, 2, endpoints.Healthy, endpoints.Locality{Region: "r1", Zone: "z1"}},
		{"one unhealthy", []*endpoints.Workload{pod("west", "a", inZone("z2")), pod("west", "b", unhealthy)}, nil, 1, endpoints.Healthy, endpoints.Locality{Region: "r1", Zone: "z2"}},
		{"two zones", []*endpoints.Workload{pod("west", "a"), pod("west", "b", inZone("z2"))}, nil, 2, endpoints.Healthy, endpoints.Locality{Region: "r1"}},
		{"none healthy", []*endpoints.Workload{pod("west", "a", unhealthy), pod("west", "b", unhealthy)}, nil, 2, endpoints.Unhealthy, endpoints.Locality{Region: "r1", Zone: "z1"}},
		{"unhealthy ones are served", []*endpoints.Workload{pod("west", "a"), pod("west", "b", unhealthy)},
			func(s *endpoints.Service) {
				s.LoadBalancing = &endpoints.LoadBalancing{HealthPolicy: endpoints.AllowAll}
			}, 2, endpoints.Healthy, endpoints.Locality{Region: "r1", Zone: "z1"}},
		{"by capacity", []*endpoints.Workload{pod("west", "a", func(w *endpoints.Workload) { w.Capacity = new(uint32(7)) }), pod("west", "b")}, nil, 8, endpoints.Healthy, endpoints.Locality{Region: "r1", Zone: "z1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMesh(t, endpoints.Config{}, "east", "west")
			s := service("10.92.0.1")
			if tt.service != nil {
				tt.service(s)
			}
			apply(t, m, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{s}, Workloads: tt.pods})
			all := horizon(t, m, eastNode)
			if len(all) != 1 {
				t.Fatalf("%d workloads stand for west, want 1", len(all))
			}
			if w := all[0]; w.Weight() != tt.capacity || w.Health != tt.health || w.Locality != tt.locality || w.Cluster != "west" || w.Network != "west-net" {
				t.Errorf("capacity %d, %v, in %v; want %d, %v, in %v\n%+v", w.Weight(), w.Health, w.Locality, tt.capacity, tt.health, tt.locality, w)
			}
		})
	}
	t.Run("none at all", func(t *testing.T) {
		m := newMesh(t, endpoints.Config{}, "east", "west")
		apply(t, m, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("10.92.0.1")}})
		if all := horizon(t, m, eastNode); len(all) != 0 {
			t.Errorf("%d workloads stand for nothing", len(all))
		}
	})
}

// TestGateways: several gateways share what is behind them by weight, and those of a cluster lead to it.
func TestGateways(t *testing.T) {
	weigh := func(g *endpoints.Gateway, weight uint32) *endpoints.Gateway { g.Weight = weight; return g }
	ill := func(g *endpoints.Gateway) *endpoints.Gateway { g.Health = endpoints.Unhealthy; return g }
	tests := []struct {
		name     string
		gateways []*endpoints.Gateway
		pods     int
		want     map[string]uint32 // capacity by gateway address
	}{
		{"one", []*endpoints.Gateway{gateway("a", 1)}, 5, map[string]uint32{"172.18.1.100": 5}},
		{"two", []*endpoints.Gateway{gateway("a", 1), gateway("b", 2)}, 5, map[string]uint32{"172.18.1.100": 3, "172.18.2.100": 2}},
		{"weights", []*endpoints.Gateway{weigh(gateway("a", 1), 1), weigh(gateway("b", 2), 3)}, 8, map[string]uint32{"172.18.1.100": 2, "172.18.2.100": 6}},
		{"more gateways than pods", []*endpoints.Gateway{gateway("a", 1), gateway("b", 2)}, 1, map[string]uint32{"172.18.1.100": 1, "172.18.2.100": 1}},
		{"one unhealthy", []*endpoints.Gateway{ill(gateway("a", 1)), gateway("b", 2)}, 4, map[string]uint32{"172.18.2.100": 4}},
		{"all unhealthy", []*endpoints.Gateway{ill(gateway("a", 1)), ill(gateway("b", 2))}, 4, map[string]uint32{"172.18.1.100": 2, "172.18.2.100": 2}},
		{"none", nil, 4, map[string]uint32{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMesh(t, endpoints.Config{}, "east", "west")
			ch := endpoints.Change{Cluster: "west", Resync: true, Services: []*endpoints.Service{service("10.92.0.1")}, Gateways: tt.gateways}
			for i := range tt.pods {
				ch.Workloads = append(ch.Workloads, pod("west", string(rune('a'+i))))
			}
			apply(t, m, ch)
			got := make(map[string]uint32)
			for _, w := range horizon(t, m, eastNode) {
				got[w.NetworkGateway.Address.Addr().String()] = w.Weight()
			}
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestTwoClustersOnOneNetwork: each is shown behind its own gateway; one without shares the network's.
func TestTwoClustersOnOneNetwork(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east", "west")
	for i, id := range []string{"south", "north"} {
		if err := m.SetCluster(endpoints.Cluster{ID: id, Network: "west-net"}); err != nil {
			t.Fatal(err)
		}
		ch := endpoints.Change{Cluster: id, Services: []*endpoints.Service{service("")}, Workloads: []*endpoints.Workload{pod(id, "a")}}
		if id == "south" {
			ch.Gateways = []*endpoints.Gateway{gateway("south", byte(10+i))}
		}
		apply(t, m, ch)
	}
	var got []string
	for _, w := range horizon(t, m, eastNode) {
		got = append(got, w.Cluster+" by "+w.NetworkGateway.String())
	}
	want := []string{
		"north by west-net/172.18.1.100:15008", // north has none of its own
		"north by west-net/172.18.10.100:15008",
		"south by west-net/172.18.10.100:15008",
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	flat := seen(t, m, endpoints.Client{Network: "west-net", Cluster: "south"})
	if flat["north//Pod/app/a"].Workload == nil || flat["south//Pod/app/a"].Workload == nil {
		t.Error("a client on the flat network does not see the pods of both clusters")
	}
}

// TestIdentities: behind a gateway, the client knows whom to expect, each by the trust domain of its own
// cluster.
func TestIdentities(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east", "west")
	if err := m.SetCluster(endpoints.Cluster{ID: "west", Network: "west-net", TrustDomain: "west.example"}); err != nil {
		t.Fatal(err)
	}
	plain := func(w *endpoints.Workload) { w.Tunnel, w.ServiceAccount = endpoints.TunnelNone, "plain" }
	apply(t, m,
		endpoints.Change{Cluster: "east", Services: []*endpoints.Service{service("10.91.0.1")}, Workloads: []*endpoints.Workload{pod("east", "a")}},
		endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("10.92.0.1")}, Workloads: []*endpoints.Workload{pod("west", "a"), pod("west", "b", plain)}})
	got := seen(t, m, eastNode)
	want := []string{"spiffe://west.example/ns/app/sa/reviews"}
	if s := got[reviews].Service; !slices.Equal(s.SubjectAltNames, want) {
		t.Errorf("reviews may be %q, want %q", s.SubjectAltNames, want)
	}
	gw := got["NetworkGateway/west-net/172.18.1.100/0"].Workload
	if gw == nil || gw.Identity() != "spiffe://west.example/ns/istio-system/sa/ew" {
		t.Errorf("the gateway is %+v", gw)
	}
}

// TestSidecarView: sidecars see other networks by locality, through gateways with an SNI port only.
func TestSidecarView(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east", "west")
	sni := gateway("sni", 9)
	sni.SNIPort = 15443
	apply(t, m, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("10.92.0.1")}, Gateways: []*endpoints.Gateway{sni},
		Workloads: []*endpoints.Workload{pod("west", "a"), pod("west", "b", inZone("z2")), pod("west", "c", inZone("z2"))}})
	got := make(map[string]uint32)
	for _, w := range horizon(t, m, endpoints.Client{Network: "east-net", Cluster: "east", Role: endpoints.Sidecar}) {
		got[w.Locality.String()+" by "+w.NetworkGateway.String()] = w.Weight()
	}
	want := map[string]uint32{"r1/z1 by west-net/172.18.9.100:15443": 1, "r1/z2 by west-net/172.18.9.100:15443": 2}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestHorizonHasOnlyPortsThatAreThere: where clusters disagree about ports, each is shown behind those that it has.
func TestHorizonHasOnlyPortsThatAreThere(t *testing.T) {
	on := func(ports ...uint16) []endpoints.Port {
		var all []endpoints.Port
		for _, p := range ports {
			all = append(all, endpoints.Port{ServicePort: p, TargetPort: p})
		}
		return all
	}
	serves := func(ports ...uint16) func(*endpoints.Workload) {
		return func(w *endpoints.Workload) {
			w.Services = []endpoints.ServicePorts{{Service: reviews, Ports: on(ports...)}}
		}
	}
	for _, tt := range []struct {
		name string
		pods []*endpoints.Workload
		want []endpoints.Port // nil: it is not shown
	}{
		{"all", []*endpoints.Workload{pod("west", "a", serves(80, 443))}, on(80, 443)},
		{"some", []*endpoints.Workload{pod("west", "a", serves(80))}, on(80)},
		{"each by another", []*endpoints.Workload{pod("west", "a", serves(443)), pod("west", "b", serves(80))}, on(80, 443)},
		{"others", []*endpoints.Workload{pod("west", "a", serves(81))}, nil},
		{"none", []*endpoints.Workload{pod("west", "a", serves())}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMesh(t, endpoints.Config{}, "east", "west")
			s := service("10.91.0.1")
			s.Ports = on(80, 443)
			first := pod("west", "first", serves(80, 443, 81))
			view := m.View(eastNode)
			defer view.Close()
			apply(t, m, endpoints.Change{Cluster: "east", Services: []*endpoints.Service{s}},
				endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("10.92.0.1")}, Workloads: []*endpoints.Workload{first}})
			apply(t, m, endpoints.Change{Cluster: "west", Workloads: tt.pods, RemovedWorkloads: []string{first.UID}})
			all := horizon(t, m, eastNode)
			var got []endpoints.Port
			for _, w := range all {
				got, _ = w.Ports(reviews)
			}
			if !slices.Equal(got, tt.want) || (len(all) > 0) != (tt.want != nil) {
				t.Errorf("%d workloads, with ports %v; want %v", len(all), got, tt.want)
			}
		})
	}
}

// TestGatewaysThatWouldRefuse: the gateways of a neighbour lead to a cluster without its own, if the neighbour
// sees the service.
func TestGatewaysThatWouldRefuse(t *testing.T) {
	refused := func(s *endpoints.Service) { s.Refused = []string{"west"} }
	for _, tt := range []struct {
		name        string
		west, north *endpoints.Service
		want        int
	}{
		{"has no copy", nil, service(""), 1},
		{"has it, too", service(""), service(""), 1},
		{"has it for itself", service("", local), service(""), 0},
		{"does not accept it", nil, service("", refused), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMesh(t, endpoints.Config{}, "east", "west")
			if err := m.SetCluster(endpoints.Cluster{ID: "north", Network: "west-net"}); err != nil {
				t.Fatal(err)
			}
			view := m.View(eastNode)
			defer view.Close()
			apply(t, m, endpoints.Change{Cluster: "north", Services: []*endpoints.Service{service("")}, Workloads: []*endpoints.Workload{pod("north", "a")}})
			if got := len(horizon(t, m, eastNode)); got != 1 {
				t.Fatalf("%d workloads stand for north, want 1", got)
			}
			ch := endpoints.Change{Cluster: "west"}
			if tt.west != nil {
				ch.Services = []*endpoints.Service{tt.west}
			}
			apply(t, m, ch, endpoints.Change{Cluster: "north", Services: []*endpoints.Service{tt.north}})
			if got := len(horizon(t, m, eastNode)); got != tt.want {
				t.Errorf("%d workloads stand for north, want %d", got, tt.want)
			}
			own := endpoints.Change{Cluster: "north", Gateways: []*endpoints.Gateway{gateway("north", 9)}}
			if apply(t, m, own); len(horizon(t, m, eastNode)) != 1 {
				t.Error("north is not seen through its own gateway")
			}
		})
	}
}

// TestGatewayForSidecarsOnly: a gateway that serves no HBONE is there for sidecars, and for nobody else.
func TestGatewayForSidecarsOnly(t *testing.T) {
	for _, compat := range []endpoints.Compat{endpoints.Native, endpoints.Istio} {
		t.Run(compat.String(), func(t *testing.T) {
			m := newMesh(t, endpoints.Config{Compat: compat}, "east", "west")
			only := gateway("a-sni", 9)
			only.SNIPort, only.NoHBONE = 15443, true
			apply(t, m, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("10.92.0.1")}, Workloads: []*endpoints.Workload{pod("west", "a")},
				Gateways: []*endpoints.Gateway{only}})
			all := horizon(t, m, eastNode)
			if len(all) != 1 || all[0].NetworkGateway.String() != "west-net/172.18.1.100:15008" {
				t.Errorf("a node proxy goes through %+v", all)
			}
			if r, ok := seen(t, m, eastNode)["NetworkGateway/west-net/172.18.9.100/0"]; ok {
				t.Errorf("it has an identity: %+v", r.Workload)
			}
			all = horizon(t, m, endpoints.Client{Network: "east-net", Cluster: "east", Role: endpoints.Sidecar})
			if compat == endpoints.Native && (len(all) != 1 || all[0].NetworkGateway.String() != "west-net/172.18.9.100:15443") {
				t.Errorf("a sidecar goes through %+v", all)
			}
		})
	}
}
