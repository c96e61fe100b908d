package xds_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/eastwest-mesh/eastwest/endpoints/xds"
)

const greeting = "type.googleapis.com/example.Greeting"

// listen serves a collection on loopback, and returns a connection to it.
func listen(server *xds.Server) (conn *grpc.ClientConn, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	g := grpc.NewServer() // for other hosts: with credentials and keepalive
	server.Register(g)
	go func() {
		if err := g.Serve(listener); err != nil {
			log.Fatal(err)
		}
	}()
	conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	return conn, func() {
		_ = conn.Close()
		_ = server.Shutdown(context.Background()) // before the gRPC server, which waits for streams
		g.GracefulStop()
	}
}

// A server shows a collection to everyone, and a client follows it.
func Example() {
	var greetings xds.Collection
	greetings.Update([]xds.Resource{{Name: "english", Body: []byte("hello")}}, nil)
	conn, stop := listen(&xds.Server{
		Source:       xds.ByType{greeting: &greetings},
		Authenticate: xds.Anonymous,
	})
	defer stop()

	updates := make(chan xds.Update)
	client := &xds.Client{
		Conn: conn,
		Node: xds.Node{ID: "ztunnel~10.0.0.1~pod.namespace~namespace.svc.cluster.local"},
		Types: []xds.Type{{URL: greeting, Handle: func(u xds.Update) map[string]error {
			updates <- u
			return nil // all of it can be used
		}}},
	}
	go func() { _ = client.Run(context.Background()) }()
	defer client.Close()

	first := <-updates
	fmt.Printf("%s: %s\n", first.Upserts[0].Name, first.Upserts[0].Body)
	<-client.Synced(greeting)

	greetings.Update([]xds.Resource{{Name: "french", Body: []byte("salut")}}, []string{"english"})
	next := <-updates
	fmt.Printf("without %s, %s: %s\n", next.Removals[0], next.Upserts[0].Name, next.Upserts[0].Body)
	// Output:
	// english: hello
	// without english, french: salut
}

// An on-demand client asks only for what it needs, by name or by alias.
func ExampleClient_Fetch() {
	var greetings xds.Collection
	greetings.Update([]xds.Resource{
		{Name: "english", Body: []byte("hello"), Aliases: []string{"en"}},
		{Name: "french", Body: []byte("salut"), Aliases: []string{"fr"}},
	}, nil)
	conn, stop := listen(&xds.Server{Source: xds.ByType{greeting: &greetings}, Authenticate: xds.Anonymous})
	defer stop()

	client := &xds.Client{
		Conn: conn,
		Node: xds.Node{ID: "a-node"},
		Types: []xds.Type{{URL: greeting, OnDemand: true, Handle: func(u xds.Update) map[string]error {
			for _, r := range u.Upserts {
				fmt.Printf("got %s: %s\n", r.Name, r.Body)
			}
			return nil
		}}},
	}
	go func() { _ = client.Run(context.Background()) }()
	defer client.Close()

	for _, name := range []string{"fr", "it"} {
		found, err := client.Fetch(context.Background(), greeting, name)
		fmt.Println(name, found, err)
	}
	// Output:
	// got french: salut
	// fr true <nil>
	// it false <nil>
}

// A client with a store starts where it stopped, even if there is no server.
func ExampleFileStore() {
	dir, err := os.MkdirTemp("", "xds")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store := &xds.FileStore{Path: filepath.Join(dir, "state")}
	err = store.Save(context.Background(), map[string][]xds.Resource{greeting: {{Name: "english", Body: []byte("hello")}}})
	if err != nil {
		log.Fatal(err)
	}

	conn, err := grpc.NewClient("127.0.0.1:1", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	updates := make(chan xds.Update, 1)
	client := &xds.Client{
		Conn:  conn,
		Node:  xds.Node{ID: "a-node"},
		Store: store,
		Types: []xds.Type{{URL: greeting, Handle: func(u xds.Update) map[string]error { updates <- u; return nil }}},
	}
	go func() { _ = client.Run(context.Background()) }()
	defer client.Close()

	u := <-updates
	fmt.Printf("stored %v: %s\n", u.Stored, u.Upserts[0].Body)
	// Output:
	// stored true: hello
}

// token is what istiod wants to know of a client: a service account token, and its cluster.
type token struct{ path, cluster string }

func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	jwt, err := os.ReadFile(t.path) // each time: Kubernetes renews it
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + string(jwt), "clusterid": t.cluster}, nil
}

func (token) RequireTransportSecurity() bool { return true }

// The connection carries what istiod asks for: a token, and keepalive to notice that it is gone.
func ExampleClient_istiod() {
	roots := x509.NewCertPool() // with /var/run/secrets/istio/root-cert.pem
	conn, err := grpc.NewClient("istiod.istio-system.svc:15012",
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})),
		grpc.WithPerRPCCredentials(token{path: "/var/run/secrets/tokens/istio-token", cluster: "cluster1"}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := &xds.Client{Conn: conn} // and its Node and Types
	fmt.Println(client.Status().Connected)
	// Output: false
}
