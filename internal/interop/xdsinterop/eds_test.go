package xdsinterop

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"istio.io/istio/pilot/pkg/model"
	istioeds "istio.io/istio/pilot/pkg/xds/endpoints"
	istioxds "istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/cluster"
	"istio.io/istio/pkg/config/protocol"
	"istio.io/istio/pkg/network"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/eds"
)

const (
	host      = "web.app.svc.cluster.local"
	edsTarget = "outbound|80||" + host
)

// gatewaysOfFour are those of a mesh of four networks: one has none, one has four in two clusters.
func gatewaysOfFour() (ours []eds.Gateway, theirs []model.NetworkGateway) {
	for _, g := range []struct{ network, cluster, addr string }{
		{"network1", "cluster1", "192.0.2.1"},
		{"network2", "cluster2", "192.0.2.2"},
		{"network2", "cluster2", "2001:db8::2"}, // else istiod would have no way there for IPv6, where we go by cluster3
		{"network2", "cluster3", "192.0.2.3"},
		{"network2", "cluster3", "2001:db8::3"},
		{"network3", "", "192.0.2.9"},
	} {
		ours = append(ours, eds.Gateway{Network: g.network, Cluster: g.cluster, Addresses: []netip.Addr{netip.MustParseAddr(g.addr)}, SNIPort: 15443})
		theirs = append(theirs, model.NetworkGateway{Network: network.ID(g.network), Cluster: cluster.ID(g.cluster), Addr: g.addr, Port: 15443})
	}
	return ours, theirs
}

// podsOfFour are the endpoints on them.
func podsOfFour() (ours []endpoints.Endpoint, theirs map[cluster.ID][]*model.IstioEndpoint) {
	theirs = map[cluster.ID][]*model.IstioEndpoint{}
	for i, p := range []struct {
		cluster, network, locality string
		weight                     uint32
	}{
		{"cluster1", "network1", "eu/a", 1}, {"cluster1", "network1", "eu/b", 3}, {"cluster4", "network1", "eu/a", 1},
		{"cluster2", "network2", "us/a", 1}, {"cluster3", "network2", "us/a", 2}, {"cluster3", "network2", "us/b", 1},
		{"cluster5", "network2", "us/b", 5}, {"cluster6", "network3", "eu/a", 1}, {"cluster7", "network4", "eu/a", 1},
	} {
		addr := fmt.Sprintf("10.0.0.%d", i+1)
		name := fmt.Sprint("web-", i)
		region, zone := p.locality[:2], p.locality[3:]
		ours = append(ours, endpoints.Endpoint{
			Workload: &endpoints.Workload{
				UID: p.cluster + "//Pod/app/" + name, Cluster: p.cluster, Network: p.network, Namespace: "app",
				WorkloadName: "web", CanonicalName: "web", CanonicalRevision: "v1", Capacity: &p.weight,
				Addresses: []netip.Addr{netip.MustParseAddr(addr)}, Locality: endpoints.Locality{Region: region, Zone: zone},
			},
			Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}},
		})
		id := cluster.ID(p.cluster)
		theirs[id] = append(theirs[id], &model.IstioEndpoint{
			Addresses: []string{addr}, Network: network.ID(p.network), ServicePortName: "http", EndpointPort: 8080, Namespace: "app",
			HostName: host, WorkloadName: "web", TLSMode: "istio", LbWeight: p.weight, HealthStatus: model.Healthy,
			Labels:   map[string]string{"app": "web", "version": "v1"},
			Locality: model.Locality{Label: p.locality, ClusterID: id},
		})
	}
	return ours, theirs
}

