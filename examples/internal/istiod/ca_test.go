package istiod

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/identity/istioca"
)

// fetch asks for a certificate, as ztunnel does if it is to impersonate.
func (w *world) fetch(token, clusterID string, impersonate bool, id string) error {
	w.t.Helper()
	conn, err := w.controlPlane(token, clusterID).Dial()
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client, err := istioca.NewClient(istioca.ClientConfig{Conn: conn, Impersonate: impersonate})
	if err != nil {
		w.t.Fatal(err)
	}
	want, err := identity.ParseID(id)
	if err != nil {
		w.t.Fatal(err)
	}
	_, _, err = client.Fetch(w.t.Context(), want) // which checks that it is for that ID
	return err
}

func TestCertificates(t *testing.T) {
	const (
		reviews = "spiffe://cluster.local/ns/app/sa/reviews"
		ledger  = "spiffe://cluster.local/ns/app/sa/ledger"
		ratings = "spiffe://cluster.local/ns/app/sa/ratings"
		proxy   = "spiffe://cluster.local/ns/istio-system/sa/ztunnel"
		gateway = "spiffe://cluster.local/ns/istio-system/sa/eastwest"
	)
	w := newWorld(t).serve()
	client := Caller{Cluster: "east", Namespace: "app", ServiceAccount: "client"}
	nowhere := Caller{Cluster: "east", Namespace: "istio-system", ServiceAccount: "ztunnel"}
	node2 := NodeProxy("east", "east-node-2")
	for _, tt := range []struct {
		name        string
		caller      Caller
		impersonate bool
		id          string
		issued      bool
	}{
		{"node proxy: workload of its node", eastNode1, true, reviews, true},
		{"node proxy: workload of another node", eastNode1, true, ledger, false},
		{"the other node proxy: that workload", node2, true, ledger, true},
		{"node proxy: workload of another cluster", eastNode1, true, ratings, false},
		{"node proxy of that cluster", westNode1, true, ratings, true},
		{"node proxy: same account in both clusters", westNode1, true, reviews, true},
		{"node proxy: account that nothing runs as", eastNode1, true, "spiffe://cluster.local/ns/app/sa/nobody", false},
		{"node proxy: gateway", eastNode1, true, gateway, false},
		{"node proxy: other trust domain", eastNode1, true, "spiffe://other.example/ns/app/sa/reviews", false},
		{"node proxy: itself", eastNode1, false, proxy, true},
		{"node proxy of no node", nowhere, true, reviews, false},
		{"gateway: itself", eastGateway, false, gateway, true},
		{"gateway: a workload", eastGateway, true, reviews, false},
		{"gateway: a workload, without saying so", eastGateway, false, reviews, false},
		{"another account: itself", client, false, "spiffe://cluster.local/ns/app/sa/client", true},
		{"another account: a workload", client, true, reviews, false},
		{"on a node, but no node proxy", Caller{"east", "app", "client", "east-node-1"}, true, reviews, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := w.fetch(w.token(tt.caller), tt.caller.Cluster, tt.impersonate, tt.id)
			if (err == nil) != tt.issued {
				t.Errorf("got %v, want it issued: %t", err, tt.issued)
			}
			if tt.impersonate && err != nil && codeOf(err) != codes.Unauthenticated {
				t.Errorf("the refusal is %v", err)
			}
		})
	}
}

// Who hears of a workload may have its certificate, and who hears that it is
// gone may not.
func TestCertificatesFollowWorkloads(t *testing.T) {
	const ledger = "spiffe://cluster.local/ns/app/sa/ledger"
	w := newWorld(t).serve()
	proxy := w.ztunnel()
	node := func() string {
		if p := proxy.State.Index().Workload("east//Pod/app/ledger-1"); p != nil {
			return p.Node
		}
		return ""
	}
	w.await("the pod on node 2", func() bool { return node() == "east-node-2" })
	w.edit("east", "apps.yaml", "east-node-2", "east-node-1")
	w.await("the pod on node 1", func() bool { return node() == "east-node-1" })
	if err := w.fetch(w.token(eastNode1), "east", true, ledger); err != nil {
		t.Errorf("the node proxy of its node gets %v", err)
	}
	if err := w.fetch(w.token(NodeProxy("east", "east-node-2")), "east", true, ledger); err == nil {
		t.Error("the node proxy of its former node gets a certificate")
	}
}
