package endpoints_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

const reviews = "app/reviews.app.svc.cluster.local"

// newMesh returns a mesh of clusters that each have a network of their own and a gateway.
func newMesh(t *testing.T, c endpoints.Config, clusters ...string) *endpoints.Mesh {
	t.Helper()
	m := endpoints.New(c)
	for i, id := range clusters {
		if err := m.SetCluster(endpoints.Cluster{ID: id, Network: id + "-net", Local: i == 0}); err != nil {
			t.Fatal(err)
		}
		apply(t, m, endpoints.Change{Cluster: id, Gateways: []*endpoints.Gateway{gateway("ew", byte(i))}})
	}
	return m
}

func apply(t *testing.T, m *endpoints.Mesh, changes ...endpoints.Change) {
	t.Helper()
	if err := m.Apply(changes...); err != nil {
		t.Fatal(err)
	}
}

func gateway(name string, n byte) *endpoints.Gateway {
	return &endpoints.Gateway{Namespace: "istio-system", Name: name, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{172, 18, n, 100})}}
}

// service returns a global service reviews with an address.
func service(addr string, change ...func(*endpoints.Service)) *endpoints.Service {
	s := &endpoints.Service{
		Name: "reviews", Namespace: "app", Hostname: "reviews.app.svc.cluster.local", Scope: endpoints.ScopeGlobal, Canonical: true,
		Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}},
	}
	if addr != "" {
		s.Addresses = []endpoints.NetworkAddress{endpoints.HostAddress("", netip.MustParseAddr(addr))}
	}
	for _, f := range change {
		f(s)
	}
	return s
}

// pod returns a healthy pod behind reviews.
func pod(cluster, name string, change ...func(*endpoints.Workload)) *endpoints.Workload {
	w := &endpoints.Workload{
		UID: cluster + "//Pod/app/" + name, Name: name, Namespace: "app", ServiceAccount: "reviews",
		Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.10")}, Tunnel: endpoints.TunnelHBONE,
		Services: []endpoints.ServicePorts{{Service: reviews, Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}}}},
		Locality: endpoints.Locality{Region: "r1", Zone: "z1"},
	}
	for _, f := range change {
		f(w)
	}
	return w
}

func unhealthy(w *endpoints.Workload) { w.Health = endpoints.Unhealthy }

func inZone(zone string) func(*endpoints.Workload) {
	return func(w *endpoints.Workload) { w.Locality.Zone = zone }
}

func local(s *endpoints.Service) { s.Scope = endpoints.ScopeLocal }

// seen returns the names in a client's view of what is asked for, and the view.
func seen(t *testing.T, m *endpoints.Mesh, c endpoints.Client) map[string]endpoints.Resource {
	t.Helper()
	v := m.View(c)
	t.Cleanup(func() { v.Close() })
	all := make(map[string]endpoints.Resource)
	for r := range v.Snapshot().All() {
		all[r.Name()] = r
	}
	return all
}

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

var eastNode = endpoints.Client{Network: "east-net", Cluster: "east"}

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

