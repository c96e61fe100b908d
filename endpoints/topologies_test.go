package endpoints_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// A topology is a way to join clusters: which control planes there are, of which clusters each hears, and
// what then each client sees. docs/topologies.md is about them.
type topology struct {
	name    string
	primary []primary // control planes
	views   []viewOf
}

// A primary is a control plane with its cluster, and the clusters that it has remote secrets of.
type primary struct {
	cluster string
	remotes []string
	facts   map[string]site
}

// A site is a cluster as it is told of.
type site struct {
	network  string
	service  string // address of reviews
	pods     []string
	gateway  string // of its network
	external *remoteMesh
}

// A remoteMesh is one of which only the gateway is known, and a name to ask it for.
type remoteMesh struct{ network, gateway, identity string }

// viewOf is what clients of a control plane see.
type viewOf struct {
	primary int // index
	client  endpoints.Client
	want    []string
}

func node(network, cluster string) endpoints.Client {
	return endpoints.Client{Network: network, Cluster: cluster}
}

func ewGateway(network, cluster string) endpoints.Client {
	return endpoints.Client{Network: network, Cluster: cluster, Role: endpoints.GatewayRole}
}

// Two clusters whose pods have the same addresses, and two that share a network.
var (
	eastSite = site{network: "east-net", service: "10.91.0.1", pods: []string{"10.1.0.10"}, gateway: "172.18.1.100"}
	westSite = site{network: "west-net", service: "10.92.0.1", pods: []string{"10.1.0.10", "10.1.0.11"}, gateway: "172.18.2.100"}
	flatEast = site{network: "flat", service: "10.91.0.1", pods: []string{"10.1.0.10"}}
	flatWest = site{network: "flat", service: "10.92.0.1", pods: []string{"10.2.0.10"}}
)

