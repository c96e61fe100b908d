package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	here    = "west-network"
	address = "172.18.2.100:15008"
	reviews = "reviews.app.svc.cluster.local"
)

var (
	td        = spiffeid.RequireTrustDomainFromString("cluster.local")
	gatewayID = spiffeid.RequireFromSegments(td, "ns", "istio-system", "sa", "gateway")
	clientID  = spiffeid.RequireFromSegments(td, "ns", "app", "sa", "client")
)

// A world is a gateway with a view of its own, on a pod network.
type world struct {
	*testing.T
	ca      *identity.CA
	network *podnet.Network
	state   *discovery.State
	gateway *Gateway
	events  chan Connection
	tapped  syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newWorld(t *testing.T, resources ...endpoints.Resource) *world {
	w := newClosedWorld(t, identity.Config{})
	w.apply(resources...)
	w.state.Complete(wds.AddressTypeURL)
	return w
}

// newClosedWorld has a gateway that was not told yet what there is.
func newClosedWorld(t *testing.T, trust identity.Config) *world {
	t.Helper()
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	network, err := podnet.New(podnet.Config{Name: "west"})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, ca: ca, network: network, state: &discovery.State{}, events: make(chan Connection, 10_000)}
	w.gateway, err = New(Config{
		Network:     here,
		State:       w.state,
		Source:      w.source(gatewayID),
		Clients:     identity.Peers{TrustDomains: []spiffeid.TrustDomain{td}},
		Trust:       trust,
		DialContext: network.DialContext,
		Observe:     func(c Connection) { w.events <- c },
		Tap:         &w.tapped,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := network.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := w.gateway.Serve(context.Background(), l); !errors.Is(err, hbone.ErrClosed) {
			t.Errorf("Serve = %v", err)
		}
	})
	t.Cleanup(func() {
		if err := w.gateway.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
		network.Close()
	})
	return w
}

func (w *world) source(id spiffeid.ID) *identity.Memory {
	w.Helper()
	s, err := w.ca.Source(id, 0)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// apply lets the control plane show resources to the gateway.
func (w *world) apply(resources ...endpoints.Resource) {
	w.Helper()
	u := xds.Update{TypeURL: wds.AddressTypeURL}
	for _, r := range resources {
		body, err := wds.EncodeAddress(r)
		if err != nil {
			w.Fatal(err)
		}
		u.Upserts = append(u.Upserts, xds.Resource{Name: r.Name(), Body: body})
	}
	for _, t := range w.state.Types() {
		if t.URL == u.TypeURL {
			if rejected := t.Handle(u); len(rejected) > 0 {
				w.Fatal(rejected)
			}
		}
	}
}

func service(host, vip string, change ...func(*endpoints.Service)) endpoints.Resource {
	s := &endpoints.Service{
		Name: "svc", Namespace: "app", Hostname: host, Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}},
		Addresses: []endpoints.NetworkAddress{endpoints.HostAddress(here, netip.MustParseAddr(vip))},
	}
	for _, f := range change {
		f(s)
	}
	return endpoints.Resource{Service: s}
}

func pod(name, ip, host string, change ...func(*endpoints.Workload)) endpoints.Resource {
	w := &endpoints.Workload{
		UID: "west//Pod/app/" + name, Name: name, Namespace: "app", Cluster: "west", Network: here,
		Addresses: []netip.Addr{netip.MustParseAddr(ip)}, Tunnel: endpoints.TunnelHBONE, ServiceAccount: name,
		Services: []endpoints.ServicePorts{{Service: endpoints.ServiceKey("app", host), Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}}}},
	}
	for _, f := range change {
		f(w)
	}
	return endpoints.Resource{Workload: w}
}

// backend listens where a pod's node proxy would, says its name to each
// connection, and echoes: the gateway cannot tell it from an inner tunnel.
func (w *world) backend(name, ip string) {
	w.Helper()
	l, err := w.network.Listen(w.Context(), "tcp", ip+":15008")
	if err != nil {
		w.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				if _, err := fmt.Fprintln(conn, name); err == nil {
					_, _ = io.Copy(conn, conn)
				}
			})
		}
	})
	w.Cleanup(func() { l.Close(); serving.Wait() })
}

// dial opens an outer stream as a member of the mesh.
func (w *world) dial(as spiffeid.ID, authority string) (*hbone.Conn, error) {
	w.Helper()
	return w.dialWith(w.source(as), authority, nil)
}

