package istiod

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/eds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
)

var eastApp = Caller{Cluster: "east", Namespace: "app", ServiceAccount: "client"}

// endpointsOf follows the endpoints of some clusters of an Envoy, and returns them
// as text.
func (w *world) endpointsOf(c Caller, kind string, metadata map[string]any, clusters ...string) func() string {
	w.t.Helper()
	node := proxyOf(c, kind, "").XDS()
	for key, value := range metadata {
		node.Metadata[key] = value
	}
	var mu sync.Mutex
	state := map[string]string{}
	w.follow(c, node, xds.Type{URL: eds.TypeURL, OnDemand: true, Handle: func(u xds.Update) map[string]error {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range u.Removals {
			delete(state, name)
		}
		for _, r := range u.Upserts {
			a, err := eds.Decode(r.Name, r.Body)
			if err != nil {
				return map[string]error{r.Name: err}
			}
			state[r.Name] = describe(a)
		}
		return nil
	}}, clusters...)
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		var lines []string
		for name, endpoints := range state {
			lines = append(lines, strings.TrimSuffix(name, ".app.svc.cluster.local")+": "+endpoints)
		}
		slices.Sort(lines)
		return strings.Join(lines, "; ")
	}
}

// describe lists endpoints with their weights, and how they are reached.
func describe(a *eds.Assignment) string {
	var all []string
	for _, l := range a.Localities {
		for _, e := range l.Endpoints {
			text := fmt.Sprintf("%s*%d", e.Address, e.Weight)
			switch {
			case e.MutualTLS():
				text += " mTLS"
			case e.Tunnel():
				text += " HBONE"
			}
			all = append(all, text)
		}
	}
	return strings.Join(all, ", ")
}

func (w *world) awaitEndpoints(seen func() string, want string) {
	w.t.Helper()
	last := ""
	w.await("endpoints: "+want, func() bool {
		if now := seen(); now != last {
			w.t.Logf("endpoints: %s", now)
			last = now
		}
		return last == want
	})
}

// withSNI gives west a gateway for sidecars, and east's reviews a sidecar.
func (w *world) withSNI() *world {
	w.edit("west", "cluster.yaml", "protocol: HBONE, tls: {mode: Terminate}}",
		"protocol: HBONE, tls: {mode: Terminate}}\n    - {name: sni, port: 15443, protocol: TLS, tls: {mode: Passthrough}}")
	w.edit("east", "apps.yaml", "labels: {app: reviews}", "labels: {app: reviews, security.istio.io/tlsMode: istio}")
	return w
}

const (
	reviewsCluster = "outbound|80||reviews.app.svc.cluster.local"
	ratingsCluster = "outbound|80||ratings.app.svc.cluster.local"
	ledgerCluster  = "outbound|80||ledger.app.svc.cluster.local"
)

