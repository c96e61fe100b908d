package ztunnel

import (
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

const clientBaggage = "k8s.cluster.name=east,k8s.namespace.name=app,k8s.deployment.name=client,service.name=client,service.version=v1"

// TestDirect holds what a workload on our network is sent against ztunnel's
// form: an address and the port of the pod, three headers.
func TestDirect(t *testing.T) {
	tests := []struct {
		name, ask, forwarded string
	}{
		{"by the service's address", "10.96.0.1:80", `^for="10\.1\.0\.20:\d+";host=reviews\.app\.svc\.cluster\.local$`},
		{"by the service's name", reviews + ":80", `^for="10\.1\.0\.20:\d+";host=reviews\.app\.svc\.cluster\.local$`},
		{"by its short name", "reviews:80", `^for="10\.1\.0\.20:\d+";host=reviews\.app\.svc\.cluster\.local$`},
		{"by the pod's address", "10.1.0.10:8080", `^for="10\.1\.0\.20:\d+"$`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, client(), service(reviews, "10.96.0.1"), pod2("reviews", "10.1.0.10", backs(reviews, 8080)))
			p := w.peer("reviews", "10.1.0.10:15008", "reviews", http.StatusOK)
			if got := w.mustAsk(tt.ask); got != "reviews" {
				t.Errorf("%s answers", got)
			}
			seen := <-p.seen
			if seen.authority != "10.1.0.10:8080" {
				t.Errorf("authority %s", seen.authority)
			}
			if diff := cmp.Diff([]string{"Baggage", "Forwarded", "Traceparent"}, names(seen.header)); diff != "" {
				t.Error(diff)
			}
			if got := seen.header.Get("baggage"); got != clientBaggage {
				t.Errorf("baggage %s", got)
			}
			match(t, tt.forwarded, seen.header.Get("forwarded"))
			match(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`, seen.header.Get("traceparent"))
			event := w.event(Outbound)
			if event.Target != "east//Pod/app/reviews" || event.Authority != "10.1.0.10:8080" || len(event.Hops) != 1 || event.Err != nil {
				t.Errorf("observed %+v", event)
			}
		})
	}
}

func match(t *testing.T, pattern, got string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(got) {
		t.Errorf("%q does not match %s", got, pattern)
	}
}

func network(name string) func(*endpoints.Workload) {
	return func(w *endpoints.Workload) { w.Network = name }
}

// remote is what stands for a service's backends on the other network.
func remote(host string, gateway endpoints.GatewayAddress) endpoints.Resource {
	return endpoints.Resource{Workload: &endpoints.Workload{
		UID: "there/" + host, Name: "there", Namespace: "app", Network: there, Cluster: "west", Tunnel: endpoints.TunnelHBONE, NetworkGateway: &gateway,
		Services: []endpoints.ServicePorts{{Service: endpoints.ServiceKey("app", host), Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}}}},
	}}
}

func sans(accounts ...string) func(*endpoints.Service) {
	return func(s *endpoints.Service) {
		for _, a := range accounts {
			s.SubjectAltNames = append(s.SubjectAltNames, id(a).String())
		}
	}
}

func gatewayService(s *endpoints.Service) {
	s.Addresses = []endpoints.NetworkAddress{endpoints.HostAddress(there, netip.MustParseAddr("172.18.2.1"))}
	s.Ports = []endpoints.Port{{ServicePort: 15009, TargetPort: 15008}}
}

func backsGateway(w *endpoints.Workload) {
	w.Network = there
	w.Services = []endpoints.ServicePorts{{Service: "app/gw.app", Ports: []endpoints.Port{{ServicePort: 15009, TargetPort: 15008}}}}
}

// TestThroughGateway finds gateways in all ways in which a control plane names
// them, and looks at both CONNECTs.
func TestThroughGateway(t *testing.T) {
	at := func(ip string) endpoints.NetworkAddress { return endpoints.HostAddress(there, netip.MustParseAddr(ip)) }
	tests := []struct {
		name    string
		gateway endpoints.GatewayAddress
		known   []endpoints.Resource
	}{
		{"a workload by address", endpoints.GatewayAddress{Address: at("172.18.2.100"), Port: 15008},
			[]endpoints.Resource{pod2("gateway", "172.18.2.100", network(there))}},
		{"a workload by address, default port", endpoints.GatewayAddress{Address: at("172.18.2.100")},
			[]endpoints.Resource{pod2("gateway", "172.18.2.100", network(there))}},
		{"a workload by hostname", endpoints.GatewayAddress{Namespace: "app", Hostname: "gw.example", Port: 15008},
			[]endpoints.Resource{pod2("gateway", "172.18.2.100", network(there), func(w *endpoints.Workload) { w.Hostname = "gw.example" })}},
		{"a service by address", endpoints.GatewayAddress{Address: at("172.18.2.1"), Port: 15009},
			[]endpoints.Resource{service("gw.app", "", gatewayService), pod2("gateway", "172.18.2.100", backsGateway)}},
		{"a service by hostname", endpoints.GatewayAddress{Namespace: "app", Hostname: "gw.app", Port: 15009},
			[]endpoints.Resource{service("gw.app", "", gatewayService), pod2("gateway", "172.18.2.100", backsGateway)}},
		{"a service that vouches for its backends", endpoints.GatewayAddress{Namespace: "app", Hostname: "gw.app", Port: 15009},
			[]endpoints.Resource{service("gw.app", "", gatewayService, sans("gateway")),
				pod2("other", "172.18.2.100", backsGateway)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, append(tt.known, client(), service(reviews, "10.96.0.1", sans("reviews")), remote(reviews, tt.gateway))...)
			outer, inner := w.gatewayPeer("172.18.2.100:15008", "gateway", "reviews")
			if got := w.mustAsk("10.96.0.1:80"); got != "inner" {
				t.Errorf("%s answers", got)
			}
			first, second := <-outer.seen, <-inner.seen
			if first.authority != reviews+":80" || second.authority != reviews+":80" {
				t.Errorf("authorities %s, %s", first.authority, second.authority)
			}
			if diff := cmp.Diff([]string{"Baggage"}, names(first.header)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{"Baggage", "Forwarded", "Traceparent", "X-Forwarded-Network"}, names(second.header)); diff != "" {
				t.Error(diff)
			}
			if got := second.header.Get("x-forwarded-network"); got != here {
				t.Errorf("x-forwarded-network %q", got)
			}
			match(t, `;host=reviews\.app\.svc\.cluster\.local$`, second.header.Get("forwarded"))
		})
	}
}

// TestNoWay are destinations that cannot be reached; nothing else is to be
// reached instead.
func TestNoWay(t *testing.T) {
	gateway := endpoints.GatewayAddress{Address: endpoints.HostAddress(there, netip.MustParseAddr("172.18.2.100")), Port: 15008}
	gatewayPod := pod2("gateway", "172.18.2.100", network(there))
	local := pod2("reviews", "10.1.0.10", backs(reviews, 8080))
	tests := []struct {
		name, ask string
		known     []endpoints.Resource
		account   string // of the peer at the gateway's address and inside of it
		inner     string
		want      string
	}{
		{"a name that nobody has", "nobody:80", nil, "", "", "host unreachable"},
		{"a service without backends", "10.96.0.1:80", []endpoints.Resource{service(reviews, "10.96.0.1")}, "", "", "host unreachable"},
		{"a port that the service has not", "10.96.0.1:81", []endpoints.Resource{service(reviews, "10.96.0.1"), local}, "", "", "connection refused"},
		{"an unknown gateway", "10.96.0.1:80", []endpoints.Resource{service(reviews, "10.96.0.1", sans("reviews")), remote(reviews, gateway)}, "gateway", "reviews", "connection refused"},
		{"a gateway of another identity", "10.96.0.1:80", []endpoints.Resource{service(reviews, "10.96.0.1", sans("reviews")), remote(reviews, gateway), gatewayPod}, "impostor", "reviews", "connection refused"},
		{"a backend of another identity behind the gateway", "10.96.0.1:80", []endpoints.Resource{service(reviews, "10.96.0.1", sans("reviews")), remote(reviews, gateway), gatewayPod}, "gateway", "impostor", "connection refused"},
		{"a service that names no identities", "10.96.0.1:80", []endpoints.Resource{service(reviews, "10.96.0.1"), remote(reviews, gateway), gatewayPod}, "gateway", "reviews", "connection refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, append(tt.known, client())...)
			if tt.account != "" {
				w.gatewayPeer("172.18.2.100:15008", tt.account, tt.inner)
			}
			plain := w.app("plain", "10.1.0.10:8080")
			got, err := w.ask(tt.ask)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, %v; want %s", got, err, tt.want)
			}
			if w.event(Outbound).Err == nil || plain() > 0 {
				t.Errorf("observed no error, or %d connections in plain text", plain())
			}
		})
	}
}

// TestRetry takes another backend as long as none has answered.
func TestRetry(t *testing.T) {
	known := []endpoints.Resource{
		client(), service(reviews, "10.96.0.1"), pod2("a", "10.1.0.10", backs(reviews, 8080)),
		pod2("b", "10.1.0.11", backs(reviews, 8080)), pod2("c", "10.1.0.12", backs(reviews, 8080)),
	}
	t.Run("nobody there, or 503", func(t *testing.T) {
		w := newWorld(t, known...)
		w.peer("b", "10.1.0.11:15008", "b", http.StatusServiceUnavailable)
		w.peer("c", "10.1.0.12:15008", "c", http.StatusOK)
		for range 20 {
			if got := w.mustAsk("reviews:80"); got != "c" {
				t.Fatalf("%s answers", got)
			}
		}
	})
	t.Run("a gateway that is not known", func(t *testing.T) {
		gateway := endpoints.GatewayAddress{Address: endpoints.HostAddress(there, netip.MustParseAddr("172.18.2.100"))}
		w := newWorld(t, append(known[:3:3], remote(reviews, gateway))...)
		w.peer("a", "10.1.0.10:15008", "a", http.StatusOK)
		for range 20 {
			w.mustAsk("reviews:80")
		}
	})
	t.Run("denied", func(t *testing.T) {
		w := newWorld(t, known...)
		var peers []*peer
		for i, name := range []string{"a", "b", "c"} {
			peers = append(peers, w.peer(name, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(10 + i)}), 15008).String(), name, http.StatusUnauthorized))
		}
		if _, err := w.ask("reviews:80"); err == nil || !strings.Contains(err.Error(), "not allowed") {
			t.Errorf("got %v", err)
		}
		if n := len(peers[0].seen) + len(peers[1].seen) + len(peers[2].seen); n != 1 {
			t.Errorf("%d backends were asked", n)
		}
	})
}

// TestNeverPlain has a plain server wherever a fallback to plain text would
// lead.
func TestNeverPlain(t *testing.T) {
	passthrough := func(s *endpoints.Service) {
		s.Addresses = []endpoints.NetworkAddress{{Network: here, Prefix: netip.MustParsePrefix("10.1.0.0/28")}}
		s.LoadBalancing = &endpoints.LoadBalancing{Mode: endpoints.ModePassthrough}
	}
	tests := []struct {
		name, ask string
		known     []endpoints.Resource
		proxy     string // identity of the peer at 15008, if there is one
	}{
		{"no proxy there", "10.1.0.10:8080", []endpoints.Resource{pod2("reviews", "10.1.0.10")}, ""},
		{"no proxy there, by service", "10.96.0.1:80", []endpoints.Resource{service(reviews, "10.96.0.1"), pod2("reviews", "10.1.0.10", backs(reviews, 8080))}, ""},
		{"an impostor", "10.1.0.10:8080", []endpoints.Resource{pod2("reviews", "10.1.0.10")}, "impostor"},
		{"under a service that passes through", "10.1.0.10:8080", []endpoints.Resource{service("all.app", "", passthrough), pod2("reviews", "10.1.0.10")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, append(tt.known, client())...)
			plain := w.app("plain", "10.1.0.10:8080")
			if tt.proxy != "" {
				w.peer("proxy", "10.1.0.10:15008", tt.proxy, http.StatusOK)
			}
			if got, err := w.ask(tt.ask); err == nil {
				t.Errorf("%s answers", got)
			}
			if plain() > 0 {
				t.Error("there was a connection in plain text")
			}
		})
	}
}

// TestPlain reaches in plain text what does not speak HBONE.
func TestPlain(t *testing.T) {
	none := func(w *endpoints.Workload) { w.Tunnel = endpoints.TunnelNone }
	passthrough := func(s *endpoints.Service) {
		s.Addresses = []endpoints.NetworkAddress{{Network: here, Prefix: netip.MustParsePrefix("192.0.2.0/24")}}
		s.LoadBalancing = &endpoints.LoadBalancing{Mode: endpoints.ModePassthrough}
	}
	w := newWorld(t, client(), pod2("legacy", "10.1.0.10", none, backs(reviews, 9090)), service(reviews, "10.96.0.1"), service("range.app", "", passthrough))
	w.app("legacy", "10.1.0.10:9090")
	w.app("outside", "198.51.100.1:443")
	w.app("range", "192.0.2.7:443")
	for ask, want := range map[string]string{"reviews:80": "legacy", "10.1.0.10:9090": "legacy", "198.51.100.1:443": "outside", "192.0.2.7:443": "range"} {
		if got := w.mustAsk(ask); got != want {
			t.Errorf("%s answers for %s", got, ask)
		}
	}
	if _, err := w.ask("range.app:80"); err == nil {
		t.Error("a name leads through a service that needs an address")
	}
}

// TestIdentities: behind a service's address any identity that the service
// names will do, behind a pod's own only its own.
func TestIdentities(t *testing.T) {
	w := newWorld(t, client(), service(reviews, "10.96.0.1", sans("stand-in"), func(s *endpoints.Service) {
		s.SubjectAltNames = append(s.SubjectAltNames, "no SPIFFE ID")
	}), pod2("reviews", "10.1.0.10", backs(reviews, 8080)))
	w.peer("stand-in", "10.1.0.10:15008", "stand-in", http.StatusOK)
	w.mustAsk("10.96.0.1:80")
	if _, err := w.ask("10.1.0.10:8080"); err == nil {
		t.Error("the pod's own address led to another identity")
	}
}

// TestChoice leaves the choice of a backend to the service's preferences.
func TestChoice(t *testing.T) {
	zone := func(zone string) func(*endpoints.Workload) {
		return func(w *endpoints.Workload) { w.Locality = endpoints.Locality{Region: "r", Zone: zone} }
	}
	prefer := func(mode endpoints.BalanceMode) func(*endpoints.Service) {
		return func(s *endpoints.Service) {
			s.LoadBalancing = &endpoints.LoadBalancing{Mode: mode, Preference: []endpoints.RoutingScope{endpoints.SameNetwork, endpoints.SameRegion, endpoints.SameZone}}
		}
	}
	near, far := pod2("near", "10.1.0.10", backs(reviews, 8080), zone("1")), pod2("far", "10.1.0.11", backs(reviews, 8080), zone("2"))
	tests := []struct {
		name  string
		mode  endpoints.BalanceMode
		known []endpoints.Resource
		want  []string
	}{
		{"FAILOVER stays near", endpoints.ModeFailover, []endpoints.Resource{near, far}, []string{"near"}},
		{"FAILOVER goes far if it must", endpoints.ModeFailover, []endpoints.Resource{far}, []string{"far"}},
		{"STRICT stays near", endpoints.ModeStrict, []endpoints.Resource{near, far}, []string{"near"}},
		{"STRICT goes nowhere else", endpoints.ModeStrict, []endpoints.Resource{far}, []string{""}},
		{"no mode takes all", endpoints.ModeUnspecified, []endpoints.Resource{near, far}, []string{"far", "near"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, append(tt.known, pod1("client", clientIP, zone("1")), service(reviews, "10.96.0.1", prefer(tt.mode)))...)
			w.peer("near", "10.1.0.10:15008", "near", http.StatusOK)
			w.peer("far", "10.1.0.11:15008", "far", http.StatusOK)
			var got []string
			for range 60 {
				name, _ := w.ask("reviews:80")
				got = append(got, name)
			}
			slices.Sort(got)
			if got = slices.Compact(got); !slices.Equal(got, tt.want) {
				t.Errorf("%q answer, want %q", got, tt.want)
			}
		})
	}
}

// TestPorts: a named port is another number in each pod.
func TestPorts(t *testing.T) {
	named := func(s *endpoints.Service) { s.Ports[0].TargetPort = 0 }
	w := newWorld(t, client(), service(reviews, "10.96.0.1", named), pod2("a", "10.1.0.10", backs(reviews, 8081)), pod2("b", "10.1.0.11", backs(reviews, 8082)))
	a := w.peer("a", "10.1.0.10:15008", "a", http.StatusOK)
	b := w.peer("b", "10.1.0.11:15008", "b", http.StatusOK)
	for len(a.seen) == 0 || len(b.seen) == 0 {
		w.mustAsk("reviews:80")
	}
	if got := (<-a.seen).authority; got != "10.1.0.10:8081" {
		t.Errorf("a was asked for %s", got)
	}
	if got := (<-b.seen).authority; got != "10.1.0.11:8082" {
		t.Errorf("b was asked for %s", got)
	}
}

func TestHeadless(t *testing.T) {
	w := newWorld(t, client(), service(reviews, ""), pod2("reviews", "10.1.0.10", backs(reviews, 8080)))
	w.peer("reviews", "10.1.0.10:15008", "reviews", http.StatusOK)
	if got := w.mustAsk("reviews.app:80"); got != "reviews" {
		t.Errorf("%s answers", got)
	}
}

// TestFamilies dials the address that was asked for, or one of its family.
func TestFamilies(t *testing.T) {
	w := &endpoints.Workload{Hostname: "h", Addresses: []netip.Addr{
		netip.MustParseAddr("10.1.0.10"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"),
	}}
	for like, want := range map[string]string{"10.96.0.1": "10.1.0.10", "2001:db8:1::1": "2001:db8::1", "2001:db8::2": "2001:db8::2"} {
		if got := hostOf(w, netip.MustParseAddr(like)); got != want {
			t.Errorf("for %s: %s, want %s", like, got, want)
		}
	}
	if got := hostOf(w, netip.Addr{}); got != "10.1.0.10" {
		t.Errorf("for a name: %s", got)
	}
	if got := hostOf(&endpoints.Workload{Hostname: "h"}, netip.Addr{}); got != "h" {
		t.Errorf("without an address: %s", got)
	}
}

// TestOtherPods: nobody else may speak with a pod's identity.
func TestOtherPods(t *testing.T) {
	w := newWorld(t, client(), pod2("reviews", "10.1.0.10"))
	p := w.peer("reviews", "10.1.0.10:15008", "reviews", http.StatusOK)
	intruder := w.network.Pod(netip.MustParseAddr("10.1.0.66"))
	conn, err := intruder.DialContext(t.Context(), "tcp", clientIP+":15080")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("\x05\x01\x00"))
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("another pod got %d bytes of an answer", n)
	}
	if len(p.seen) > 0 {
		t.Error("another pod got through")
	}
}
