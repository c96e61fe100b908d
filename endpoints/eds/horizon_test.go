package eds

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// The tables of this file are the cases of istiod's tests of its network filter, written anew: a mesh of four
// networks, seen from each of them.
//
//	network1: clusters 1a (two endpoints) and 1b (one); one gateway in 1a, for SNI only
//	network2: cluster 2a (one endpoint, one gateway) and 2b (two endpoints, two gateways)
//	network3: cluster 3; a gateway, no endpoint
//	network4: cluster 4 (one endpoint); no gateway
//
// The least common multiple of the gateways per network (1, 3, 1) and per cluster (1, 1, 2, 1) is 6.
func fourNetworks() []Gateway {
	at := func(network, cluster, addr string, hbone uint16) Gateway {
		return Gateway{Network: network, Cluster: cluster, Addresses: addrs(addr), SNIPort: 80, HBONEPort: hbone}
	}
	return []Gateway{
		at("network1", "cluster1a", "1.1.1.1", 0),
		at("network2", "cluster2a", "2.2.2.2", 15008),
		at("network2", "cluster2b", "2.2.2.20", 15008),
		at("network2", "cluster2b", "2.2.2.21", 15008),
		at("network3", "cluster3", "3.3.3.3", 15008),
	}
}

// fourNetworksPods are the endpoints: "cluster/network/address". The second one of cluster1a is a name, which
// Envoy cannot have here.
func fourNetworksPods() []endpoints.Endpoint {
	pods := pods("cluster1a/network1/10.0.0.1 cluster1a/network1/foo.bar cluster1a/network1/10.0.0.3 " +
		"cluster1b/network1/10.0.0.2,2001:1::102 cluster2a/network2/20.0.0.1 cluster2b/network2/20.0.0.2 " +
		"cluster2b/network2/20.0.0.3,2001:1::203 cluster4/network4/40.0.0.1")
	pods[2].Workload.Tunnel = endpoints.TunnelHBONE
	return pods
}

// pods makes endpoints of service ns/example on port 80, which they serve on 8080: one of each word
// "cluster/network/address,address", "-" being no address.
func pods(words string) []endpoints.Endpoint {
	var all []endpoints.Endpoint
	for i, word := range strings.Fields(words) {
		parts := strings.Split(word, "/")
		w := &endpoints.Workload{
			UID:     fmt.Sprintf("%s//Pod/ns/example-%d", parts[0], i),
			Cluster: parts[0], Network: parts[1], Namespace: "ns", CanonicalName: "example", CanonicalRevision: "latest",
		}
		for _, a := range strings.Split(parts[2], ",") {
			if addr, err := netip.ParseAddr(a); err == nil {
				w.Addresses = append(w.Addresses, addr)
			} else if a != "-" {
				w.Hostname = a
			}
		}
		all = append(all, endpoints.Endpoint{Workload: w, Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}}})
	}
	return all
}

func addrs(words string) []netip.Addr {
	var all []netip.Addr
	for word := range strings.FieldsSeq(words) {
		all = append(all, netip.MustParseAddr(word))
	}
	return all
}

func example() *endpoints.Service {
	return &endpoints.Service{
		Name: "example", Namespace: "ns", Hostname: "example.ns.svc.cluster.local",
		Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}}, Scope: endpoints.ScopeGlobal,
	}
}

func target(pods []endpoints.Endpoint) Target {
	return Target{Service: example(), Port: 80, Endpoints: slices.Values(pods)}
}

// seen is an assignment in short: each endpoint as "host*weight", localities after one another, "p1 region/zone:"
// before those that have a priority or a place.
func seen(a *Assignment) string {
	var parts []string
	for _, l := range a.Localities {
		if l.Priority > 0 {
			parts = append(parts, fmt.Sprintf("p%d", l.Priority))
		}
		if l.String() != "" {
			parts = append(parts, l.String()+":")
		}
		for i := range l.Endpoints {
			ep := &l.Endpoints[i]
			parts = append(parts, fmt.Sprintf("%s*%d", hostOf(ep), ep.Weight))
		}
	}
	return strings.Join(parts, " ")
}

// hostOf returns the host that is dialled in the end: behind a tunnel, that of the endpoint's ID.
func hostOf(ep *Endpoint) string {
	if ep.Address.Listener == "" {
		return ep.Address.Host
	}
	return netip.MustParseAddrPort(ep.Address.ID).Addr().String()
}

// labels returns what the endpoints tell telemetry.
func labels(a *Assignment) string {
	var parts []string
	for _, l := range a.Localities {
		for _, ep := range l.Endpoints {
			parts = append(parts, ep.Metadata[metadataIstio]["workload"].(string))
		}
	}
	return strings.Join(parts, " ")
}

