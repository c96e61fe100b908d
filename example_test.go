package eastwest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/lb"
	"github.com/eastwest-mesh/eastwest/scope"
)

// The functions from here to the end mark are the examples of the README, which
// TestREADME compares: what it shows compiles.

func getThroughTwoHops(ctx context.Context, transport *hbone.Transport, gateway, reviews hbone.Credentials) error {
	dialer := transport.Dialer(hbone.Path{Hops: []hbone.Hop{
		{Address: "172.18.2.100:15008", TLS: gateway}, // the gateway sees the service's name, and ciphertext
		{TLS: reviews}, // end to end with the pod behind it
	}})
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
	resp, err := client.Get("http://reviews.app.svc.cluster.local/")
	if err != nil {
		return err // *hbone.HopError: which hop, and how far it came
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

func gatewayCredentials() (*identity.Credentials, error) {
	files, err := identity.OpenFiles(identity.IstioFiles("/var/run/secrets/workload-spiffe-credentials"))
	if err != nil {
		return nil, err // the old files stay in service when new ones are broken
	}
	return identity.NewClient(identity.Config{
		Source: files,
		Peers: identity.Peers{IDs: []spiffeid.ID{
			spiffeid.RequireFromString("spiffe://cluster.local/ns/istio-system/sa/istio-eastwestgateway"),
		}},
	})
}

func isGlobal(meshConfig []byte) (bool, error) {
	config, err := scope.Parse(meshConfig) // strict: errors name line, column and what was probably meant
	if err != nil {
		return false, err
	}
	matcher, err := config.Compile(scope.Options{})
	if err != nil {
		return false, err
	}
	reviews := scope.Object{Namespace: "app", Name: "reviews", NamespaceKnown: true, Labels: map[string]string{"istio.io/global": "true"}}
	fmt.Println(matcher.Explain(reviews)) // which entry decided, and where it stands
	return matcher.Evaluate(reviews) == scope.Global, nil
}

func showHorizon(ctx context.Context, mesh *endpoints.Mesh, west endpoints.Change) error {
	if err := mesh.SetCluster(endpoints.Cluster{ID: "west", Network: "west-network"}); err != nil {
		return err
	}
	if err := mesh.Apply(west); err != nil {
		return err // *endpoints.FactError: cluster, object, field; the rest was applied
	}
	view := mesh.View(endpoints.Client{Network: "east-network", Cluster: "east", Role: endpoints.NodeProxy})
	defer view.Close()
	for _, delta := range view.Watch(ctx, nil) { // first everything, then what changes
		fmt.Println(len(delta.Upserts), "changed,", len(delta.Removed), "gone; conflicts:", mesh.Conflicts())
	}
	return nil
}

func serveNames(ctx context.Context) error {
	vips, err := dnsproxy.OpenVIPs(dnsproxy.VIPConfig{}) // 240.240.0.0/16: the same name, the same address, in every cluster
	if err != nil {
		return err
	}
	vip, err := vips.Allocate("payments.example.com")
	if err != nil {
		return err
	}
	names := &dnsproxy.Names{}
	if err := names.Update([]dnsproxy.Entry{{Host: "payments.example.com", Addresses: []netip.Addr{vip[0].IPv4}}}, nil); err != nil {
		return err
	}
	server := &dnsproxy.Server{Handler: &dnsproxy.Handler{Resolver: &dnsproxy.Resolver{Names: names}}}
	return server.ListenAndServe(ctx, "127.0.0.1:15053")
}

func pickBackend(dial func(address string) error) error {
	b, err := lb.New[string](lb.Config{
		Source: lb.Locality{Network: "east-network"},
		Policy: lb.Policy{Mode: lb.Failover, Preferences: []lb.Scope{lb.Network}},
	})
	if err != nil {
		return err
	}
	err = b.Update([]lb.Target[string]{
		{Value: "10.1.0.10:8080", Locality: lb.Locality{Network: "east-network"}, Weight: 1},
		{Value: "172.18.2.100:15008", Locality: lb.Locality{Network: "west-network"}, Weight: 3},
	})
	if err != nil {
		return err
	}
	pick, err := b.Pick(lb.Request{}) // the pod nearby, as long as there is one; no lock, no allocation
	if err != nil {
		return err // *lb.NoTargetError: how many are there, and why none of them will do
	}
	err = dial(pick.Value)
	pick.Done(lb.Outcome{Err: err})
	return err
}

// End of the examples of the README.

func TestREADME(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, _, _ := strings.Cut(string(source), "// End of the examples")
	functions := regexp.MustCompile(`(?ms)^func .*?^}\n`).FindAllString(examples, -1)
	if len(functions) != 6 {
		t.Fatalf("%d examples, want one for each package", len(functions))
	}
	for _, f := range functions {
		if !strings.Contains(string(readme), "```go\n"+f+"```") {
			t.Errorf("the README does not show this as it is:\n%s", f)
		}
	}
}

// What is not used is not compiled away: the examples are functions to read.
var _ = []any{getThroughTwoHops, gatewayCredentials, isGlobal, showHorizon, serveNames, pickBackend}
