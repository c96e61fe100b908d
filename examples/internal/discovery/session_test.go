package discovery

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/identity/istioca"
)

var (
	td       = spiffeid.RequireTrustDomainFromString("cluster.local")
	nodeID   = spiffeid.RequireFromSegments(td, "ns", "istio-system", "sa", "ztunnel")
	reviews  = spiffeid.RequireFromSegments(td, "ns", "app", "sa", "reviews")
	stranger = spiffeid.RequireFromSegments(td, "ns", "app", "sa", "elsewhere")
)

// A control is a control plane with discovery and a CA, on loopback and TLS.
type control struct {
	plane     ControlPlane
	addresses *xds.Collection
	clients   chan xds.ClientInfo
	serve     func() // until then connections wait
}

// runs says that reviews runs on every node, and nothing else.
type runs struct{}

func (runs) RunsOn(_ context.Context, _ istioca.Caller, id spiffeid.ID) (bool, error) {
	return id == reviews, nil
}

func newControl(t *testing.T) *control {
	t.Helper()
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS()
	cert := web.TLS.Certificates[0]
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	web.Close()

	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	authority, err := istioca.NewServer(istioca.ServerConfig{
		CA:            ca,
		Authenticator: istioca.StaticTokens(map[string]istioca.Caller{"secret": {ID: nodeID, Node: "node-1"}}),
		TrustedNodes:  identity.Peers{IDs: []spiffeid.ID{nodeID}},
		Nodes:         runs{},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &control{addresses: &xds.Collection{}, clients: make(chan xds.ClientInfo, 100)}
	ads := &xds.Server{
		Source:       xds.ByType{wds.AddressTypeURL: c.addresses, wds.AuthorizationTypeURL: &xds.Collection{}},
		Authenticate: authenticate,
		Authorize:    func(info xds.ClientInfo) error { c.clients <- info; return nil },
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})))
	ads.Register(server)
	authority.Register(server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	c.serve = func() { serving.Go(func() { _ = server.Serve(l) }) }
	t.Cleanup(func() {
		if err := ads.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		server.Stop()
		l.Close()
		serving.Wait()
	})
	c.plane = ControlPlane{Address: l.Addr().String(), RootCerts: root, Token: func() (string, error) { return "secret", nil }, ClusterID: "east"}
	return c
}

// authenticate wants what istiod wants of a proxy.
func authenticate(ctx context.Context) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if token := md.Get("authorization"); len(token) != 1 || token[0] != "Bearer secret" {
		return nil, errors.New("bad token")
	}
	if id := md.Get("clusterid"); len(id) != 1 || id[0] != "east" {
		return nil, errors.New("bad cluster")
	}
	return "somebody", nil
}

var ztunnel = Proxy{Kind: NodeProxy, Pod: "ztunnel-x", Namespace: "istio-system", ServiceAccount: "ztunnel", Cluster: "east", Network: "net", Node: "node-1"}

// connect runs a session until the test ends.
func connect(t *testing.T, c *control) *Session {
	t.Helper()
	s, err := Connect(c.plane, ztunnel, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(context.Background()); !errors.Is(err, xds.ErrClosed) {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		running.Wait()
	})
	return s
}

// await waits until a State is as wanted.
func await(t *testing.T, s *State, done func() bool) {
	t.Helper()
	changed := make(chan struct{}, 1)
	s.OnChange(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	for !done() {
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("it never came")
		}
	}
}

// TestSession follows a control plane that has no policies, which has to be
// told from one that has not sent them yet.
func TestSession(t *testing.T) {
	c := newControl(t)
	c.addresses.Update([]xds.Resource{pod(t, "a", "10.1.0.1")}, nil)
	c.serve()
	s := connect(t, c)
	await(t, s.State, func() bool { return s.State.Known() && s.State.Policies() != nil })
	if s.State.Index().Workload("a") == nil {
		t.Error("known without what there is")
	}
	node := (<-c.clients).Node
	if node.ID != "ztunnel~1.1.1.1~ztunnel-x.istio-system~istio-system.svc.cluster.local" {
		t.Errorf("node %s", node.ID)
	}
	for key, want := range map[string]string{"NAME": "ztunnel-x", "NAMESPACE": "istio-system", "SERVICE_ACCOUNT": "ztunnel", "CLUSTER_ID": "east", "NETWORK": "net", "NODE_NAME": "node-1"} {
		if node.Metadata[key] != want {
			t.Errorf("%s is %v", key, node.Metadata[key])
		}
	}
	c.addresses.Update([]xds.Resource{pod(t, "b", "10.1.0.2")}, []string{"a"})
	await(t, s.State, func() bool { return s.State.Index().Workload("a") == nil && s.State.Index().Workload("b") != nil })
}

// TestCertificates waits for a CA that is away, and gets no identity that does
// not run on the node.
func TestCertificates(t *testing.T) {
	c := newControl(t)
	s := connect(t, c)
	type result struct {
		source  identity.Source
		release func()
		err     error
	}
	got := make(chan result, 1)
	go func() {
		source, release, err := s.Certificates.Source(t.Context(), reviews)
		got <- result{source, release, err}
	}()
	c.serve()
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.release()
	svid, err := r.source.GetX509SVID()
	if err != nil || svid.ID != reviews {
		t.Errorf("got %v, %v", svid, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = s.Certificates.Source(over, stranger)
	var unavailable *istioca.UnavailableError
	if !errors.As(err, &unavailable) || unavailable.ID != stranger {
		t.Errorf("another's identity: %v", err)
	}
}

// TestAway: a session with nobody is made, and ends.
func TestAway(t *testing.T) {
	c := newControl(t)
	s, err := Connect(c.plane, Proxy{Kind: Gateway, Pod: "gw", Namespace: "istio-system", Cluster: "east"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	if s.State.Known() || s.State.Policies() != nil {
		t.Error("it knows something of nobody")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestDialRefuses(t *testing.T) {
	token := func() (string, error) { return "secret", nil }
	for name, c := range map[string]ControlPlane{
		"no roots":        {Address: "127.0.0.1:1", Token: token},
		"roots not PEM":   {Address: "127.0.0.1:1", Token: token, RootCerts: []byte("hello")},
		"without a token": {Address: "127.0.0.1:1", RootCerts: newControl(t).plane.RootCerts},
	} {
		if _, err := Connect(c, ztunnel, nil, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	token := TokenFile(path)
	if _, err := token(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for content, want := range map[string]string{"one\n": "one", "two": "two"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := token(); got != want || err != nil {
			t.Errorf("got %q, %v; want %s", got, err, want)
		}
	}
	if err := os.WriteFile(path, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := token(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("an empty file: %v", err)
	}
}
