package istioca_test

import (
	"context"
	"fmt"
	"log"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/identity/istioca"
)

// A node proxy gets certificates for the pods on its node.
func ExampleManager() {
	conn, err := grpc.NewClient("istiod.istio-system.svc:15012", grpc.WithTransportCredentials(credentials.NewTLS(nil)))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client, err := istioca.NewClient(istioca.ClientConfig{
		Conn:        conn,
		Token:       istioca.TokenFile("/var/run/secrets/tokens/istio-token"),
		ClusterID:   "east",
		Impersonate: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	manager := istioca.NewManager(client)
	defer manager.Close()

	source, err := manager.Acquire(spiffeid.RequireFromString("spiffe://cluster.local/ns/app/sa/reviews"))
	if err != nil {
		log.Fatal(err)
	}
	creds, err := identity.NewClient(identity.Config{Source: source})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(source.ID(), creds.Role())
	// Output: spiffe://cluster.local/ns/app/sa/reviews client
}

// A control plane signs for workloads that show a token.
func ExampleServer() {
	td := spiffeid.RequireTrustDomainFromString("cluster.local")
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: td})
	if err != nil {
		log.Fatal(err)
	}
	ztunnel := spiffeid.RequireFromString("spiffe://cluster.local/ns/istio-system/sa/ztunnel")
	server, err := istioca.NewServer(istioca.ServerConfig{
		CA:            ca,
		Authenticator: istioca.StaticTokens(map[string]istioca.Caller{"a long secret": {ID: ztunnel, Node: "node-1"}}),
		TrustedNodes:  identity.Peers{IDs: []spiffeid.ID{ztunnel}},
		Nodes:         oneNode{},
	})
	if err != nil {
		log.Fatal(err)
	}
	g := grpc.NewServer() // with grpc.Creds of the TLS certificate
	server.Register(g)
	for name := range g.GetServiceInfo() {
		fmt.Println(name)
	}
	// Output: istio.v1.auth.IstioCertificateService
}

// oneNode says that everything runs on node-1.
type oneNode struct{}

func (oneNode) RunsOn(_ context.Context, caller istioca.Caller, _ spiffeid.ID) (bool, error) {
	return caller.Node == "node-1", nil
}
