package hbone_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// gRPC over the mesh, both ends: the client's connection is a stream, and the
// server's listener hands out streams. "Insecure" is about what is inside of
// the tunnel, which is mutual TLS.
func Example_grpc() {
	ctx := context.Background()
	l := hbone.Listen(exampleListen(), hbone.ListenConfig{
		TLS: exampleCA.Server(exampleCA.Issue("/ns/app/sa/api"), "/ns/app/sa/web"),
	})
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go server.Serve(l)
	defer server.Stop()

	transport := &hbone.Transport{}
	defer transport.Close()
	dialer := transport.Dialer(hbone.Path{Hops: []hbone.Hop{{
		Address: l.Addr().String(),
		TLS:     exampleCA.Client(exampleCA.Issue("/ns/app/sa/web"), "/ns/app/sa/api"),
	}}})
	conn, err := grpc.NewClient("passthrough:///api.app.svc.cluster.local:50051",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.GetStatus(), "after", transport.Stats().Handshakes(), "TLS handshake")
	// Output: SERVING after 1 TLS handshake
}