func topologies() []topology {
	split, flat := map[string]site{"east": eastSite, "west": westSite}, map[string]site{"east": flatEast, "west": flatWest}
	// What clients see does not depend on which control plane they ask.
	eastSplit := []string{
		"reviews at east-net/10.91.0.1 west-net/10.92.0.1",
		"reviews: 2 of west through 172.18.2.100 as istio-system/ew",
		"reviews: east//Pod/app/10.1.0.10",
	}
	westSplit := []string{
		"reviews at east-net/10.91.0.1 west-net/10.92.0.1",
		"reviews: 1 of east through 172.18.1.100 as istio-system/ew",
		"reviews: west//Pod/app/10.1.0.10",
		"reviews: west//Pod/app/10.1.0.11",
	}
	oneNetwork := []string{
		"reviews at flat/10.91.0.1 flat/10.92.0.1",
		"reviews: east//Pod/app/10.1.0.10",
		"reviews: west//Pod/app/10.2.0.10",
	}
	behindWest := []string{
		"reviews at east-net/10.91.0.1 west-net/10.92.0.1",
		"reviews: west//Pod/app/10.1.0.10",
		"reviews: west//Pod/app/10.1.0.11",
	}
	return []topology{
		{"independent", []primary{{"east", nil, split}, {"west", nil, split}}, []viewOf{
			{0, node("east-net", "east"), []string{"reviews at east-net/10.91.0.1", "reviews: east//Pod/app/10.1.0.10"}},
			{1, node("west-net", "west"), []string{"reviews at west-net/10.92.0.1", "reviews: west//Pod/app/10.1.0.10", "reviews: west//Pod/app/10.1.0.11"}},
		}},
		{"co-managed", []primary{{"hub", []string{"east", "west"}, map[string]site{"hub": {network: "hub-net"}, "east": eastSite, "west": westSite}}}, []viewOf{
			{0, node("east-net", "east"), eastSplit},
			{0, node("west-net", "west"), westSplit},
			{0, node("hub-net", "hub"), []string{
				"reviews at east-net/10.91.0.1 hub-net/240.240.0.1 west-net/10.92.0.1", // it has none of its own
				"reviews: 1 of east through 172.18.1.100 as istio-system/ew",
				"reviews: 2 of west through 172.18.2.100 as istio-system/ew",
			}},
		}},
		{"gateway-routed", []primary{
			{"east", nil, map[string]site{"east": {network: "east-net", service: "10.91.0.1", pods: []string{"10.1.0.10"},
				external: &remoteMesh{"west-net", "172.18.2.100", "spiffe://cluster.local/ns/app/sa/reviews"}}}},
			{"west", nil, map[string]site{"west": westSite}},
		}, []viewOf{
			{0, node("east-net", "east"), []string{
				"reviews at east-net/10.91.0.1",
				"reviews: 1 of east through 172.18.2.100 as istio-system/ew", // a cluster that east knows nothing else of
				"reviews: east//Pod/app/10.1.0.10",
			}},
			{1, ewGateway("west-net", "west"), []string{"reviews at west-net/10.92.0.1", "reviews: west//Pod/app/10.1.0.10", "reviews: west//Pod/app/10.1.0.11"}},
		}},
		{"flat-network", []primary{{"east", []string{"west"}, flat}}, []viewOf{
			{0, node("flat", "east"), oneNetwork},
			{0, node("flat", "west"), oneNetwork},
		}},
		{"split-horizon", []primary{{"east", []string{"west"}, split}}, []viewOf{
			{0, node("east-net", "east"), eastSplit},
			{0, ewGateway("west-net", "west"), behindWest},
		}},
		{"multi-primary/one-network", []primary{{"east", []string{"west"}, flat}, {"west", []string{"east"}, flat}}, []viewOf{
			{0, node("flat", "east"), oneNetwork},
			{1, node("flat", "west"), oneNetwork},
		}},
		{"multi-primary/several-networks", []primary{{"east", []string{"west"}, split}, {"west", []string{"east"}, split}}, []viewOf{
			{0, node("east-net", "east"), eastSplit},
			{1, node("west-net", "west"), westSplit},
			{1, ewGateway("west-net", "west"), behindWest},
		}},
		{"primary-remote/one-network", []primary{{"east", []string{"west"}, flat}}, []viewOf{
			{0, node("flat", "west"), oneNetwork}, // served by east
		}},
		{"primary-remote/several-networks", []primary{{"east", []string{"west"}, split}}, []viewOf{
			{0, node("west-net", "west"), westSplit}, // served by east
			{0, ewGateway("west-net", "west"), behindWest},
		}},
		{"mixed", []primary{{"east", []string{"west", "south"}, map[string]site{
			"east": eastSite, "west": westSite,
			"south": {network: "west-net", service: "10.93.0.1", pods: []string{"10.3.0.10"}}, // shares west's network and gateway
		}}}, []viewOf{
			{0, node("east-net", "east"), []string{
				"reviews at east-net/10.91.0.1 west-net/10.92.0.1 west-net/10.93.0.1",
				"reviews: 1 of south through 172.18.2.100 as istio-system/ew",
				"reviews: 2 of west through 172.18.2.100 as istio-system/ew",
				"reviews: east//Pod/app/10.1.0.10",
			}},
			{0, node("west-net", "south"), []string{
				"reviews at east-net/10.91.0.1 west-net/10.92.0.1 west-net/10.93.0.1",
				"reviews: 1 of east through 172.18.1.100 as istio-system/ew",
				"reviews: south//Pod/app/10.3.0.10",
				"reviews: west//Pod/app/10.1.0.10",
				"reviews: west//Pod/app/10.1.0.11",
			}},
		}},
	}
}

// TestTopologies shows what every client sees in every shape of a multicluster mesh.
func TestTopologies(t *testing.T) {
	for _, topology := range topologies() {
		t.Run(topology.name, func(t *testing.T) {
			var meshes []*endpoints.Mesh
			for _, p := range topology.primary {
				meshes = append(meshes, p.start(t))
			}
			for _, v := range topology.views {
				got := describe(t, meshes[v.primary], v.client)
				if diff := gocmp.Diff(v.want, got); diff != "" {
					t.Errorf("%v of %s on %s: -want +got\n%s", v.client.Role, v.client.Cluster, v.client.Network, diff)
				}
			}
			for i, m := range meshes {
				if c := m.Conflicts(); len(c) > 0 {
					t.Errorf("control plane %d: %v", i, c)
				}
			}
		})
	}
}