func TestConflicts(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east", "west", "south")
	at := func(unix int64) func(*endpoints.Service) {
		return func(s *endpoints.Service) { s.Created = time.Unix(unix, 0) }
	}
	port := func(p uint16) func(*endpoints.Service) {
		return func(s *endpoints.Service) { s.Ports = []endpoints.Port{{ServicePort: p, TargetPort: p}} }
	}
	tell := func(cluster string, s *endpoints.Service) {
		t.Helper()
		apply(t, m, endpoints.Change{Cluster: cluster, Services: []*endpoints.Service{s}})
	}
	check := func(step string, want ...endpoints.Conflict) {
		t.Helper()
		if diff := gocmp.Diff(want, m.Conflicts()); diff != "" {
			t.Errorf("%s: -want +got\n%s", step, diff)
		}
	}
	conflict := func(field, winner, rule string, values ...string) endpoints.Conflict {
		c := endpoints.Conflict{Service: reviews, Field: field, Winner: winner, Rule: rule}
		for i := 0; i < len(values); i += 2 {
			c.Values = append(c.Values, endpoints.ClusterValue{Cluster: values[i], Value: values[i+1]})
		}
		return c
	}
	tell("west", service("10.92.0.1", at(20), port(80)))
	tell("south", service("10.93.0.1", at(10), port(81)))
	check("the oldest wins", conflict("Ports", "south", endpoints.RuleOldest, "south", "81:81/UNKNOWN", "west", "80:80/UNKNOWN"))
	if s := seen(t, m, eastNode)[reviews].Service; s.Ports[0].ServicePort != 81 {
		t.Errorf("east sees port %d, not that of the oldest copy", s.Ports[0].ServicePort)
	}
	tell("south", service("10.93.0.1", at(20), port(81)))
	check("the first ID wins", conflict("Ports", "south", endpoints.RuleClusterID, "south", "81:81/UNKNOWN", "west", "80:80/UNKNOWN"))
	tell("east", service("10.91.0.1", at(30), port(82)))
	check("the local copy wins", conflict("Ports", "east", endpoints.RuleLocal, "east", "82:82/UNKNOWN", "south", "81:81/UNKNOWN", "west", "80:80/UNKNOWN"))
	tell("south", service("10.93.0.1", port(82), local))
	tell("west", service("", port(82)))
	check("other fields",
		conflict("Headless", "east", endpoints.RuleLocal, "east", "false", "west", "true"),
		conflict("Scope", "east", endpoints.RuleLocal, "east", "GLOBAL", "south", "LOCAL", "west", "GLOBAL"))
	if err := m.SetCluster(endpoints.Cluster{ID: "west", Network: "west-net", TrustDomain: "west.example"}); err != nil {
		t.Fatal(err)
	}
	m.RemoveCluster("south")
	tell("west", service("10.92.0.1", port(82)))
	check("trust domains", conflict("TrustDomain", "east", endpoints.RuleLocal, "east", "cluster.local", "west", "west.example"))
	m.RemoveCluster("west")
	check("all agree")
}

// fakeVIPs hands out addresses in order, but only so many at a time.
type fakeVIPs struct {
	next     byte
	max      int
	assigned map[string]netip.Addr
}

var errNoVIPs = errors.New("none left")

func (f *fakeVIPs) Assign(hostname string) ([]netip.Addr, error) {
	if _, ok := f.assigned[hostname]; !ok {
		if len(f.assigned) == f.max {
			return nil, errNoVIPs
		}
		f.next++
		f.assigned[hostname] = netip.AddrFrom4([4]byte{240, 240, 0, f.next})
	}
	return []netip.Addr{f.assigned[hostname]}, nil
}

func (f *fakeVIPs) Release(hostname string) { delete(f.assigned, hostname) }