// TestAssignmentsEqualIstiods compares whole messages, for sidecars everywhere, of every address family.
func TestAssignmentsEqualIstiods(t *testing.T) {
	ourGateways, theirGateways := gatewaysOfFour()
	ourPods, theirPods := podsOfFour()
	ds := istioxds.NewFakeDiscoveryServer(t, istioxds.FakeOptions{
		Services: []*model.Service{{
			Hostname: host, Attributes: model.ServiceAttributes{Name: "web", Namespace: "app"},
			Ports: model.PortList{{Port: 80, Protocol: protocol.HTTP, Name: "http"}},
		}},
		Gateways: theirGateways,
	})
	if err := ds.Env().InitNetworksManager(ds.Discovery); err != nil {
		t.Fatal(err)
	}
	index := model.NewEndpointIndex(model.NewXdsCache())
	shards, _ := index.GetOrCreateEndpointShard(host, "app")
	shards.Lock()
	for id, pods := range theirPods {
		shards.Shards[model.ShardKey{Cluster: id}] = pods
	}
	shards.Unlock()
	gateways := eds.NewGateways(ourGateways, nil)
	service := &endpoints.Service{
		Name: "web", Namespace: "app", Hostname: host, Scope: endpoints.ScopeGlobal, Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}},
	}
	families := map[endpoints.IPFamilies][]string{
		endpoints.IPv4Only: {"10.0.0.100"}, endpoints.IPv6Only: {"2001:db8::100"}, endpoints.DualStack: {"10.0.0.100", "2001:db8::100"},
	}
	for _, from := range []struct{ network, cluster string }{
		{"network1", "cluster1"}, {"network1", "cluster4"}, {"network2", "cluster2"}, {"network2", "cluster5"},
		{"network3", "cluster6"}, {"network4", "cluster7"}, {"", "cluster1"},
	} {
		for family, addrs := range families {
			t.Run(fmt.Sprintf("%s/%s/%s", from.network, from.cluster, family), func(t *testing.T) {
				proxy := ds.SetupProxy(&model.Proxy{IPAddresses: addrs, Metadata: &model.NodeMetadata{
					Network: network.ID(from.network), ClusterID: cluster.ID(from.cluster),
				}})
				builder := istioeds.NewEndpointBuilder(edsTarget, proxy, ds.PushContext())
				want := normal(builder.BuildClusterLoadAssignment(index))
				client := eds.Client{Network: from.network, Cluster: from.cluster, Families: family}
				a := gateways.For(client).Build(eds.Target{Service: service, Port: 80, Endpoints: slices.Values(ourPods)})
				if family == endpoints.IPv6Only {
					want = withoutIPv4(want)
				}
				body, err := eds.Encode(a)
				if err != nil {
					t.Fatal(err)
				}
				got := new(endpointv3.ClusterLoadAssignment)
				if err := proto.Unmarshal(body, got); err != nil {
					t.Fatal(err)
				}
				if err := got.ValidateAll(); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(want, normal(got), protocmp.Transform()); diff != "" {
					t.Errorf("istiod -, ours +:\n%s", diff)
				}
			})
		}
	}
}

// normal takes out what makes no difference: localities without endpoints, and a locality that is set, and empty.
func normal(a *endpointv3.ClusterLoadAssignment) *endpointv3.ClusterLoadAssignment {
	a = proto.Clone(a).(*endpointv3.ClusterLoadAssignment)
	a.Endpoints = slices.DeleteFunc(a.Endpoints, func(l *endpointv3.LocalityLbEndpoints) bool { return len(l.GetLbEndpoints()) == 0 })
	for _, l := range a.GetEndpoints() {
		if proto.Equal(l.GetLocality(), &corev3.Locality{}) {
			l.Locality = nil
		}
	}
	return a
}

// withoutIPv4 takes out endpoints that an IPv6 client cannot reach, which istiod shows it all the same.
func withoutIPv4(a *endpointv3.ClusterLoadAssignment) *endpointv3.ClusterLoadAssignment {
	for _, l := range a.GetEndpoints() {
		l.LbEndpoints = slices.DeleteFunc(l.GetLbEndpoints(), func(e *endpointv3.LbEndpoint) bool {
			return netip.MustParseAddr(e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress()).Is4()
		})
		l.LoadBalancingWeight.Value = 0
		for _, e := range l.GetLbEndpoints() {
			l.LoadBalancingWeight.Value += e.GetLoadBalancingWeight().GetValue()
		}
	}
	return normal(a)
}