func (w *world) dialWith(source identity.Source, authority string, header http.Header) (*hbone.Conn, error) {
	w.Helper()
	creds, err := identity.NewClient(identity.Config{Source: source, Peers: identity.Peers{IDs: []spiffeid.ID{gatewayID}}})
	if err != nil {
		w.Fatal(err)
	}
	t := &hbone.Transport{DialContext: w.network.DialContext}
	w.Cleanup(func() { t.Close() })
	return t.Dial(w.Context(), hbone.Path{Hops: []hbone.Hop{{Address: address, Authority: authority, TLS: creds}}, StreamHeader: header})
}

func name(t *testing.T, conn net.Conn) string {
	t.Helper()
	var got []byte
	for b := make([]byte, 1); ; got = append(got, b[0]) {
		if _, err := io.ReadFull(conn, b); err != nil {
			t.Fatal(err)
		}
		if b[0] == '\n' {
			return string(got)
		}
	}
}

func status(err error) int {
	var s *hbone.StatusError
	if errors.As(err, &s) {
		return s.Status
	}
	return 0
}

// TestAuthority serves what is in its view, by name or address, and tells what
// it does not serve from what does not answer.
func TestAuthority(t *testing.T) {
	private := func(s *endpoints.Service) { s.Visibility = endpoints.VisibleNamespace }
	strict := func(s *endpoints.Service) {
		s.LoadBalancing = &endpoints.LoadBalancing{Mode: endpoints.ModeStrict, Preference: []endpoints.RoutingScope{endpoints.SameNode}}
	}
	passthrough := func(s *endpoints.Service) {
		s.LoadBalancing = &endpoints.LoadBalancing{Mode: endpoints.ModePassthrough}
	}
	headless := func(s *endpoints.Service) { s.Addresses = nil }
	both := func(w *endpoints.Workload) {
		w.Services = append(w.Services, endpoints.ServicePorts{Service: "app/" + w.Name + ".db.app", Ports: w.Services[0].Ports})
	}
	stranger := spiffeid.RequireFromSegments(td, "ns", "other", "sa", "stranger")
	w := newWorld(t,
		service(reviews, "10.96.0.1"), pod("reviews", "10.1.0.10", reviews),
		service("private.app", "10.96.0.2", private), pod("private", "10.1.0.11", "private.app"),
		service("strict.app", "10.96.0.3", strict), pod("strict", "10.1.0.12", "strict.app"),
		service("empty.app", "10.96.0.4"),
		service("down.app", "10.96.0.5"), pod("down", "10.1.0.13", "down.app"),
		service("plain.app", "10.96.0.6"), pod("plain", "10.1.0.10", "plain.app", func(w *endpoints.Workload) { w.Tunnel = endpoints.TunnelNone }),
		service("away.app", "10.96.0.7"), pod("away", "10.1.0.10", "away.app", func(w *endpoints.Workload) { w.Network = "another" }),
		service("through.app", "10.96.0.8", passthrough),
		service("db.app", "10.96.0.9", headless), service("db-0.db.app", "10.96.0.9", headless), service("db-1.db.app", "10.96.0.9", headless),
		pod("db-0", "10.1.0.14", "db.app", both), pod("db-1", "10.1.0.15", "db.app", both),
	)
	w.backend("db-0", "10.1.0.14")
	w.backend("db-1", "10.1.0.15")
	w.backend("reviews", "10.1.0.10")
	w.backend("private", "10.1.0.11")
	w.backend("strict", "10.1.0.12")
	tests := []struct {
		name, authority string
		as              spiffeid.ID
		answer          string
		status          int
	}{
		{"by name", reviews + ":80", clientID, "reviews", 200},
		{"by address", "10.96.0.1:80", clientID, "reviews", 200},
		{"private, of its namespace", "private.app:80", clientID, "private", 200},
		{"private, of another namespace", "private.app:80", stranger, "", 404},
		{"whatever the service prefers: the client has chosen", "strict.app:80", clientID, "strict", 200},
		{"one pod of a headless service", "db-0.db.app:80", clientID, "db-0", 200},
		{"another pod of it", "db-1.db.app:80", clientID, "db-1", 200},
		{"a pod that it does not have", "db-2.db.app:80", clientID, "", 404},
		{"unknown", "nobody.app:80", clientID, "", 404},
		{"unknown address", "10.96.0.99:80", clientID, "", 404},
		{"a pod's address", "10.1.0.10:15008", clientID, "", 404},
		{"another port", reviews + ":81", clientID, "", 404},
		{"no backend", "empty.app:80", clientID, "", 503},
		{"backend down", "down.app:80", clientID, "", 503},
		{"backend without HBONE", "plain.app:80", clientID, "", 503},
		{"backend on another network", "away.app:80", clientID, "", 503},
		{"nothing to choose from", "through.app:80", clientID, "", 503},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := w.dial(tt.as, tt.authority)
			event := <-w.events
			if event.Peer != tt.as.String() || event.Authority != tt.authority || event.Status != tt.status {
				t.Errorf("observed %+v", event)
			}
			if tt.status != http.StatusOK {
				if status(err) != tt.status || event.Err == nil {
					t.Errorf("got %v, observed %v; want status %d", err, event.Err, tt.status)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got := name(t, conn); got != tt.answer {
				t.Errorf("%s answers", got)
			}
			if got := conn.Header().Get(hbone.HeaderBackend); got != "west//Pod/app/"+tt.answer || got != event.Backend {
				t.Errorf("backend %s, observed %s", got, event.Backend)
			}
		})
	}
}

