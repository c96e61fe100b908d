package federation_test

import (
	"context"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/identity/federation"
)

// A server that accepts two workloads of another mesh, which has a root and a
// trust domain of its own.
func Example() {
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: spiffeid.RequireTrustDomainFromString("east.example")})
	if err != nil {
		panic(err)
	}
	source, err := ca.Source(spiffeid.RequireFromString("spiffe://east.example/ns/app/sa/reviews"), time.Hour)
	if err != nil {
		panic(err)
	}
	bundles, err := federation.New(federation.Config{
		Endpoints: []federation.Endpoint{{
			TrustDomain: spiffeid.RequireTrustDomainFromString("west.example"),
			URL:         "https://istiod.west.example/bundle",
		}},
		Dir: "", // set it, and a restart needs no endpoint
	})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go bundles.Run(ctx) // keeps them current
	defer cancel()

	server, err := identity.NewServer(identity.Config{
		Source:  source,
		Bundles: bundles,
		Peers: identity.Peers{IDs: []spiffeid.ID{
			spiffeid.RequireFromString("spiffe://west.example/ns/app/sa/productpage"),
			spiffeid.RequireFromString("spiffe://west.example/ns/app/sa/details"),
		}},
	})
	fmt.Println(server.Role(), err)
	// Output: server <nil>
}

// Our own roots, for others to fetch.
func ExampleNewHandler() {
	td := spiffeid.RequireTrustDomainFromString("east.example")
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: td})
	if err != nil {
		panic(err)
	}
	var roots x509bundle.Source = ca.Bundle()
	_, err = federation.NewHandler(td, roots, 5*time.Minute) // serve it by HTTPS
	fmt.Println(err)
	// Output: <nil>
}