// TestTopologiesWithoutControlPlane: clients of a cluster see all that they saw while the API server of
// another one is away.
func TestTopologiesWithoutControlPlane(t *testing.T) {
	for _, topology := range topologies() {
		for i, p := range topology.primary {
			m := p.start(t)
			for _, id := range p.remotes {
				if err := m.SetStale(id, longAgo); err != nil {
					t.Fatal(err)
				}
			}
			for _, v := range topology.views {
				if got := describe(t, m, v.client); v.primary == i && !slices.Equal(got, v.want) {
					t.Errorf("%s: %v of %s sees %q", topology.name, v.client.Role, v.client.Cluster, got)
				}
			}
		}
	}
}

// start returns what a control plane knows.
func (p primary) start(t *testing.T) *endpoints.Mesh {
	t.Helper()
	m := endpoints.New(endpoints.Config{VIPs: &fakeVIPs{max: 100, assigned: make(map[string]netip.Addr)}})
	for _, id := range append([]string{p.cluster}, p.remotes...) {
		s := p.facts[id]
		if err := m.SetCluster(endpoints.Cluster{ID: id, Network: s.network, Local: id == p.cluster}); err != nil {
			t.Fatal(err)
		}
		apply(t, m, s.change(id))
	}
	return m
}

func (s site) change(cluster string) endpoints.Change {
	ch := endpoints.Change{Cluster: cluster, Resync: true}
	if s.service != "" {
		ch.Services = append(ch.Services, service(s.service))
	}
	for _, address := range s.pods {
		ch.Workloads = append(ch.Workloads, pod(cluster, address, func(w *endpoints.Workload) {
			w.Addresses = []netip.Addr{netip.MustParseAddr(address)}
		}))
	}
	entrance := func(network, address string) *endpoints.Gateway {
		return &endpoints.Gateway{Namespace: "istio-system", Name: "ew", Network: network, Addresses: []netip.Addr{netip.MustParseAddr(address)}}
	}
	if s.gateway != "" {
		ch.Gateways = append(ch.Gateways, entrance(s.network, s.gateway))
	}
	if x := s.external; x != nil {
		// What a ServiceEntry with an endpoint on another network is, and a Gateway of class istio-remote.
		ch.Gateways = append(ch.Gateways, entrance(x.network, x.gateway))
		ch.Services[0].SubjectAltNames = []string{x.identity}
		ch.Workloads = append(ch.Workloads, pod(cluster, "", func(w *endpoints.Workload) {
			w.UID, w.Name = cluster+"/networking.istio.io/ServiceEntry/app/reviews/"+x.gateway, "reviews"
			w.Network, w.Addresses = x.network, nil
		}))
	}
	return ch
}

// describe writes a view down, a line for each thing, sorted.
func describe(t *testing.T, m *endpoints.Mesh, c endpoints.Client) []string {
	t.Helper()
	view := seen(t, m, c)
	var lines []string
	for _, r := range view {
		switch w := r.Workload; {
		case r.Service != nil:
			var at []string
			for _, a := range r.Service.Addresses {
				at = append(at, a.String())
			}
			slices.Sort(at)
			lines = append(lines, strings.TrimSpace(r.Service.Name+" at "+strings.Join(at, " ")))
		case w.NetworkGateway != nil:
			gateway := view[fmt.Sprintf("NetworkGateway/%s/%s/0", w.Network, w.NetworkGateway.Address.Addr())].Workload
			lines = append(lines, fmt.Sprintf("%s: %d of %s through %s as %s/%s", serviceNames(view, w), w.Weight(), w.Cluster,
				w.NetworkGateway.Address.Addr(), gateway.Namespace, gateway.ServiceAccount))
		case len(w.Services) > 0:
			lines = append(lines, serviceNames(view, w)+": "+w.UID)
		}
	}
	slices.Sort(lines)
	return lines
}

func serviceNames(view map[string]endpoints.Resource, w *endpoints.Workload) string {
	var names []string
	for _, s := range w.Services {
		names = append(names, view[s.Service].Service.Name)
	}
	return strings.Join(names, ",")
}
