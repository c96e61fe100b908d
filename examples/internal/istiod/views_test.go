package istiod

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
)

// One control plane serves proxies of any network and cluster (primary-remote).
func TestViewOfEachNetwork(t *testing.T) {
	const westView = "ratings[10.1.0.14] reviews[10.1.0.10 via 172.18.1.100 *1]"
	for _, tt := range []struct {
		name    string
		caller  Caller
		kind    string
		network string
		want    string
	}{
		{"node proxy of east", eastNode1, discovery.NodeProxy, "", eastView},
		{"node proxy of east, network said", eastNode1, discovery.NodeProxy, "east-network", eastView},
		{"node proxy of west", westNode1, discovery.NodeProxy, "", westView},
		{"node proxy of west, network said", westNode1, discovery.NodeProxy, "west-network", westView},
		// What is local to the cluster cannot be reached from there.
		{"node of east on the network of west", eastNode1, discovery.NodeProxy, "west-network",
			"db[] ledger[] payments[] ratings[10.1.0.14] reviews[10.1.0.10 via 172.18.1.100 *1]"},
		{"gateway of east", eastGateway, discovery.Gateway, "", eastGatewayView},
		{"waypoint of east", eastGateway, "waypoint", "", eastGatewayView},
		{"gateway of west", Caller{Cluster: "west", Namespace: "istio-system", ServiceAccount: "eastwest"}, discovery.Gateway, "",
			"ratings[10.1.0.14] reviews[10.1.0.10]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t).serve()
			w.awaitView(w.connect(tt.caller, tt.kind, tt.network), tt.want)
		})
	}
}

// A client that does not say its network moves with its cluster.
func TestClusterMovesToOtherNetwork(t *testing.T) {
	w := newWorld(t).serve()
	proxy := w.ztunnel()
	w.awaitView(proxy, eastView)
	w.edit("east", "cluster.yaml", "east-network", "west-network")
	w.awaitView(proxy, "db[10.1.0.20] ledger[10.1.0.12] payments[192.0.2.10] ratings[10.1.0.14] reviews[10.1.0.10 10.1.0.10]")
	w.edit("west", "apps.yaml", "10.1.0.14", "10.1.0.15")
	w.awaitView(proxy, "db[10.1.0.20] ledger[10.1.0.12] payments[192.0.2.10] ratings[10.1.0.15] reviews[10.1.0.10 10.1.0.10]")
}

// Equal clients share a view, and the last one takes it along.
func TestViewsAreReleased(t *testing.T) {
	w := newWorld(t).serve()
	views := func() int {
		w.server.views.mu.Lock()
		defer w.server.views.mu.Unlock()
		return len(w.server.views.shared)
	}
	one, two, gateway := w.ztunnel(), w.ztunnel(), w.connect(eastGateway, discovery.Gateway, "")
	for _, c := range []*client{one, two} {
		w.awaitView(c, eastView)
	}
	w.awaitView(gateway, eastGatewayView)
	if got := views(); got != 2 {
		t.Errorf("%d views, want one for the two node proxies and one for the gateway", got)
	}
	gateway.stop()
	one.stop()
	w.await("one view", func() bool { return views() == 1 })
	w.edit("east", "apps.yaml", "10.1.0.10", "10.1.0.77")
	w.awaitView(two, strings.Replace(eastView, "10.1.0.10", "10.1.0.77", 1))
	two.stop()
	w.await("no view", func() bool { return views() == 0 })
}

func TestClosedViewsRefuse(t *testing.T) {
	w := newWorld(t).serve()
	if err := w.stop(); err == nil {
		t.Error("Serve returned nil")
	}
	_, err := w.server.views.Collection(t.Context(), xds.ClientInfo{Peer: eastNode1, Node: proxyOf(eastNode1, discovery.NodeProxy, "").XDS()}, wds.AddressTypeURL)
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a client that comes too late gets %v", err)
	}
}

func TestUnknownTypesAreIgnored(t *testing.T) {
	w := newWorld(t).serve()
	c, err := w.server.views.Collection(t.Context(), xds.ClientInfo{Peer: eastNode1}, "type.googleapis.com/envoy.config.cluster.v3.Cluster")
	if c != nil || err != nil {
		t.Errorf("got %v, %v, want nothing", c, err)
	}
}
