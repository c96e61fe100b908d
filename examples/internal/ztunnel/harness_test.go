package ztunnel

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	socks "golang.org/x/net/proxy"

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
	here  = "east-network"
	there = "west-network"
)

var td = spiffeid.RequireTrustDomainFromString("cluster.local")

// A world is a node proxy for node-1 of cluster east, on a pod network of its
// own, that knows what the test tells it.
type world struct {
	testing.TB
	ctx     context.Context
	ca      *identity.CA
	network *podnet.Network
	state   *discovery.State
	certs   *certificates
	proxy   *Proxy
	events  chan Connection
}

// newWorld starts a proxy that knows of nothing and of no policies, and of the
// given resources.
func newWorld(t testing.TB, resources ...endpoints.Resource) *world {
	w := newClosedWorld(t, Config{})
	w.apply(resources...)
	w.policies()
	w.state.Complete(wds.AddressTypeURL)
	w.state.Complete(wds.AuthorizationTypeURL)
	w.awaitReady()
	return w
}

// newClosedWorld starts a proxy that has not heard of anything yet.
func newClosedWorld(t testing.TB, cfg Config) *world {
	t.Helper()
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	network, err := podnet.New(podnet.Config{Name: "east"})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, ctx: t.Context(), ca: ca, network: network, state: &discovery.State{}, events: make(chan Connection, 1000)}
	w.certs = &certificates{ca: ca, away: map[spiffeid.ID]chan struct{}{}}
	cfg.Cluster, cfg.Network, cfg.Node, cfg.TrustDomain = "east", here, "node-1", td
	cfg.State, cfg.Certificates = w.state, w.certs
	cfg.Pod = func(ip netip.Addr) PodNetwork { return network.Pod(ip) }
	cfg.Observe = func(c Connection) { w.events <- c }
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.proxy = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.proxy.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// awaitReady waits until the proxy has caught up with the state.
func (w *world) awaitReady() {
	w.Helper()
	w.await(func() bool { return w.proxy.Ready() })
}

func (w *world) await(done func() bool) {
	w.Helper()
	if err := w.proxy.await(w.ctx, done); err != nil {
		w.Fatal(err)
	}
}

// apply lets the control plane send resources, as it would on the wire.
func (w *world) apply(resources ...endpoints.Resource) {
	w.Helper()
	w.send(addressUpdate(w, nil, resources...))
}

func (w *world) remove(names ...string) {
	w.Helper()
	w.send(addressUpdate(w, names))
}

func (w *world) policies(policies ...*wds.Authorization) {
	w.Helper()
	u := xds.Update{TypeURL: wds.AuthorizationTypeURL}
	for _, p := range policies {
		body, err := wds.EncodeAuthorization(p)
		if err != nil {
			w.Fatal(err)
		}
		u.Upserts = append(u.Upserts, xds.Resource{Name: p.ResourceName(), Body: body})
	}
	w.send(u)
}

func (w *world) send(u xds.Update) {
	w.Helper()
	for _, t := range w.state.Types() {
		if t.URL != u.TypeURL {
			continue
		}
		if rejected := t.Handle(u); len(rejected) > 0 {
			w.Fatalf("rejected: %v", rejected)
		}
	}
}

func addressUpdate(t testing.TB, removals []string, resources ...endpoints.Resource) xds.Update {
	t.Helper()
	u := xds.Update{TypeURL: wds.AddressTypeURL, Removals: removals}
	for _, r := range resources {
		body, err := wds.EncodeAddress(r)
		if err != nil {
			t.Fatal(err)
		}
		u.Upserts = append(u.Upserts, xds.Resource{Name: r.Name(), Body: body})
	}
	return u
}

// certificates are those of a CA that can be away.
type certificates struct {
	ca   *identity.CA
	mu   sync.Mutex
	away map[spiffeid.ID]chan struct{}
}

// leave makes the CA unreachable for an identity until back is called.
func (c *certificates) leave(id spiffeid.ID) (back func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan struct{})
	c.away[id] = ch
	return func() { close(ch) }
}