// TestNotKnown sends clients elsewhere rather than to tell them that a service
// does not exist.
func TestNotKnown(t *testing.T) {
	w := newClosedWorld(t, identity.Config{})
	w.apply(service(reviews, "10.96.0.1"), pod("reviews", "10.1.0.10", reviews))
	w.backend("reviews", "10.1.0.10")
	if _, err := w.dial(clientID, reviews+":80"); status(err) != http.StatusServiceUnavailable {
		t.Errorf("before all is known: %v", err)
	}
	w.state.Complete(wds.AddressTypeURL)
	conn, err := w.dial(clientID, reviews+":80")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestStrangers(t *testing.T) {
	w := newWorld(t, service(reviews, "10.96.0.1"), pod("reviews", "10.1.0.10", reviews))
	w.backend("reviews", "10.1.0.10")
	foreign, err := identity.NewCA(identity.CAConfig{TrustDomain: spiffeid.RequireTrustDomainFromString("elsewhere.example")})
	if err != nil {
		t.Fatal(err)
	}
	source, err := foreign.Source(spiffeid.RequireFromString("spiffe://elsewhere.example/ns/app/sa/client"), 0)
	if err != nil {
		t.Fatal(err)
	}
	source.SetBundle(w.ca.Bundle())
	if _, err := w.dialWith(source, reviews+":80", nil); err == nil {
		t.Error("a member of another trust domain was let in")
	}
	if e := <-w.events; e.Err == nil || e.Status != 0 || e.Authority != "" {
		t.Errorf("observed %+v", e)
	}
}

// TestNextBackend tries others before it answers, and gives up in the end.
func TestNextBackend(t *testing.T) {
	w := newWorld(t, service(reviews, "10.96.0.1"),
		pod("a", "10.1.0.10", reviews), pod("b", "10.1.0.11", reviews), pod("c", "10.1.0.12", reviews))
	if _, err := w.dial(clientID, reviews+":80"); status(err) != http.StatusServiceUnavailable {
		t.Errorf("all are down: %v", err)
	}
	if e := <-w.events; e.Err == nil || strings.Count(e.Err.Error(), "refused") != 3 {
		t.Errorf("observed %v", e.Err)
	}
	w.backend("c", "10.1.0.12")
	for range 20 {
		conn, err := w.dial(clientID, reviews+":80")
		if err != nil {
			t.Fatal(err)
		}
		if got := name(t, conn); got != "c" {
			t.Errorf("%s answers", got)
		}
		conn.Close()
	}
}

// TestFollows what the control plane shows.
func TestFollows(t *testing.T) {
	w := newWorld(t, service(reviews, "10.96.0.1"), pod("a", "10.1.0.10", reviews))
	w.backend("a", "10.1.0.10")
	w.backend("b", "10.1.0.11")
	ask := func() string {
		conn, err := w.dial(clientID, reviews+":80")
		if err != nil {
			return fmt.Sprint(status(err))
		}
		defer conn.Close()
		return name(t, conn)
	}
	if got := ask(); got != "a" {
		t.Errorf("%s answers", got)
	}
	w.apply(pod("a", "10.1.0.11", reviews))
	if got := ask(); got != "b" {
		t.Errorf("when it has moved: %s answers", got)
	}
	remove := xds.Update{TypeURL: wds.AddressTypeURL, Removals: []string{"app/" + reviews}}
	w.state.Types()[1].Handle(remove)
	if got := ask(); got != "404" {
		t.Errorf("when it is not global any more: %s", got)
	}
}

// TestWaypoint leads to the waypoint of a service, whatever the client says of
// itself; and nowhere if that is not known.
func TestWaypoint(t *testing.T) {
	const host = "waypoint.app.svc.cluster.local"
	hbonePort := []endpoints.Port{{ServicePort: 15008, TargetPort: 15008}}
	byName := endpoints.GatewayAddress{Namespace: "app", Hostname: host, Port: 15008}
	byAddress := endpoints.GatewayAddress{Address: endpoints.HostAddress(here, netip.MustParseAddr("10.96.0.30"))}
	waypoint := service(host, "10.96.0.30", func(s *endpoints.Service) { s.Ports = hbonePort })
	waypointPod := pod("waypoint", "10.1.0.30", host, func(w *endpoints.Workload) { w.Services[0].Ports = hbonePort })
	tests := []struct {
		name    string
		address endpoints.GatewayAddress
		known   []endpoints.Resource
		want    string
	}{
		{"by name", byName, []endpoints.Resource{waypoint, waypointPod}, "waypoint"},
		{"by address, default port", byAddress, []endpoints.Resource{waypoint, waypointPod}, "waypoint"},
		{"without endpoints", byName, []endpoints.Resource{waypoint}, "503"},
		{"not known", byName, nil, "503"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, append(tt.known, pod("reviews", "10.1.0.10", reviews),
				service(reviews, "10.96.0.1", func(s *endpoints.Service) { s.Waypoint = &tt.address }))...)
			w.backend("reviews", "10.1.0.10")
			w.backend("waypoint", "10.1.0.30")
			var got string
			conn, err := w.dialWith(w.source(clientID), reviews+":80", http.Header{"X-Istio-Source": {"waypoint"}})
			if err != nil {
				got = fmt.Sprint(status(err))
			} else {
				got = name(t, conn)
				conn.Close()
			}
			if got != tt.want {
				t.Errorf("%s answers, want %s", got, tt.want)
			}
		})
	}
}

