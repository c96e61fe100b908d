package identity_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// Two workloads of one trust domain know each other.
func Example() {
	td := spiffeid.RequireTrustDomainFromString("cluster.local")
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: td})
	if err != nil {
		log.Fatal(err)
	}
	clientID, _ := identity.WorkloadID(td, "app", "client")
	reviewsID, _ := identity.WorkloadID(td, "app", "reviews")
	clientSource, err := ca.Source(clientID, time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	reviewsSource, err := ca.Source(reviewsID, time.Hour)
	if err != nil {
		log.Fatal(err)
	}

	client, err := identity.NewClient(identity.Config{
		Source: clientSource,
		Peers:  identity.Peers{IDs: []spiffeid.ID{reviewsID}},
	})
	if err != nil {
		log.Fatal(err)
	}
	server, err := identity.NewServer(identity.Config{
		Source: reviewsSource,
		Peers:  identity.Peers{TrustDomains: []spiffeid.TrustDomain{td}},
	})
	if err != nil {
		log.Fatal(err)
	}

	c, s := memnet.Pipe()
	accepted := make(chan spiffeid.ID)
	go func() {
		cfg, err := server.Config(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		conn := tls.Server(s, cfg)
		if err := conn.Handshake(); err != nil {
			log.Fatal(err)
		}
		id, _ := identity.PeerID(conn.ConnectionState())
		accepted <- id
	}()
	cfg, err := client.Config(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	conn := tls.Client(c, cfg)
	if err := conn.Handshake(); err != nil {
		log.Fatal(err)
	}
	peer, _ := identity.PeerID(conn.ConnectionState())
	fmt.Println("client sees", peer)
	fmt.Println("server sees", <-accepted)
	// Output:
	// client sees spiffe://cluster.local/ns/app/sa/reviews
	// server sees spiffe://cluster.local/ns/app/sa/client
}

func ExampleWorkloadID() {
	td := spiffeid.RequireTrustDomainFromString("cluster.local")
	id, err := identity.WorkloadID(td, "app", "reviews")
	if err != nil {
		log.Fatal(err)
	}
	namespace, serviceAccount, ok := identity.SplitWorkloadID(id)
	fmt.Println(id, namespace, serviceAccount, ok)
	// Output: spiffe://cluster.local/ns/app/sa/reviews app reviews true
}

func ExampleOpenFiles() {
	files, err := identity.OpenFiles(identity.IstioFiles("/var/run/secrets/workload"))
	if err != nil {
		fmt.Println("no certificate here yet")
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = files.Run(ctx) }() // reloads until cancelled
	creds, err := identity.NewClient(identity.Config{Source: files})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(creds.Role())
	// Output: no certificate here yet
}

func ExampleCA_Sign() {
	td := spiffeid.RequireTrustDomainFromString("cluster.local")
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: td})
	if err != nil {
		log.Fatal(err)
	}
	holder, err := ca.Issue(spiffeid.RequireFromString("spiffe://cluster.local/ns/app/sa/client"), 0)
	if err != nil {
		log.Fatal(err)
	}
	_, err = ca.Sign(holder.PrivateKey.Public(), spiffeid.RequireFromString("spiffe://other.example/ns/app/sa/client"), 0)
	fmt.Println(err)
	// Output: identity: "spiffe://other.example/ns/app/sa/client" is not a workload of trust domain "cluster.local"
}