func (c *certificates) Source(ctx context.Context, id spiffeid.ID) (identity.Source, func(), error) {
	c.mu.Lock()
	away := c.away[id]
	c.mu.Unlock()
	if away != nil {
		select {
		case <-away:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
	source, err := c.ca.Source(id, 0)
	return source, func() {}, err
}

// id is the SPIFFE ID of a service account of namespace app.
func id(account string) spiffeid.ID {
	return spiffeid.RequireFromSegments(td, "ns", "app", "sa", account)
}

// pod1 is a pod of node-1, which the proxy serves.
func pod1(name, ip string, change ...func(*endpoints.Workload)) endpoints.Resource {
	return podOn("node-1", name, ip, change...)
}

// pod2 is a pod of another node: the test serves it, as peer or app.
func pod2(name, ip string, change ...func(*endpoints.Workload)) endpoints.Resource {
	return podOn("node-2", name, ip, change...)
}

func podOn(node, name, ip string, change ...func(*endpoints.Workload)) endpoints.Resource {
	w := &endpoints.Workload{
		UID: "east//Pod/app/" + name, Name: name, Namespace: "app", Cluster: "east", Network: here, Node: node,
		Addresses: []netip.Addr{netip.MustParseAddr(ip)}, Tunnel: endpoints.TunnelHBONE, ServiceAccount: name,
		TrustDomain: "cluster.local", WorkloadName: name, CanonicalName: name, CanonicalRevision: "v1",
	}
	for _, f := range change {
		f(w)
	}
	return endpoints.Resource{Workload: w}
}

// backs makes a workload a backend of service app/host, on port 80 of which it
// has targetPort.
func backs(host string, targetPort uint16) func(*endpoints.Workload) {
	return func(w *endpoints.Workload) {
		w.Services = append(w.Services, endpoints.ServicePorts{
			Service: endpoints.ServiceKey("app", host), Ports: []endpoints.Port{{ServicePort: 80, TargetPort: targetPort}},
		})
	}
}

// service is one of namespace app, with port 80 for 8080.
func service(host, vip string, change ...func(*endpoints.Service)) endpoints.Resource {
	name, _, _ := strings.Cut(host, ".")
	s := &endpoints.Service{Name: name, Namespace: "app", Hostname: host, Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}}}
	if vip != "" {
		s.Addresses = []endpoints.NetworkAddress{endpoints.HostAddress(here, netip.MustParseAddr(vip))}
	}
	for _, f := range change {
		f(s)
	}
	return endpoints.Resource{Service: s}
}

const reviews = "reviews.app.svc.cluster.local"

// An asked is a CONNECT as a peer has seen it.
type asked struct {
	peer      string
	authority string
	header    http.Header
}

// A peer is a HBONE server that the test has in place of another node's proxy:
// it answers every CONNECT with a status, and if that is 200 says its name.
type peer struct {
	name string
	seen chan asked
}

// peer serves HBONE on address with the identity of a service account.
func (w *world) peer(name, address, account string, status int) *peer {
	w.Helper()
	p := &peer{name: name, seen: make(chan asked, 100)}
	w.serveHBONE(address, id(account), func(r *hbone.Request) {
		p.seen <- asked{name, r.Authority(), r.Header()}
		if status != http.StatusOK {
			r.Reject(status)
			return
		}
		if conn, err := r.Accept(nil); err == nil {
			answer(conn, name)
		}
	})
	return p
}

// gatewayPeer is a gateway, whose inner end is at the same place: a peer of
// another identity.
func (w *world) gatewayPeer(address, account, innerAccount string) (outer, inner *peer) {
	w.Helper()
	outer, inner = &peer{seen: make(chan asked, 100)}, &peer{seen: make(chan asked, 100)}
	inside := w.server(id(innerAccount), func(r *hbone.Request) {
		inner.seen <- asked{"inner", r.Authority(), r.Header()}
		if conn, err := r.Accept(nil); err == nil {
			answer(conn, "inner")
		}
	})
	w.serveHBONE(address, id(account), func(r *hbone.Request) {
		outer.seen <- asked{"outer", r.Authority(), r.Header()}
		if conn, err := r.Accept(nil); err == nil {
			_ = inside.ServeConn(w.ctx, conn)
		}
	})
	return outer, inner
}

func (w *world) server(id spiffeid.ID, handler func(*hbone.Request)) *hbone.Server {
	w.Helper()
	source, err := w.ca.Source(id, 0)
	if err != nil {
		w.Fatal(err)
	}
	creds, err := identity.NewServer(identity.Config{Source: source, Peers: identity.Peers{TrustDomains: []spiffeid.TrustDomain{td}}})
	if err != nil {
		w.Fatal(err)
	}
	s := &hbone.Server{TLS: creds, Handler: handler}
	w.Cleanup(func() { s.Close() })
	return s
}