func TestEndpointsOfEnvoys(t *testing.T) {
	all := []string{reviewsCluster, ratingsCluster, ledgerCluster, "outbound_.80_._.reviews.app.svc.cluster.local", "outbound|81||reviews.app.svc.cluster.local"}
	for _, tt := range []struct {
		name     string
		caller   Caller
		kind     string
		metadata map[string]any
		want     string
	}{
		{"sidecar", eastApp, "sidecar", nil,
			"outbound|80||ledger: 10.1.0.12:8080*1; outbound|80||ratings: 172.18.2.100:15443*1 mTLS; " +
				"outbound|80||reviews: 10.1.0.10:8080*1 mTLS, 172.18.2.100:15443*1 mTLS"},
		{"sidecar that tunnels", eastApp, "sidecar", map[string]any{"ENABLE_HBONE": "true"},
			"outbound|80||ledger: connect_originate/10.1.0.12:8080*1 HBONE; outbound|80||ratings: 172.18.2.100:15443*1 mTLS; " +
				"outbound|80||reviews: connect_originate/10.1.0.10:8080*1 HBONE, 172.18.2.100:15443*1 mTLS"},
		{"sidecar of IPv6", eastApp, "sidecar", map[string]any{"INSTANCE_IPS": "2001:db8::1"}, "outbound|80||ledger: ; outbound|80||ratings: ; outbound|80||reviews: "},
		{"gateway of its network", eastGateway, "router", map[string]any{"REQUESTED_NETWORK_VIEW": "east-network"},
			"outbound_.80_._.reviews: 10.1.0.10:8080*1 mTLS; outbound|80||ledger: 10.1.0.12:8080*1; outbound|80||ratings: ; outbound|80||reviews: 10.1.0.10:8080*1 mTLS"},
		{"waypoint", eastApp, "waypoint", nil,
			"outbound|80||ledger: connect_originate/10.1.0.12:8080*1 HBONE; outbound|80||ratings: inner_connect_originate/172.18.2.100:15008*1 HBONE; " +
				"outbound|80||reviews: connect_originate/10.1.0.10:8080*1 HBONE, inner_connect_originate/172.18.2.100:15008*1 HBONE"},
		{"sidecar elsewhere", Caller{Cluster: "west", Namespace: "app", ServiceAccount: "client"}, "sidecar", nil,
			"outbound|80||ratings: 10.1.0.14:8080*1; outbound|80||reviews: 10.1.0.10:8080*1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t).withSNI().serve()
			w.awaitEndpoints(w.endpointsOf(tt.caller, tt.kind, tt.metadata, all...), tt.want)
		})
	}
}

// TestEndpointsFollow: endpoints change with what they are made of.
func TestEndpointsFollow(t *testing.T) {
	w := newWorld(t).withSNI().serve()
	seen := w.endpointsOf(eastApp, "sidecar", nil, reviewsCluster)
	west := ", 172.18.2.100:15443*1 mTLS"
	w.awaitEndpoints(seen, "outbound|80||reviews: 10.1.0.10:8080*1 mTLS"+west)
	w.edit("east", "apps.yaml", "10.1.0.10", "10.1.0.77")
	w.awaitEndpoints(seen, "outbound|80||reviews: 10.1.0.77:8080*1 mTLS"+west)
	// No fact says which pods have a sidecar.
	w.edit("east", "apps.yaml", ", security.istio.io/tlsMode: istio", "")
	w.awaitEndpoints(seen, "outbound|80||reviews: 10.1.0.77:8080*1"+west)
	w.edit("west", "cluster.yaml", "port: 15443", "port: 8443")
	w.awaitEndpoints(seen, "outbound|80||reviews: 10.1.0.77:8080*1")
	w.edit("east", "apps.yaml", "port: 80,", "port: 81,")
	w.awaitEndpoints(seen, "")
}

// TestEndpointsBehindNames: Envoy does not resolve a gateway's name, so we do.
func TestEndpointsBehindNames(t *testing.T) {
	w := newWorld(t).withSNI()
	w.edit("west", "cluster.yaml", "{type: IPAddress, value: 172.18.2.100}", "{type: Hostname, value: localhost}")
	w.serve()
	seen := w.endpointsOf(eastApp, "sidecar", map[string]any{"INSTANCE_IPS": "10.1.0.9"}, ratingsCluster)
	w.awaitEndpoints(seen, "outbound|80||ratings: 127.0.0.1:15443*1 mTLS")
}

func TestFamiliesOf(t *testing.T) {
	for text, want := range map[string]endpoints.IPFamilies{
		"": endpoints.IPAutomatic, "nonsense": endpoints.IPAutomatic, "10.0.0.1": endpoints.IPv4Only, "::ffff:10.0.0.1": endpoints.IPv4Only,
		"2001:db8::1": endpoints.IPv6Only, "10.0.0.1, 2001:db8::1": endpoints.DualStack,
	} {
		if got := familiesOf(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
