package podnet_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
)

// Two clusters use the same pod address, and an HTTP client in each reaches
// its own.
func Example() {
	ctx := context.Background()
	for _, cluster := range []string{"east", "west"} {
		network, err := podnet.New(podnet.Config{Name: cluster})
		if err != nil {
			panic(err)
		}
		defer network.Close()
		listener, err := network.Listen(ctx, "tcp", "10.1.0.10:8080")
		if err != nil {
			panic(err)
		}
		go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			fmt.Fprintf(w, "%s greets %s", cluster, host)
		}))

		pod := network.Pod(netip.MustParseAddr("10.1.0.20"))
		client := &http.Client{Transport: &http.Transport{DialContext: pod.DialContext, DisableKeepAlives: true}}
		response, err := client.Get("http://10.1.0.10:8080/")
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		fmt.Println(string(body))
	}
	// Output:
	// east greets 10.1.0.20
	// west greets 10.1.0.20
}
