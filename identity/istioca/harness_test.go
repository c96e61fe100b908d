package istioca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/eastwest-mesh/eastwest/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	local   = spiffeid.RequireTrustDomainFromString("cluster.local")
	ztunnel = spiffeid.RequireFromString("spiffe://cluster.local/ns/istio-system/sa/ztunnel")
	pod     = spiffeid.RequireFromString("spiffe://cluster.local/ns/app/sa/reviews")
	absent  = spiffeid.RequireFromString("spiffe://cluster.local/ns/app/sa/elsewhere")
)

// tokens of the callers in tests.
var callers = map[string]Caller{
	"ztunnel-token":  {ID: ztunnel, Node: "node-1"},
	"nodeless-token": {ID: ztunnel},
	"pod-token":      {ID: pod, Node: "node-1"},
	"foreign-token":  {ID: spiffeid.RequireFromString("spiffe://other.example/ns/app/sa/reviews")},
}

// runs is a Nodes: what runs on which node.
type runs map[string][]spiffeid.ID

func (r runs) RunsOn(_ context.Context, c Caller, id spiffeid.ID) (bool, error) {
	list, ok := r[c.Node]
	if !ok {
		return false, errors.New("unknown node " + c.Node)
	}
	return slices.Contains(list, id), nil
}

func newCA(t testing.TB, cfg identity.CAConfig) *identity.CA {
	t.Helper()
	cfg.TrustDomain = local
	ca, err := identity.NewCA(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func serverConfig(ca *identity.CA) ServerConfig {
	return ServerConfig{
		CA:            ca,
		Authenticator: StaticTokens(callers),
		TrustedNodes:  identity.Peers{IDs: []spiffeid.ID{ztunnel}},
		Nodes:         runs{"node-1": {pod}},
	}
}

// world is a CA service on an in-memory network.
type world struct {
	listener *bufconn.Listener
	roots    *x509.CertPool // of the TLS certificate of the service
	log      syncBuffer
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

// serveService serves what register adds, over TLS that asks for client
// certificates and verifies none, as istiod's port 15012 does.
func serveService(t testing.TB, register func(w *world, s grpc.ServiceRegistrar)) *world {
	t.Helper()
	w := &world{listener: bufconn.Listen(1 << 16), roots: x509.NewCertPool()}
	cert := w.serverCertificate(t)
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.RequestClientCert,
	})))
	register(w, s)
	var served sync.WaitGroup
	served.Go(func() { _ = s.Serve(w.listener) })
	t.Cleanup(func() { s.Stop(); served.Wait() })
	return w
}

func serve(t testing.TB, cfg ServerConfig) *world {
	t.Helper()
	return serveService(t, func(w *world, r grpc.ServiceRegistrar) {
		cfg.Logger = slog.New(slog.NewTextHandler(&w.log, nil))
		s, err := NewServer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.Register(r)
	})
}

// serverCertificate is what istiod has: a DNS name and no SPIFFE ID.
func (w *world) serverCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"istiod.istio-system.svc"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w.roots.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (w *world) dial(t testing.TB, client ...tls.Certificate) *grpc.ClientConn {
	t.Helper()
	return w.dialWith(t, credentials.NewTLS(&tls.Config{RootCAs: w.roots, ServerName: "istiod.istio-system.svc", Certificates: client}))
}

func (w *world) dialWith(t testing.TB, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///istiod",
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (w *world) dialPlaintext(t testing.TB) *grpc.ClientConn {
	return w.dialWith(t, insecure.NewCredentials())
}

func token(s string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return s, nil }
}

func newClient(t testing.TB, cfg ClientConfig) *Client {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// servePlaintext serves without TLS.
func servePlaintext(t testing.TB, s *Server) *world {
	t.Helper()
	w := &world{listener: bufconn.Listen(1 << 16)}
	g := grpc.NewServer()
	s.Register(g)
	var served sync.WaitGroup
	served.Go(func() { _ = g.Serve(w.listener) })
	t.Cleanup(func() { g.Stop(); served.Wait() })
	return w
}