// TestVIPs: a service that only others have gets an address on the client's network, for as long as it is
// there.
func TestVIPs(t *testing.T) {
	vips := &fakeVIPs{max: 1, assigned: make(map[string]netip.Addr)}
	m := newMesh(t, endpoints.Config{VIPs: vips}, "east", "west")
	v := m.View(eastNode)
	defer v.Close()
	addresses := func() string {
		if r, ok := v.Snapshot().Get(reviews); ok {
			all := ""
			for _, a := range r.Service.Addresses {
				all += a.String() + " "
			}
			return all
		}
		return "none"
	}
	check := func(step, want string) {
		t.Helper()
		if got := addresses(); got != want {
			t.Errorf("%s: reviews has %q, want %q", step, got, want)
		}
	}
	apply(t, m, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("10.92.0.1")}})
	check("remote only", "west-net/10.92.0.1 east-net/240.240.0.1 ")
	other := service("10.92.0.2", func(s *endpoints.Service) { s.Hostname = "other.app" })
	apply(t, m, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{other}})
	problems := m.Problems()
	if e := new(endpoints.VIPError); len(problems) != 1 || !errors.As(problems[0], &e) || e.Service != "app/other.app" || !errors.Is(e, errNoVIPs) {
		t.Errorf("problems %v", problems)
	}
	apply(t, m, endpoints.Change{Cluster: "east", Services: []*endpoints.Service{service("10.91.0.1")}})
	check("also here", "east-net/10.91.0.1 west-net/10.92.0.1 ")
	apply(t, m, endpoints.Change{Cluster: "east", Services: []*endpoints.Service{service("")}})
	check("headless here", "west-net/10.92.0.1 ")
	apply(t, m, endpoints.Change{Cluster: "east", Resync: true},
		endpoints.Change{Cluster: "west", RemovedServices: []string{reviews}})
	check("gone", "none")
	if a := vips.assigned["other.app"]; a.String() != "240.240.0.2" || len(m.Problems()) != 0 {
		t.Errorf("the other service has %v now that there is room, problems %v", a, m.Problems())
	}
	apply(t, m, endpoints.Change{Cluster: "west", Resync: true})
	if len(vips.assigned) != 0 || len(m.Problems()) != 0 {
		t.Errorf("%d addresses are still assigned, problems %v", len(vips.assigned), m.Problems())
	}
}

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

func TestClusters(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east", "west")
	apply(t, m, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("")}, Workloads: []*endpoints.Workload{pod("west", "a"), pod("west", "b")}})
	since := time.Unix(1000, 0)
	if err := m.SetStale("west", since); err != nil {
		t.Fatal(err)
	}
	want := []endpoints.ClusterStatus{
		{Cluster: endpoints.Cluster{ID: "east", Network: "east-net", TrustDomain: "cluster.local", Local: true}, Gateways: 1},
		{Cluster: endpoints.Cluster{ID: "west", Network: "west-net", TrustDomain: "cluster.local"}, Stale: true, StaleSince: since, Services: 1, Workloads: 2, Gateways: 1},
	}
	if diff := gocmp.Diff(want, m.Clusters()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(horizon(t, m, eastNode)) != 1 {
		t.Error("a stale cluster lost its endpoints")
	}
	apply(t, m, endpoints.Change{Cluster: "west", Resync: true})
	if c := m.Clusters()[1]; c.Stale {
		t.Error("a cluster that resynced is still stale")
	}
	for name, err := range map[string]error{
		"stale":        m.SetStale("nowhere", since),
		"apply":        m.Apply(endpoints.Change{Cluster: "nowhere"}),
		"second local": m.SetCluster(endpoints.Cluster{ID: "west", Local: true}),
		"no ID":        m.SetCluster(endpoints.Cluster{}),
		"slash":        m.SetCluster(endpoints.Cluster{ID: "a/b"}),
		"reserved":     m.SetCluster(endpoints.Cluster{ID: "NetworkGateway"}),
	} {
		if e := new(endpoints.FactError); !errors.As(err, &e) {
			t.Errorf("%s: got %v, want a *FactError", name, err)
		}
	}
	if m.RemoveCluster("nowhere") {
		t.Error("a cluster that is not there was removed")
	}
}

// TestViewsAreShared: equal clients share one view, which ends with the last of them.
func TestViewsAreShared(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east")
	a, b := m.View(eastNode), m.View(eastNode)
	a.Close()
	a.Close() // does not count twice
	apply(t, m, endpoints.Change{Cluster: "east", Workloads: []*endpoints.Workload{pod("east", "a")}})
	if _, ok := b.Snapshot().Get("east//Pod/app/a"); !ok {
		t.Error("the view stopped though one of its users is still there")
	}
	b.Close()
	before := b.Snapshot()
	apply(t, m, endpoints.Change{Cluster: "east", Resync: true})
	if b.Snapshot() != before {
		t.Error("the view goes on after all of its users closed it")
	}
	for range b.Watch(t.Context(), nil) { // ends by itself
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
