package istiod

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
)

// ask opens a stream as a proxy, and returns why it was refused; nil if it was
// served.
func (w *world) ask(token, clusterID string, node xds.Node) error {
	w.t.Helper()
	conn, err := w.controlPlane(token, clusterID).Dial()
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c := &xds.Client{Conn: conn, Node: node, Types: new(discovery.State).Types()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(context.Background())
	}()
	defer func() { _ = c.Close(); <-done }()
	w.await("an answer", func() bool { return c.Status().Synced() || c.Status().LastError != nil })
	return c.Status().LastError
}

func TestClaims(t *testing.T) {
	w := newWorld(t).serve()
	gateway := Caller{Cluster: "east", Namespace: "istio-system", ServiceAccount: "eastwest"}
	for _, tt := range []struct {
		name   string
		caller Caller
		change func(*xds.Node) // of an honest node
		want   codes.Code
	}{
		{"honest node proxy", eastNode1, func(*xds.Node) {}, codes.OK},
		{"honest gateway", gateway, func(*xds.Node) {}, codes.OK},
		{"nothing but the id", eastNode1, func(n *xds.Node) { n.Metadata = nil }, codes.OK},
		{"pod name with dots", eastNode1, func(n *xds.Node) { n.ID = "ztunnel~1.1.1.1~a.b.istio-system~istio-system.svc.cluster.local" }, codes.OK},
		{"the other network", eastNode1, func(n *xds.Node) { n.Metadata["NETWORK"] = "west-network" }, codes.OK},
		{"a gateway may be on any node", gateway, func(n *xds.Node) { n.Metadata["NODE_NAME"] = "east-node-2" }, codes.OK},

		{"namespace in the id", eastNode1, func(n *xds.Node) { n.ID = "ztunnel~1.1.1.1~a.app~app.svc.cluster.local" }, codes.PermissionDenied},
		{"namespace hidden in the pod's name", eastNode1, func(n *xds.Node) { n.ID = "ztunnel~1.1.1.1~a.istio-system.app~app.svc.cluster.local" }, codes.PermissionDenied},
		{"namespace in the metadata", eastNode1, func(n *xds.Node) { n.Metadata["NAMESPACE"] = "app" }, codes.PermissionDenied},
		{"service account", eastNode1, func(n *xds.Node) { n.Metadata["SERVICE_ACCOUNT"] = "eastwest" }, codes.PermissionDenied},
		{"cluster", eastNode1, func(n *xds.Node) { n.Metadata["CLUSTER_ID"] = "west" }, codes.PermissionDenied},
		{"node", eastNode1, func(n *xds.Node) { n.Metadata["NODE_NAME"] = "east-node-2" }, codes.PermissionDenied},
		{"a network nobody knows", eastNode1, func(n *xds.Node) { n.Metadata["NETWORK"] = "moon" }, codes.FailedPrecondition},
		{"a network that is no string", eastNode1, func(n *xds.Node) { n.Metadata["NETWORK"] = 7 }, codes.InvalidArgument},
		{"an account that is no string", eastNode1, func(n *xds.Node) { n.Metadata["SERVICE_ACCOUNT"] = []any{"x"} }, codes.InvalidArgument},
		{"id of three parts", eastNode1, func(n *xds.Node) { n.ID = "ztunnel~1.1.1.1~a.istio-system" }, codes.InvalidArgument},
		{"kind of proxy", eastNode1, func(n *xds.Node) { n.ID = "envoy~1.1.1.1~a.istio-system~istio-system.svc.cluster.local" }, codes.InvalidArgument},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kind := discovery.NodeProxy
			if tt.caller.Node == "" {
				kind = discovery.Gateway
			}
			node := proxyOf(tt.caller, kind, "").XDS()
			tt.change(&node)
			if err := w.ask(w.token(tt.caller), tt.caller.Cluster, node); codeOf(err) != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestTokensAreNeeded(t *testing.T) {
	w := newWorld(t).serve()
	node := proxyOf(eastNode1, discovery.NodeProxy, "").XDS()
	withdrawn := w.token(NodeProxy("east", "gone"))
	w.config.Tokens.Withdraw(NodeProxy("east", "gone"))
	for _, tt := range []struct{ name, token, cluster string }{
		{"none", "", "east"},
		{"wrong", newToken(), "east"},
		{"withdrawn", withdrawn, "east"},
		{"for another cluster", w.token(eastNode1), "west"},
		{"for an unknown cluster", w.token(eastNode1), "moon"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := w.ask(tt.token, tt.cluster, node); codeOf(err) != codes.Unauthenticated {
				t.Errorf("discovery: got %v", err)
			}
			if err := w.fetch(tt.token, tt.cluster, false, "spiffe://cluster.local/ns/istio-system/sa/ztunnel"); codeOf(err) != codes.Unauthenticated {
				t.Errorf("certificate: got %v", err)
			}
		})
	}
	if err := w.ask(w.token(eastNode1), "", node); err != nil {
		t.Errorf("no cluster is named: got %v", err)
	}
}

func TestAuthenticateNeedsTLS(t *testing.T) {
	if _, err := openTokens(t, "").Authenticate(t.Context()); err == nil {
		t.Error("a call without TLS was let in")
	}
}

// codeOf finds the gRPC status in an error.
func codeOf(err error) codes.Code {
	var has interface{ GRPCStatus() *status.Status }
	if errors.As(err, &has) {
		return has.GRPCStatus().Code()
	}
	if err == nil {
		return codes.OK
	}
	return codes.Unknown
}
