package istiod

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
	"github.com/eastwest-mesh/eastwest/identity"
)

// A world is the clusters of testdata, and the control plane of east.
type world struct {
	t      *testing.T
	dirs   map[string]string
	config Config
	log    *logBuffer

	server  *Server
	address string
	stop    func() error // and returns what Serve returned
}

// newWorld copies the clusters and makes a Config for east.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dirs: map[string]string{}, log: &logBuffer{}}
	for _, name := range []string{"east", "west"} {
		w.dirs[name] = filepath.Join(t.TempDir(), name)
		if err := os.CopyFS(w.dirs[name], os.DirFS(filepath.Join("testdata", name))); err != nil {
			t.Fatal(err)
		}
	}
	authority, err := identity.NewCA(identity.CAConfig{TrustDomain: trustDomain(t, "cluster.local")})
	if err != nil {
		t.Fatal(err)
	}
	w.config = Config{
		Cluster:   "east",
		Dir:       w.dirs["east"],
		Remotes:   map[string]string{"west": w.dirs["west"]},
		Authority: authority,
		Tokens:    openTokens(t, ""),
		Logger:    slog.New(slog.NewTextHandler(w.log, nil)),
	}
	return w
}

// serve starts the control plane, which lasts until the test ends.
func (w *world) serve() *world {
	w.t.Helper()
	var err error
	if w.server, err = New(w.config); err != nil {
		w.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(ctx, l) }()
	w.stop = sync.OnceValue(func() error { cancel(); return <-done })
	w.t.Cleanup(func() {
		if err := w.stop(); !errors.Is(err, context.Canceled) {
			w.t.Errorf("Serve returned %v", err)
		}
	})
	return w
}

// write replaces a file of a cluster, at once, as kubectl or an editor would.
func (w *world) write(cluster, file, content string) {
	w.t.Helper()
	path := filepath.Join(w.dirs[cluster], file)
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		w.t.Fatal(err)
	}
}

// edit replaces a text that a file of a cluster has, and returns the file as it
// was.
func (w *world) edit(cluster, file, from, to string) (before string) {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dirs[cluster], file))
	if err != nil {
		w.t.Fatal(err)
	}
	if !strings.Contains(string(data), from) {
		w.t.Fatalf("%s/%s does not contain %q", cluster, file, from)
	}
	w.write(cluster, file, strings.ReplaceAll(string(data), from, to))
	return string(data)
}

// await waits for something that follows from what was done before.
func (w *world) await(what string, condition func() bool) {
	w.t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	hung := time.After(time.Minute)
	for !condition() {
		select {
		case <-ticker.C:
		case <-hung:
			w.t.Fatalf("never: %s\n%s", what, w.log)
		}
	}
}

func (w *world) awaitLog(text string) {
	w.t.Helper()
	w.await("logged: "+text, func() bool { return strings.Contains(w.log.String(), text) })
}

// A client is a proxy that is connected to the control plane.
type client struct {
	*discovery.Session
	stop func()
}

// connect begins a session that lasts until the test ends.
func (w *world) connect(c Caller, kind, network string) *client {
	w.t.Helper()
	return w.connectAs(w.token(c), proxyOf(c, kind, network))
}

func proxyOf(c Caller, kind, network string) discovery.Proxy {
	return discovery.Proxy{
		Kind: kind, Pod: "proxy-1", Namespace: c.Namespace, ServiceAccount: c.ServiceAccount,
		Cluster: c.Cluster, Network: network, Node: c.Node,
	}
}

func (w *world) token(c Caller) string {
	w.t.Helper()
	token, err := w.config.Tokens.Issue(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

func (w *world) connectAs(token string, p discovery.Proxy) *client {
	w.t.Helper()
	session, err := discovery.Connect(w.controlPlane(token, p.Cluster), p, nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = session.Run(context.Background())
	}()
	stop := sync.OnceFunc(func() {
		_ = session.Close()
		<-done
	})
	w.t.Cleanup(stop)
	return &client{session, stop}
}

// follow runs a client of discovery for one type until the test ends. Names are
// for a type on demand.
func (w *world) follow(c Caller, node xds.Node, of xds.Type, names ...string) {
	w.t.Helper()
	conn, err := w.controlPlane(w.token(c), c.Cluster).Dial()
	if err != nil {
		w.t.Fatal(err)
	}
	xc := &xds.Client{Conn: conn, Node: node, Types: []xds.Type{of}}
	if len(names) > 0 {
		if err := xc.Subscribe(of.URL, names...); err != nil {
			w.t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = xc.Run(context.Background())
	}()
	w.t.Cleanup(func() {
		_ = xc.Close()
		<-done
		_ = conn.Close()
	})
}

func (w *world) controlPlane(token, cluster string) discovery.ControlPlane {
	return discovery.ControlPlane{
		Address:    w.address,
		RootCerts:  w.config.Authority.RootsPEM(),
		ServerName: "istiod.istio-system.svc",
		Token:      func() (string, error) { return token, nil },
		ClusterID:  cluster,
	}
}

// The callers of the tests.
var (
	eastNode1   = NodeProxy("east", "east-node-1")
	westNode1   = NodeProxy("west", "west-node-1")
	eastGateway = Caller{Cluster: "east", Namespace: "istio-system", ServiceAccount: "eastwest"}
)

func (w *world) ztunnel() *client { return w.connect(eastNode1, discovery.NodeProxy, "") }

// host is the name of a service in namespace app.
func host(service string) string { return service + ".app.svc.cluster.local" }

// services describes what a client sees: each service with its backends'
// addresses, or the gateways that stand for them with how many they have behind
// them, such as "reviews[10.1.0.10 via 172.18.2.100 *1]".
func (c *client) services() string {
	var all []string
	for s := range c.State.Index().Services() {
		name, _, _ := strings.Cut(s.Hostname, ".")
		var backends []string
		for e := range s.Endpoints() {
			backends = append(backends, backend(e.Workload))
		}
		slices.Sort(backends)
		all = append(all, name+"["+strings.Join(backends, " ")+"]")
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func backend(w *endpoints.Workload) string {
	if g := w.NetworkGateway; g != nil && len(w.Addresses) == 0 {
		return fmt.Sprintf("via %s *%d", g.Address.Prefix.Addr(), w.Weight())
	}
	return fmt.Sprint(w.Addresses[0])
}

// awaitView waits until the client sees that.
func (w *world) awaitView(c *client, want string) {
	w.t.Helper()
	last := ""
	w.await("seen: "+want, func() bool {
		if now := c.services(); now != last {
			w.t.Logf("a client sees %s", now)
			last = now
		}
		return last == want
	})
}

func trustDomain(t *testing.T, name string) spiffeid.TrustDomain {
	t.Helper()
	td, err := spiffeid.TrustDomainFromString(name)
	if err != nil {
		t.Fatal(err)
	}
	return td
}

func openTokens(t *testing.T, dir string) *Tokens {
	t.Helper()
	tokens, err := OpenTokens(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// A logBuffer keeps what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