const (
	local1   = "10.0.0.1*6 10.0.0.3*6 10.0.0.2*6"
	local2   = "20.0.0.1*6 20.0.0.2*6 20.0.0.3*6"
	remote1  = "1.1.1.1*12" // two: not the name, nor what takes HBONE
	remote2  = "2.2.2.2*6 2.2.2.20*6 2.2.2.21*6"
	flat4    = "40.0.0.1*6"
	of1      = ";ns;example;;cluster1a ;ns;example;;cluster1a ;ns;example;;cluster1b"
	of2      = ";ns;example;;cluster2a ;ns;example;;cluster2b ;ns;example;;cluster2b"
	of4      = ";ns;example;;cluster4"
	through1 = ";;;;cluster1a"
	through2 = ";;;;cluster2a ;;;;cluster2b ;;;;cluster2b"
)

// fromEach says what a sidecar of each cluster sees.
var fromEach = []struct {
	network, cluster string
	want, labels     string
	without          string // the same, with mutual TLS turned off
}{
	{"network1", "cluster1a", local1 + " " + flat4 + " " + remote2, of1 + " " + of4 + " " + through2, local1 + " " + flat4},
	{"network1", "cluster1b", local1 + " " + flat4 + " " + remote2, of1 + " " + of4 + " " + through2, local1 + " " + flat4},
	{"network2", "cluster2a", local2 + " " + flat4 + " " + remote1, of2 + " " + of4 + " " + through1, local2 + " " + flat4},
	{"network2", "cluster2b", local2 + " " + flat4 + " " + remote1, of2 + " " + of4 + " " + through1, local2 + " " + flat4},
	{"network3", "cluster3", flat4 + " " + remote1 + " " + remote2, of4 + " " + through1 + " " + through2, flat4},
	{"network4", "cluster4", flat4 + " " + remote1 + " " + remote2, of4 + " " + through1 + " " + through2, flat4},
}

func TestHorizonOfSidecars(t *testing.T) {
	gateways := NewGateways(fourNetworks(), nil)
	for _, test := range fromEach {
		t.Run(test.cluster, func(t *testing.T) {
			b := gateways.For(Client{Network: test.network, Cluster: test.cluster, HBONE: true})
			a := b.Build(target(fourNetworksPods()))
			if got := seen(a); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if got := labels(a); got != test.labels {
				t.Errorf("labels %s\nwant   %s", got, test.labels)
			}
			if a.Cluster != "outbound|80||example.ns.svc.cluster.local" {
				t.Errorf("cluster %s", a.Cluster)
			}
		})
	}
}

// TestHorizonWithoutMutualTLS turns mutual TLS off, or on, in all the ways that a policy can, and some that cannot.
func TestHorizonWithoutMutualTLS(t *testing.T) {
	gateways := NewGateways(fourNetworks(), nil)
	tests := []struct {
		name   string
		mutual func(w *endpoints.Workload, port uint16) bool
		off    bool
	}{
		{"by default", nil, false},
		{"off for another app", func(w *endpoints.Workload, _ uint16) bool { return w.CanonicalName != "other" }, false},
		{"off for another port", func(_ *endpoints.Workload, port uint16) bool { return port != 80 }, false},
		{"off in the mesh", func(*endpoints.Workload, uint16) bool { return false }, true},
		{"off in the namespace", func(w *endpoints.Workload, _ uint16) bool { return w.Namespace != "ns" }, true},
		{"off for the app", func(w *endpoints.Workload, _ uint16) bool { return w.CanonicalName != "example" }, true},
		{"off for the port", func(_ *endpoints.Workload, port uint16) bool { return port != 8080 }, true},
	}
	for _, test := range tests {
		for _, from := range fromEach {
			t.Run(test.name+"/"+from.cluster, func(t *testing.T) {
				target := target(fourNetworksPods())
				target.MutualTLS = test.mutual
				want := from.want
				if test.off {
					want = from.without
				}
				a := gateways.For(Client{Network: from.network, Cluster: from.cluster, HBONE: true}).Build(target)
				if got := seen(a); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				for _, ep := range a.Localities[0].Endpoints {
					if ep.MutualTLS() == (test.off || ep.Tunnel()) {
						t.Errorf("%s: mutual TLS %v, tunnel %v", ep.Address, ep.MutualTLS(), ep.Tunnel())
					}
				}
			})
		}
	}
}