// TestTap shows what the client sends, and half-close passes both ways.
func TestTap(t *testing.T) {
	w := newWorld(t, service(reviews, "10.96.0.1"), pod("reviews", "10.1.0.10", reviews))
	w.backend("reviews", "10.1.0.10")
	conn, err := w.dial(clientID, reviews+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "inner tunnel"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "reviews\ninner tunnel" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if got := w.tapped.String(); got != "inner tunnel" {
		t.Errorf("tapped %q", got)
	}
}

// TestDrain lets connections finish and takes no new ones.
func TestDrain(t *testing.T) {
	w := newWorld(t, service(reviews, "10.96.0.1"), pod("reviews", "10.1.0.10", reviews))
	w.backend("reviews", "10.1.0.10")
	conn, err := w.dial(clientID, reviews+":80")
	if err != nil {
		t.Fatal(err)
	}
	name(t, conn)
	drained := make(chan error, 1)
	go func() { drained <- w.gateway.Shutdown(context.Background()) }()
	for { // until it has begun
		other, err := w.dial(clientID, reviews+":80")
		if err != nil {
			break
		}
		other.Close()
	}
	if _, err := io.WriteString(conn, "still here\n"); err != nil {
		t.Fatal(err)
	}
	if got := name(t, conn); got != "still here" {
		t.Errorf("got %q", got)
	}
	conn.Close()
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// TestDrainCut ends what does not finish in time.
func TestDrainCut(t *testing.T) {
	w := newWorld(t, service(reviews, "10.96.0.1"), pod("reviews", "10.1.0.10", reviews))
	w.backend("reviews", "10.1.0.10")
	conn, err := w.dial(clientID, reviews+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	name(t, conn)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.gateway.Shutdown(over); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown = %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the connection ended as if all were well: %v", err)
	}
}

func TestNoCertificate(t *testing.T) {
	_, err := New(Config{State: &discovery.State{}, Clients: identity.Peers{TrustDomains: []spiffeid.TrustDomain{td}}})
	if err == nil {
		t.Error("a gateway without a certificate was made")
	}
}