func (w *world) serveHBONE(address string, id spiffeid.ID, handler func(*hbone.Request)) {
	w.Helper()
	s := w.server(id, handler)
	l := w.listen(address)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(context.Background(), l) })
	w.Cleanup(func() { s.Close(); serving.Wait() })
}

func (w *world) listen(address string) net.Listener {
	w.Helper()
	l, err := w.network.Listen(w.ctx, "tcp", address)
	if err != nil {
		w.Fatal(err)
	}
	return l
}

// app listens on an address of the pod network: each connection is told the
// name and then echoed to.
func (w *world) app(name, address string) (connections func() int) {
	w.Helper()
	l := w.listen(address)
	var mu sync.Mutex
	n := 0
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			n++
			mu.Unlock()
			serving.Go(func() { answer(conn, name) })
		}
	})
	w.Cleanup(func() { l.Close(); serving.Wait() })
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// answer says a name in a line, and then echoes until the peer has ended.
func answer(conn net.Conn, name string) {
	defer conn.Close()
	if _, err := io.WriteString(conn, name+"\n"); err == nil {
		_, _ = io.Copy(conn, conn)
	}
}

// dialFrom connects as an application of a pod does.
func (w *world) dialFrom(ip, address string) (net.Conn, error) {
	from := w.network.Pod(netip.MustParseAddr(ip))
	d, err := socks.SOCKS5("tcp", ":"+strconv.Itoa(SOCKSPort), nil, podDialer{from})
	if err != nil {
		w.Fatal(err)
	}
	return d.(socks.ContextDialer).DialContext(w.ctx, "tcp", address)
}

type podDialer struct{ *podnet.Pod }

func (d podDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

const clientIP = "10.1.0.20"

// client is the pod that connects.
func client() endpoints.Resource { return pod1("client", clientIP) }

// ask connects from the client to address and returns the name that answers.
func (w *world) ask(address string) (string, error) {
	conn, err := w.dialFrom(clientIP, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return readName(conn)
}

func (w *world) mustAsk(address string) string {
	w.Helper()
	name, err := w.ask(address)
	if err != nil {
		w.Fatalf("connection to %s: %v", address, err)
	}
	return name
}

func readName(conn net.Conn) (string, error) {
	var name []byte
	for b := make([]byte, 1); ; name = append(name, b[0]) {
		if _, err := io.ReadFull(conn, b); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return string(name), nil
		}
	}
}

// event returns the next connection in one direction that was observed.
func (w *world) event(direction Direction) Connection {
	w.Helper()
	for {
		select {
		case c := <-w.events:
			if c.Direction == direction {
				return c
			}
		case <-w.ctx.Done():
			w.Fatal("no event")
		}
	}
}

// inbound returns a Transport of a member of the mesh, and the way to a pod.
func (w *world) inbound(account, host, authority string, pod spiffeid.ID) (*hbone.Transport, hbone.Path) {
	w.Helper()
	source, err := w.ca.Source(id(account), 0)
	if err != nil {
		w.Fatal(err)
	}
	creds, err := identity.NewClient(identity.Config{Source: source, Peers: identity.Peers{IDs: []spiffeid.ID{pod}}})
	if err != nil {
		w.Fatal(err)
	}
	t := &hbone.Transport{DialContext: w.network.Pod(netip.MustParseAddr("10.1.0.99")).DialContext, MaxBackoff: -1}
	w.Cleanup(func() { t.Close() })
	return t, hbone.Path{Hops: []hbone.Hop{{Address: net.JoinHostPort(host, "15008"), Authority: authority, TLS: creds}}}
}

// knock opens a stream to a pod as a member of the mesh.
func (w *world) knock(account, host, authority string, pod spiffeid.ID) (*hbone.Conn, error) {
	w.Helper()
	t, path := w.inbound(account, host, authority, pod)
	return t.Dial(w.ctx, path)
}

func statusIn(err error) int {
	var status *hbone.StatusError
	if errors.As(err, &status) {
		return status.Status
	}
	return 0
}

func names(header http.Header) []string {
	var out []string
	for name := range header {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