// TestSNIClusters: a gateway that passes TLS through shows only what speaks mutual TLS.
func TestSNIClusters(t *testing.T) {
	gateways := NewGateways(fourNetworks(), nil)
	for _, from := range fromEach {
		t.Run(from.cluster, func(t *testing.T) {
			b := gateways.For(Client{Network: from.network, Cluster: from.cluster, HBONE: true})
			target := target(fourNetworksPods())
			target.SNI, target.Subset = true, "v1"
			a := b.Build(target)
			if got, want := seen(a), strings.Replace(from.want, "10.0.0.3*6 ", "", 1); got != want { // it takes HBONE
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if a.Cluster != "outbound_.80_.v1_.example.ns.svc.cluster.local" {
				t.Errorf("cluster %s", a.Cluster)
			}
			target.MutualTLS = func(*endpoints.Workload, uint16) bool { return false }
			if got := seen(b.Build(target)); got != "" {
				t.Errorf("without mutual TLS: %s", got)
			}
		})
	}
}

func TestHorizonOfWaypoints(t *testing.T) {
	gateways := NewGateways(fourNetworks(), nil)
	for _, test := range []struct{ network, cluster, want, labels string }{
		{"network1", "cluster1a", local1 + " " + remote2, of1 + " " + through2},
		{"network1", "cluster1b", local1 + " " + remote2, of1 + " " + through2},
		{"network2", "cluster2a", local2, of2}, // the gateway of network1 serves no HBONE; network4 has none
		{"network1", "cluster1", local1 + " " + remote2, of1 + " " + through2},
	} {
		t.Run(test.cluster, func(t *testing.T) {
			a := gateways.For(Client{Kind: Waypoint, Network: test.network, Cluster: test.cluster}).Build(target(fourNetworksPods()))
			if got := seen(a); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if got := labels(a); got != test.labels {
				t.Errorf("labels %s\nwant   %s", got, test.labels)
			}
		})
	}
}

// TestHostnameGateways adds a gateway by name to network2: unless it is resolved, it is not there.
func TestHostnameGateways(t *testing.T) {
	named := append(fourNetworks(), Gateway{Network: "network2", Hostnames: []string{"aeiou.scooby.do"}, SNIPort: 80, HBONEPort: 15008})
	t.Run("not resolved", func(t *testing.T) {
		gateways := NewGateways(named, nil)
		for _, from := range fromEach {
			a := gateways.For(Client{Network: from.network, Cluster: from.cluster, HBONE: true}).Build(target(fourNetworksPods()))
			if got := seen(a); got != from.want {
				t.Errorf("%s: got  %s\nwant %s", from.cluster, got, from.want)
			}
		}
	})
	lookup := func(string) []netip.Addr { return addrs("9.9.9.9 2001:db8::9") }
	from5 := pods("cluster5/network2/20.0.0.5") // a cluster without gateways of its own
	for _, test := range []struct {
		name string
		dns  bool
		want string
	}{
		{"resolved", false, "2.2.2.2*2 2.2.2.20*2 2.2.2.21*2 2001:db8::9*2 9.9.9.9*2"},
		{"resolved by Envoy", true, "2.2.2.2*1 2.2.2.20*1 2.2.2.21*1 aeiou.scooby.do*1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := target(from5)
			target.DNS = test.dns
			a := NewGateways(named, lookup).For(Client{Network: "network1", Cluster: "cluster1a"}).Build(target)
			if got := seen(a); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestClientWithoutNetwork: a client that does not know its network goes through gateways wherever there are any.
func TestClientWithoutNetwork(t *testing.T) {
	gateways := NewGateways([]Gateway{
		{Network: "network-1", Addresses: addrs("1.1.1.1"), SNIPort: 15443},
		{Network: "network-2", Addresses: addrs("2.2.2.2"), SNIPort: 15443},
	}, nil)
	a := gateways.For(Client{Cluster: "c"}).Build(target(pods(
		"c/elsewhere/3.3.3.3 c/network-1/10.10.10.10 c/network-2/- c/elsewhere/-")))
	if got, want := seen(a), "3.3.3.3*1 1.1.1.1*1 2.2.2.2*1"; got != want || a.Localities[0].Weight != 3 {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestGatewayFamilies(t *testing.T) {
	both := "2.2.2.2 2001:db8:2::1"
	tests := []struct {
		name     string
		families endpoints.IPFamilies
		gateways string
		want     string
	}{
		{"IPv4", endpoints.IPv4Only, both, "2.2.2.2*2"},
		{"IPv6", endpoints.IPv6Only, both, "2001:db8:2::1*2"},
		{"dual stack", endpoints.DualStack, both, "2.2.2.2*1 2001:db8:2::1*1"},
		{"not known", endpoints.IPAutomatic, both, "2.2.2.2*1 2001:db8:2::1*1"},
		{"none fits: not the pod itself", endpoints.IPv4Only, "2001:db8:2::1", ""},
		{"IPv4 in IPv6", endpoints.IPv4Only, "::ffff:2.2.2.2", "2.2.2.2*1"},
	}
	for _, kind := range []Kind{Sidecar, Waypoint} {
		for _, test := range tests {
			t.Run(kind.String()+"/"+test.name, func(t *testing.T) {
				gateways := NewGateways([]Gateway{
					{Network: "network1", Cluster: "cluster1", Addresses: addrs("1.1.1.1"), SNIPort: 80, HBONEPort: 15008},
					{Network: "network2", Cluster: "cluster2", Addresses: addrs(test.gateways), SNIPort: 80, HBONEPort: 15008},
				}, nil)
				b := gateways.For(Client{Kind: kind, Network: "network1", Cluster: "cluster1", Families: test.families})
				if got := seen(b.Build(target(pods("cluster2/network2/20.0.0.1")))); got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
			})
		}
	}
}
