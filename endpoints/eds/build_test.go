package eds

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// placed sets where endpoints are, a "region/zone/node" each.
func placed(pods []endpoints.Endpoint, at ...[3]string) []endpoints.Endpoint {
	for i, p := range at {
		pods[i].Workload.Locality = endpoints.Locality{Region: p[0], Zone: p[1]}
		pods[i].Workload.Node = p[2]
	}
	return pods
}

func TestLocalities(t *testing.T) {
	gateways := NewGateways([]Gateway{
		{Network: "east", Cluster: "e", Addresses: addrs("1.1.1.1"), SNIPort: 15443},
		{Network: "west", Cluster: "w", Addresses: addrs("2.2.2.2"), SNIPort: 15443},
	}, nil)
	all := placed(pods("e/east/10.0.0.1 e/east/10.0.0.2 e/east/10.0.0.3 w/west/10.0.0.1 w/west/10.0.0.2"),
		[3]string{"us", "a", "n1"}, [3]string{"us", "a", "n2"}, [3]string{"us", "b", "n3"}, [3]string{"us", "a", "n4"}, [3]string{"eu", "c", "n5"})
	b := gateways.For(Client{Network: "east", Cluster: "e", Node: "n1", Locality: endpoints.Locality{Region: "us", Zone: "a"}})
	step := func(s ...endpoints.RoutingScope) []endpoints.RoutingScope { return s }
	tests := []struct {
		name string
		lb   *endpoints.LoadBalancing
		want string
	}{
		{
			"gateways are where the endpoints are", nil,
			"eu/c: 2.2.2.2*1 us/a: 10.0.0.1*1 10.0.0.2*1 2.2.2.2*1 us/b: 10.0.0.3*1",
		}, {
			"failover by place", &endpoints.LoadBalancing{Mode: endpoints.ModeFailover, Preference: step(endpoints.SameRegion, endpoints.SameZone)},
			"us/a: 10.0.0.1*1 10.0.0.2*1 2.2.2.2*1 p1 us/b: 10.0.0.3*1 p2 eu/c: 2.2.2.2*1",
		}, {
			"failover within the network first: PreferClose",
			&endpoints.LoadBalancing{Mode: endpoints.ModeFailover, Preference: step(endpoints.SameNetwork, endpoints.SameRegion, endpoints.SameZone)},
			"us/a: 10.0.0.1*1 10.0.0.2*1 p1 us/b: 10.0.0.3*1 p2 us/a: 2.2.2.2*1 p3 eu/c: 2.2.2.2*1",
		}, {
			"failover within the cluster", &endpoints.LoadBalancing{Mode: endpoints.ModeFailover, Preference: step(endpoints.SameCluster)},
			"us/a: 10.0.0.1*1 10.0.0.2*1 us/b: 10.0.0.3*1 p1 eu/c: 2.2.2.2*1 p1 us/a: 2.2.2.2*1",
		}, {
			"strictly the node: internalTrafficPolicy Local", &endpoints.LoadBalancing{Mode: endpoints.ModeStrict, Preference: step(endpoints.SameNode)},
			"us/a: 10.0.0.1*1",
		}, {
			"strictly the network and zone", &endpoints.LoadBalancing{Mode: endpoints.ModeStrict, Preference: step(endpoints.SameNetwork, endpoints.SameZone)},
			"us/a: 10.0.0.1*1 10.0.0.2*1",
		}, {
			"strictly something unknown", &endpoints.LoadBalancing{Mode: endpoints.ModeStrict, Preference: step(endpoints.RoutingScope(99))}, "",
		}, {
			"passed through", &endpoints.LoadBalancing{Mode: endpoints.ModePassthrough, Preference: step(endpoints.SameNode)},
			"eu/c: 2.2.2.2*1 us/a: 10.0.0.1*1 10.0.0.2*1 2.2.2.2*1 us/b: 10.0.0.3*1",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			target := target(all)
			target.Service.LoadBalancing = test.lb
			if got := seen(b.Build(target)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestWhatIsShown(t *testing.T) {
	gateways := NewGateways([]Gateway{
		{Network: "west", Cluster: "w1", Addresses: addrs("2.2.2.1"), SNIPort: 15443, Weight: 3},
		{Network: "west", Cluster: "w1", Addresses: addrs("2.2.2.2"), SNIPort: 15443},
		{Network: "west", Cluster: "w2", Addresses: addrs("2.2.2.3"), HBONEPort: 15008},
		{Network: "west", Cluster: "w3", Addresses: addrs("2.2.2.4"), SNIPort: 15443, Health: endpoints.Unhealthy},
		{Network: "west", Cluster: "w3", Addresses: addrs("2.2.2.5"), SNIPort: 15443},
		{Network: "west", Cluster: "w4", Addresses: addrs("2.2.2.6"), SNIPort: 15443, Health: endpoints.Unhealthy},
	}, nil)
	// The weights of the gateways on the network sum up to 8, of those for sidecars that are healthy to 5, and in
	// w1 to 4: 40 is the least common multiple.
	east := Client{Network: "east", Cluster: "e"}
	one := func(pod string, change func(*endpoints.Workload)) []endpoints.Endpoint {
		all := pods(pod)
		change(all[0].Workload)
		return all
	}
	nothing := func(*endpoints.Workload) {}
	tests := []struct {
		name   string
		client Client
		pods   []endpoints.Endpoint
		change func(*Target)
		want   string
	}{
		{"by the weight of gateways", east, one("w1/west/10.0.0.1", nothing), nil, "2.2.2.1*30 2.2.2.2*10"},
		{"a cluster whose gateways are of the other kind", east, one("w2/west/10.0.0.1", nothing), nil, "2.2.2.1*24 2.2.2.2*8 2.2.2.5*8"},
		{"not through an unhealthy gateway", east, one("w3/west/10.0.0.1", nothing), nil, "2.2.2.5*40"},
		{"unless there is no other", east, one("w4/west/10.0.0.1", nothing), nil, "2.2.2.6*40"},
		{"capacity", east, one("e/east/10.0.0.1", func(w *endpoints.Workload) { w.Capacity = new(uint32(5)) }), nil, "10.0.0.1*200"},
		{"capacity 0", east, one("e/east/10.0.0.1", func(w *endpoints.Workload) { w.Capacity = new(uint32(0)) }), nil, ""},
		{"unhealthy", east, one("e/east/10.0.0.1", func(w *endpoints.Workload) { w.Health = endpoints.Unhealthy }), nil, ""},
		{"unhealthy, but allowed", east, one("e/east/10.0.0.1", func(w *endpoints.Workload) { w.Health = endpoints.Unhealthy }), func(t *Target) {
			t.Service.LoadBalancing = &endpoints.LoadBalancing{HealthPolicy: endpoints.AllowAll}
		}, "10.0.0.1*40"},
		{"of another cluster, not global", east, one("w1/west/10.0.0.1", nothing), func(t *Target) { t.Service.Scope = endpoints.ScopeLocal }, ""},
		{"of the own cluster, not global", east, one("e/east/10.0.0.1", nothing), func(t *Target) { t.Service.Scope = endpoints.ScopeLocal }, "10.0.0.1*40"},
		{"network not wanted", Client{Network: "east", Cluster: "e", Networks: []string{"east"}}, one("w1/west/10.0.0.1", nothing), nil, ""},
		{"network wanted", Client{Network: "east", Cluster: "e", Networks: []string{"east"}}, one("e/east/10.0.0.1", nothing), nil, "10.0.0.1*40"},
		{"without a network", Client{Network: "east", Cluster: "e", Networks: []string{"east"}}, one("e//10.0.0.1", nothing), nil, "10.0.0.1*40"},
		{"IPv6 of a dual-stack pod", Client{Network: "east", Cluster: "e", Families: endpoints.IPv6Only}, one("e/east/10.0.0.1,2001:db8::1", nothing), nil, "2001:db8::1*8"},
		{"IPv4 only to IPv6", Client{Network: "east", Cluster: "e", Families: endpoints.IPv4Only}, one("e/east/2001:db8::1", nothing), nil, ""},
		{"a name that Envoy resolves", east, one("e/east/example.com", nothing), func(t *Target) { t.DNS = true }, "example.com*40"},
		{"a name behind gateways, which resolve it", east, one("w3/west/example.com", nothing), func(t *Target) { t.DNS = true }, "2.2.2.5*40"},
		{"an invalid address", east, one("e/east/10.0.0.1", func(w *endpoints.Workload) { w.Addresses = []netip.Addr{{}} }), nil, ""},
		{"of a view", east, one("w/west/-", func(w *endpoints.Workload) {
			w.NetworkGateway = &endpoints.GatewayAddress{Address: endpoints.HostAddress("west", netip.MustParseAddr("9.9.9.9")), Port: 15443}
		}), nil, "9.9.9.9*40"},
		{"of the view of another role", east, one("w/west/-", func(w *endpoints.Workload) {
			w.NetworkGateway = &endpoints.GatewayAddress{Address: endpoints.HostAddress("west", netip.MustParseAddr("9.9.9.9")), Port: 15008}
			w.Tunnel = endpoints.TunnelHBONE
		}), nil, ""},
		{"of a view, a gateway by name", east, one("w/west/-", func(w *endpoints.Workload) {
			w.NetworkGateway = &endpoints.GatewayAddress{Namespace: "istio-system", Hostname: "gw.example", Port: 15443}
		}), func(t *Target) { t.DNS = true }, "gw.example*40"},
		{"of a view, without an address of the gateway", east, one("w/west/-", func(w *endpoints.Workload) {
			w.NetworkGateway = &endpoints.GatewayAddress{Port: 15443}
		}), nil, ""},
		{"a port that the service lacks", east, one("e/east/10.0.0.1", nothing), func(t *Target) { t.Port = 81 }, ""},
		{"a waypoint without a gateway: not directly", Client{Kind: Waypoint, Network: "east"}, one("n/north/10.0.0.1", nothing), nil, ""},
		{"a sidecar without a gateway: directly", east, one("n/north/10.0.0.1", nothing), nil, "10.0.0.1*40"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			target := target(test.pods)
			if test.change != nil {
				test.change(&target)
			}
			if got := seen(gateways.For(test.client).Build(target)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestPorts(t *testing.T) {
	all := pods("e/east/10.0.0.1 e/east/10.0.0.2 e/east/10.0.0.3 e/east/10.0.0.4")
	all[1].Ports = []endpoints.Port{{ServicePort: 80}}                   // as the service says
	all[2].Ports = []endpoints.Port{{ServicePort: 80, TargetPort: 9090}} // its own
	all[3].Ports = []endpoints.Port{{ServicePort: 443, TargetPort: 8443}}
	a := NewGateways(nil, nil).For(Client{Network: "east", Cluster: "e"}).Build(target(all))
	var got []string
	for _, ep := range a.Localities[0].Endpoints {
		got = append(got, ep.Address.String())
	}
	if want := []string{"10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:9090"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestEndpoints compares each kind of endpoint as a whole.
func TestEndpoints(t *testing.T) {
	gateways := NewGateways([]Gateway{{Network: "west", Cluster: "w", Addresses: addrs("2.2.2.2"), SNIPort: 15443, HBONEPort: 15009}}, nil)
	dual := pods("e/east/10.0.0.1,2001:db8::1")
	dual[0].Workload.WorkloadName, dual[0].Workload.CanonicalRevision = "web", "v2"
	hbone := pods("e/east/10.0.0.1,2001:db8::1")
	hbone[0].Workload.Tunnel = endpoints.TunnelHBONE
	type meta = map[string]map[string]any
	tests := []struct {
		name   string
		client Client
		pods   []endpoints.Endpoint
		want   Endpoint
	}{
		{"direct, mutual TLS", Client{Network: "east", Cluster: "e"}, dual, Endpoint{
			Address: Address{Host: "10.0.0.1", Port: 8080}, Additional: []Address{{Host: "2001:db8::1", Port: 8080}},
			Metadata: meta{
				"istio":                        {"workload": "web;ns;example;v2;e"},
				"envoy.transport_socket_match": {"tlsMode": "istio"},
			},
		}},
		{"direct, HBONE", Client{Kind: Waypoint, Network: "east", Cluster: "e"}, hbone, Endpoint{
			Address: Address{Listener: "connect_originate", ID: "10.0.0.1:8080"},
			Metadata: meta{
				"istio":                               {"workload": ";ns;example;;e"},
				"envoy.transport_socket_match":        {"tunnel": "http"},
				"envoy.filters.listener.original_dst": {"local": "10.0.0.1:8080"},
			},
		}},
		{"gateway, SNI", Client{Network: "east", Cluster: "e"}, pods("w/west/10.0.0.1"), Endpoint{
			Address: Address{Host: "2.2.2.2", Port: 15443},
			Metadata: meta{
				"istio":                        {"workload": ";;;;w"},
				"envoy.transport_socket_match": {"tlsMode": "istio"},
			},
		}},
		{"gateway, double HBONE", Client{Kind: Waypoint, Network: "east", Cluster: "e"}, pods("w/west/10.0.0.1"), Endpoint{
			Address: Address{Listener: "inner_connect_originate", ID: "2.2.2.2:15009"},
			Metadata: meta{
				"istio":                               {"workload": ";;;;w", "double_hbone": map[string]any{"hbone_target_address": "example.ns.svc.cluster.local:80"}},
				"envoy.transport_socket_match":        {"tunnel": "http"},
				"envoy.filters.listener.original_dst": {"local": "2.2.2.2:15009"},
			},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := gateways.For(test.client).Build(target(test.pods))
			test.want.Weight = 1
			if strings.HasPrefix(test.name, "direct") {
				test.want.Health = Healthy
			}
			got := a.Localities[0].Endpoints[0]
			if len(got.Additional) == 0 {
				got.Additional = nil
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

// TestWeightsNeverOverflow: Envoy adds weights up in 32 bits.
func TestWeightsNeverOverflow(t *testing.T) {
	heavy := pods("e/east/10.0.0.1 e/east/10.0.0.2 e/east/10.0.0.3 w/west/10.0.0.1")
	for i, w := range []uint32{math.MaxUint32, math.MaxUint32 / 2, 1, math.MaxUint32} {
		heavy[i].Workload.Capacity = &w
	}
	var many []Gateway
	for i := range 40 { // networks with 1 to 40 gateways: the least common multiple does not fit into 32 bits
		for j := range i + 1 {
			many = append(many, Gateway{Network: fmt.Sprint("n", i), SNIPort: 15443, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{9, byte(i), byte(j), 1})}})
		}
	}
	many = append(many, Gateway{Network: "west", Addresses: addrs("2.2.2.2"), SNIPort: 15443, Weight: math.MaxUint32})
	a := NewGateways(many, nil).For(Client{Network: "east", Cluster: "e"}).Build(target(heavy))
	var total uint64
	for _, ep := range a.Localities[0].Endpoints {
		total += uint64(ep.Weight)
	}
	eps := a.Localities[0].Endpoints
	if total > math.MaxUint32 || total != uint64(a.Localities[0].Weight) || len(eps) != 4 || eps[2].Weight != 1 {
		t.Errorf("weights %s, in all %d", seen(a), total)
	}
	if ratio := float64(eps[0].Weight) / float64(eps[1].Weight); math.Abs(ratio-2) > 0.001 {
		t.Errorf("weights of 2:1 became %v:1", ratio)
	}
}

// TestSharesAgainstOracle holds random meshes to a slow oracle that adds up fractions, and the result to one of the
// same endpoints in another order.
func TestSharesAgainstOracle(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		gateways := randomGateways(rnd)
		all := randomPods(rnd)
		client := Client{Kind: Kind(rnd.IntN(2)), Network: fmt.Sprint("n", rnd.IntN(3)), Cluster: fmt.Sprint("c", rnd.IntN(3)), Families: endpoints.IPFamilies(rnd.IntN(4))}
		a := NewGateways(gateways, nil).For(client).Build(target(all))
		want, got := oracle(client, gateways, all), fractions(a)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: client %+v\n got %v\nwant %v", seed, client, got, want)
		}
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		rnd.Shuffle(len(gateways), func(i, j int) { gateways[i], gateways[j] = gateways[j], gateways[i] })
		if again := NewGateways(gateways, nil).For(client).Build(target(all)); !reflect.DeepEqual(a, again) {
			t.Fatalf("seed %d: in another order %s, not %s", seed, seen(again), seen(a))
		}
	}
}

func randomGateways(rnd *rand.Rand) []Gateway {
	var all []Gateway
	for i := range rnd.IntN(7) {
		g := Gateway{Network: fmt.Sprint("n", rnd.IntN(3)), Cluster: fmt.Sprint("c", rnd.IntN(3)), Weight: rnd.Uint32N(3)}
		if rnd.IntN(3) > 0 {
			g.SNIPort = 15443
		}
		if rnd.IntN(3) > 0 {
			g.HBONEPort = 15008
		}
		g.Addresses = addrs([]string{fmt.Sprintf("2.2.2.%d", i), fmt.Sprintf("2001:db8::%d", i), fmt.Sprintf("2.2.2.%d 2001:db8::%d", i, i)}[rnd.IntN(3)])
		g.Health = endpoints.Health(rnd.IntN(4) / 3)
		all = append(all, g)
	}
	return all
}

func randomPods(rnd *rand.Rand) []endpoints.Endpoint {
	var words string
	for i := range 1 + rnd.IntN(12) {
		words += fmt.Sprintf("c%d/n%d/10.0.0.%d ", rnd.IntN(3), rnd.IntN(3), i)
	}
	all := pods(words)
	for _, e := range all {
		e.Workload.Capacity = new(rnd.Uint32N(4))
		e.Workload.Locality.Zone = fmt.Sprint("z", rnd.IntN(2))
	}
	return all
}

// fractions returns the share of each endpoint, by zone and host.
func fractions(a *Assignment) map[string]string {
	total := new(big.Rat)
	sums := make(map[string]*big.Rat)
	for _, l := range a.Localities {
		for i := range l.Endpoints {
			add(sums, total, l.Zone+" "+hostOf(&l.Endpoints[i]), big.NewRat(int64(l.Endpoints[i].Weight), 1))
		}
	}
	return parts(sums, total)
}

func add(sums map[string]*big.Rat, total *big.Rat, key string, n *big.Rat) {
	if sums[key] == nil {
		sums[key] = new(big.Rat)
	}
	sums[key].Add(sums[key], n)
	total.Add(total, n)
}

func parts(sums map[string]*big.Rat, total *big.Rat) map[string]string {
	all := make(map[string]string)
	for key, n := range sums {
		all[key] = new(big.Rat).Quo(n, total).String()
	}
	return all
}

// oracle says what share each endpoint should have.
func oracle(c Client, gateways []Gateway, all []endpoints.Endpoint) map[string]string {
	total := new(big.Rat)
	sums := make(map[string]*big.Rat)
	for _, e := range all {
		w := e.Workload
		if w.Weight() == 0 {
			continue
		}
		weight := big.NewRat(int64(w.Weight()), 1)
		ofKind := func(g Gateway) bool {
			return g.Network == w.Network && (c.Kind == Sidecar && g.SNIPort != 0 || c.Kind == Waypoint && g.HBONEPort != 0)
		}
		direct := w.Network == c.Network || c.Kind == Sidecar && !slices.ContainsFunc(gateways, ofKind)
		if direct {
			if c.Families != endpoints.IPv6Only {
				add(sums, total, w.Locality.Zone+" "+w.Addresses[0].String(), weight)
			}
			continue
		}
		type way struct {
			g    Gateway
			addr netip.Addr
		}
		var ways []way
		for _, g := range gateways {
			for _, a := range g.Addresses {
				foreign := a.Is6() && c.Families == endpoints.IPv4Only || a.Is4() && c.Families == endpoints.IPv6Only
				if ofKind(g) && !foreign {
					ways = append(ways, way{g, a})
				}
			}
		}
		prefer := func(good func(way) bool) {
			if slices.ContainsFunc(ways, good) {
				ways = slices.DeleteFunc(ways, func(x way) bool { return !good(x) })
			}
		}
		prefer(func(x way) bool { return x.g.Cluster == w.Cluster })
		prefer(func(x way) bool { return x.g.Health == endpoints.Healthy })
		var all int64
		for _, x := range ways {
			all += int64(max(1, x.g.Weight))
		}
		for _, x := range ways {
			share := new(big.Rat).Mul(weight, big.NewRat(int64(max(1, x.g.Weight)), all))
			add(sums, total, w.Locality.Zone+" "+x.addr.String(), share)
		}
	}
	return parts(sums, total)
}

// TestScaleIsDeterministic: where the least common multiple is too large, it is always cut short in the same way.
func TestScaleIsDeterministic(t *testing.T) {
	var all []Gateway
	for i, weight := range []uint32{257, 263, 269, 271} {
		all = append(all, Gateway{Network: fmt.Sprint("n", i), Addresses: addrs("2.2.2.2"), SNIPort: 15443, Weight: weight})
	}
	gateways := NewGateways(all, nil)
	want := ""
	for range 50 {
		got := seen(gateways.For(Client{Network: "east", Cluster: "e"}).Build(target(pods("e/east/10.0.0.1"))))
		if want == "" {
			want = got
		}
		if got != want {
			t.Fatalf("built %s, and before %s", got, want)
		}
	}
}

// TestGatewayForSidecarsOnly: a gateway that serves no HBONE is no way for a waypoint.
func TestGatewayForSidecarsOnly(t *testing.T) {
	g := GatewayOf("w", &endpoints.Gateway{Network: "west", Addresses: addrs("2.2.2.2"), NoHBONE: true, SNIPort: 15443})
	gateways := NewGateways([]Gateway{g}, nil)
	all := target(pods("w/west/10.0.0.1"))
	if got := seen(gateways.For(Client{Network: "east", Cluster: "e"}).Build(all)); got != "2.2.2.2*1" {
		t.Errorf("a sidecar goes by %q", got)
	}
	if got := seen(gateways.For(Client{Network: "east", Cluster: "e", Kind: Waypoint}).Build(all)); got != "" {
		t.Errorf("a waypoint goes by %q", got)
	}
}
