package hbone_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// peerKey is the key of a request's stream in its context.
type peerKey struct{}

// A net/http.Server on a mesh port: each stream is a connection to it, and the
// client's certificate is at hand in every handler. It is shut down from the
// outside in: Listener.Shutdown takes no new streams and waits for those that
// there are, which the server ends when their request is answered.
func ExampleListener() {
	l := hbone.Listen(exampleListen(), hbone.ListenConfig{
		TLS: exampleCA.Server(exampleCA.Issue("/ns/app/sa/reviews")),
	})
	server := &http.Server{
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, c)
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			stream := r.Context().Value(peerKey{}).(*hbone.Conn)
			fmt.Fprintf(w, "%s asks %s", stream.Hops()[0].TLS.PeerCertificates[0].URIs[0], stream.Authority())
		}),
	}
	go server.Serve(l)
	defer func() {
		server.SetKeepAlivesEnabled(false)
		_ = l.Shutdown(context.Background())
		_ = server.Close()
	}()

	transport := &hbone.Transport{}
	defer transport.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: transport.Dialer(hbone.Path{Hops: []hbone.Hop{{
		Address: l.Addr().String(),
		TLS:     exampleCA.Client(exampleCA.Issue("/ns/app/sa/web"), "/ns/app/sa/reviews"),
	}}}).DialContext}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://reviews.app.svc.cluster.local/")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(string(body))
	// Output: spiffe://cluster.local/ns/app/sa/web asks reviews.app.svc.cluster.local:80
}
