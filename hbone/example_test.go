package hbone_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// exampleCA stands for the mesh's; package identity makes real credentials.
var exampleCA = testca.New("cluster.local")

func exampleListen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return l
}

// One hop: a client, and a server that echoes.
func Example() {
	ctx := context.Background()
	server := &hbone.Server{
		TLS: exampleCA.Server(exampleCA.Issue("/ns/app/sa/echo"), "/ns/app/sa/web"),
		Handler: func(r *hbone.Request) {
			if r.Authority() != "10.1.0.10:8080" {
				_ = r.Reject(http.StatusServiceUnavailable)
				return
			}
			conn, err := r.Accept(nil)
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		},
	}
	l := exampleListen()
	go server.Serve(ctx, l)
	defer server.Close()

	transport := &hbone.Transport{}
	defer transport.Close()
	conn, err := transport.Dial(ctx, hbone.Path{Hops: []hbone.Hop{{
		Address:   l.Addr().String(),
		Authority: "10.1.0.10:8080",
		TLS:       exampleCA.Client(exampleCA.Issue("/ns/app/sa/web"), "/ns/app/sa/echo"),
	}}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(conn, "hello")
	_ = conn.CloseWrite() // the other direction goes on
	answer, _ := io.ReadAll(conn)
	conn.Close()
	fmt.Printf("%s from %s\n", answer, conn.Hops()[0].TLS.PeerCertificates[0].URIs[0])
	// Output: hello from spiffe://cluster.local/ns/app/sa/echo
}

// Two hops: an ordinary HTTP server behind an east-west gateway, and an
// ordinary HTTP client. The gateway forwards bytes that it cannot read.
func ExampleTransport_Dialer() {
	ctx := context.Background()
	reviews := hbone.Listen(exampleListen(), hbone.ListenConfig{
		TLS: exampleCA.Server(exampleCA.Issue("/ns/app/sa/reviews"), "/ns/app/sa/web"),
	})
	defer reviews.Close()
	go http.Serve(reviews, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "five stars")
	}))

	gateway := &hbone.Server{
		TLS: exampleCA.Server(exampleCA.Issue("/ns/istio-system/sa/gateway")),
		Handler: func(r *hbone.Request) {
			if r.Authority() != "reviews.app.svc.cluster.local:80" {
				_ = r.Reject(http.StatusNotFound)
				return
			}
			pod, err := net.Dial("tcp", reviews.Addr().String())
			if err != nil {
				_ = r.Reject(http.StatusServiceUnavailable)
				return
			}
			conn, err := r.Accept(http.Header{hbone.HeaderBackend: {pod.RemoteAddr().String()}})
			if err != nil {
				pod.Close()
				return
			}
			_, _ = hbone.Relay(ctx, conn, pod)
		},
	}
	l := exampleListen()
	go gateway.Serve(ctx, l)
	defer gateway.Close()

	transport := &hbone.Transport{}
	defer transport.Close()
	web := exampleCA.Issue("/ns/app/sa/web")
	dialer := transport.Dialer(hbone.Path{Hops: []hbone.Hop{
		{Address: l.Addr().String(), TLS: exampleCA.Client(web, "/ns/istio-system/sa/gateway")},
		{TLS: exampleCA.Client(web, "/ns/app/sa/reviews")},
	}})
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
	defer client.CloseIdleConnections()

	resp, err := client.Get("http://reviews.app.svc.cluster.local/1")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Printf("%s, %d TLS handshakes\n", body, transport.Stats().Handshakes())
	// Output: five stars, 2 TLS handshakes
}

// A proxy that knows where its traffic will go makes the tunnels before it says that it is ready.
func ExampleTransport_Warm() {
	ctx := context.Background()
	server := &hbone.Server{
		TLS:     exampleCA.Server(exampleCA.Issue("/ns/app/sa/echo"), "/ns/app/sa/web"),
		Handler: func(r *hbone.Request) { _ = r.Reject(http.StatusServiceUnavailable) },
	}
	l := exampleListen()
	go server.Serve(ctx, l)
	defer server.Close()

	transport := &hbone.Transport{}
	defer transport.Close()
	err := transport.Warm(ctx, hbone.Path{Hops: []hbone.Hop{{
		Address:   l.Addr().String(),
		Authority: "10.1.0.10:8080",
		TLS:       exampleCA.Client(exampleCA.Issue("/ns/app/sa/web"), "/ns/app/sa/echo"),
	}}})
	if err != nil {
		log.Fatal(err)
	}
	stats := transport.Stats()
	fmt.Printf("%d tunnel, %d streams\n", stats.Tunnels, stats.Streams)
	// Output: 1 tunnel, 0 streams
}

// A listener is a mesh port for any server that takes a net.Listener.
func ExampleListen() {
	l := hbone.Listen(exampleListen(), hbone.ListenConfig{
		TLS: exampleCA.Server(exampleCA.Issue("/ns/app/sa/api")),
		Admit: func(r *hbone.Request) int {
			if r.Authority() != "api.app.svc.cluster.local:80" {
				return http.StatusServiceUnavailable
			}
			return http.StatusOK
		},
	})
	defer l.Close()
	go http.Serve(l, http.NotFoundHandler())

	transport := &hbone.Transport{}
	defer transport.Close()
	_, err := transport.Dial(context.Background(), hbone.Path{Hops: []hbone.Hop{{
		Address:   l.Addr().String(),
		Authority: "other.app.svc.cluster.local:80",
		TLS:       exampleCA.Client(exampleCA.Issue("/ns/app/sa/web"), "/ns/app/sa/api"),
	}}})
	var hop *hbone.HopError
	if errors.As(err, &hop) {
		fmt.Println(hop.Phase, hop.Authority, hop.Err)
	}
	// Output: connect other.app.svc.cluster.local:80 status 503 (Service Unavailable)
}
