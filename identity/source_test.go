package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/identity/identitytest"
)

var (
	east  = spiffeid.RequireTrustDomainFromString("east.example")
	west  = spiffeid.RequireTrustDomainFromString("west.example")
	alice = spiffeid.RequireFromString("spiffe://east.example/ns/app/sa/alice")
	carol = spiffeid.RequireFromString("spiffe://west.example/ns/app/sa/carol")
)

func newCA(t *testing.T, td spiffeid.TrustDomain) *identity.CA {
	t.Helper()
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *identity.CA, id spiffeid.ID, ttl time.Duration) *x509svid.SVID {
	t.Helper()
	svid, err := ca.Issue(id, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return svid
}

func TestMemoryIsASource(t *testing.T) {
	identitytest.Run(t, func(t *testing.T) identitytest.Subject {
		ca := newCA(t, east)
		m := identity.NewMemory(issue(t, ca, alice, time.Hour), ca.Bundle(), newCA(t, west).Bundle())
		return identitytest.Subject{
			Source:    m,
			ID:        alice,
			Federated: west,
			Rotate:    func(t *testing.T) { m.SetSVID(issue(t, ca, alice, time.Hour)) },
			ReplaceRoots: func(t *testing.T) {
				next := newCA(t, east)
				m.SetBundle(next.Bundle())
				m.SetSVID(issue(t, next, alice, time.Hour))
			},
			Withdraw: func(*testing.T) { m.SetSVID(nil) },
		}
	})
}

func TestFilesAreASource(t *testing.T) {
	identitytest.Run(t, func(t *testing.T) identitytest.Subject {
		ca := newCA(t, east)
		cfg := identity.SPIFFEFiles(t.TempDir())
		cfg.Federated = map[spiffeid.TrustDomain]string{west: filepath.Join(t.TempDir(), "west.pem")}
		writeBundle(t, cfg.Federated[west], newCA(t, west).Bundle())
		writeSVID(t, cfg, issue(t, ca, alice, time.Hour), ca.Bundle())
		f, err := identity.OpenFiles(cfg)
		if err != nil {
			t.Fatal(err)
		}
		replace := func(t *testing.T, ca *identity.CA) {
			writeSVID(t, cfg, issue(t, ca, alice, time.Hour), ca.Bundle())
			if changed, err := f.Reload(); !changed || err != nil {
				t.Fatalf("reload: %t, %v", changed, err)
			}
		}
		return identitytest.Subject{
			Source:       f,
			ID:           alice,
			Federated:    west,
			Rotate:       func(t *testing.T) { replace(t, ca) },
			ReplaceRoots: func(t *testing.T) { replace(t, newCA(t, east)) },
		}
	})
}

func writeSVID(t *testing.T, cfg identity.FilesConfig, svid *x509svid.SVID, bundle *x509bundle.Bundle) {
	t.Helper()
	certs, key, err := svid.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{cfg.Certificates: certs, cfg.Key: key} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeBundle(t, cfg.Roots, bundle)
}

func writeBundle(t *testing.T, name string, bundle *x509bundle.Bundle) {
	t.Helper()
	var out []byte
	for _, c := range bundle.X509Authorities() {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	if err := os.WriteFile(name, out, 0o600); err != nil {
		t.Fatal(err)
	}
}

// agent is a SPIFFE Workload API server on a Unix socket.
type agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	socket string
	server *grpc.Server
	done   chan struct{}

	mu      sync.Mutex
	current *workload.X509SVIDResponse
	changed chan struct{}
}

func newAgent(t *testing.T, svid *x509svid.SVID, bundles ...*x509bundle.Bundle) *agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := &agent{socket: filepath.Join(dir, "s"), changed: make(chan struct{})}
	a.set(t, svid, bundles...)
	a.start(t)
	t.Cleanup(a.stop)
	return a
}

func (a *agent) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	a.server, a.done = grpc.NewServer(), make(chan struct{})
	workload.RegisterSpiffeWorkloadAPIServer(a.server, a)
	go func() {
		defer close(a.done)
		_ = a.server.Serve(l)
	}()
}

func (a *agent) stop() {
	a.server.Stop()
	<-a.done
}

// set gives all workloads a certificate, its own bundle first.
func (a *agent) set(t *testing.T, svid *x509svid.SVID, bundles ...*x509bundle.Bundle) {
	t.Helper()
	certs, key, err := svid.MarshalRaw()
	if err != nil {
		t.Fatal(err)
	}
	response := &workload.X509SVIDResponse{
		Svids:            []*workload.X509SVID{{SpiffeId: svid.ID.String(), X509Svid: certs, X509SvidKey: key, Bundle: rawBundle(bundles[0])}},
		FederatedBundles: map[string][]byte{},
	}
	for _, b := range bundles[1:] {
		response.FederatedBundles[b.TrustDomain().IDString()] = rawBundle(b)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current = response
	close(a.changed)
	a.changed = make(chan struct{})
}

func rawBundle(b *x509bundle.Bundle) []byte {
	var out []byte
	for _, c := range b.X509Authorities() {
		out = append(out, c.Raw...)
	}
	return out
}

// FetchX509SVID sends the certificate now and whenever it changes.
func (a *agent) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	// SPIFFE Workload Endpoint §6.1: a request that was tricked out of a
	// program lacks the header.
	if md, _ := metadata.FromIncomingContext(stream.Context()); len(md.Get("workload.spiffe.io")) != 1 {
		return status.Error(codes.InvalidArgument, "security header missing")
	}
	for {
		a.mu.Lock()
		response, changed := a.current, a.changed
		a.mu.Unlock()
		if err := stream.Send(response); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (a *agent) source(t *testing.T) *workloadapi.X509Source {
	t.Helper()
	s, err := workloadapi.NewX509Source(t.Context(), workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+a.socket)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// await waits until the source has a certificate.
func await(t *testing.T, s *workloadapi.X509Source, want *x509.Certificate) {
	t.Helper()
	for {
		svid, err := s.GetX509SVID()
		if err == nil && svid.Certificates[0].Equal(want) {
			return
		}
		if err := s.WaitUntilUpdated(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWorkloadAPIIsASource(t *testing.T) {
	identitytest.Run(t, func(t *testing.T) identitytest.Subject {
		ca, westRoots := newCA(t, east), newCA(t, west).Bundle()
		a := newAgent(t, issue(t, ca, alice, time.Hour), ca.Bundle(), westRoots)
		source := a.source(t)
		replace := func(t *testing.T, ca *identity.CA) {
			next := issue(t, ca, alice, time.Hour)
			a.set(t, next, ca.Bundle(), westRoots)
			await(t, source, next.Certificates[0])
		}
		return identitytest.Subject{
			Source:       source,
			ID:           alice,
			Federated:    west,
			Rotate:       func(t *testing.T) { replace(t, ca) },
			ReplaceRoots: func(t *testing.T) { replace(t, newCA(t, east)) },
			Withdraw:     func(*testing.T) { _ = source.Close() },
		}
	})
}

// TestWorkloadAPIGoesAway has an agent that restarts: what it said stays good,
// and what it says afterwards is heard.
func TestWorkloadAPIGoesAway(t *testing.T) {
	eastCA, westCA := newCA(t, east), newCA(t, west)
	a := newAgent(t, issue(t, eastCA, alice, time.Hour), eastCA.Bundle(), westCA.Bundle())
	source := a.source(t)
	creds, err := identity.NewServer(identity.Config{Source: source, Peers: identity.Peers{IDs: []spiffeid.ID{carol}}})
	if err != nil {
		t.Fatal(err)
	}
	peer, err := identity.NewClient(identity.Config{
		Source: identity.NewMemory(issue(t, westCA, carol, time.Hour), westCA.Bundle(), eastCA.Bundle()),
		Peers:  identity.Peers{IDs: []spiffeid.ID{alice}},
	})
	if err != nil {
		t.Fatal(err)
	}
	connect := func(when string) {
		t.Helper()
		if err := handshake(t.Context(), peer, creds); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	connect("with the agent")
	a.stop()
	connect("without the agent")
	next := issue(t, eastCA, alice, time.Hour)
	a.set(t, next, eastCA.Bundle(), westCA.Bundle())
	a.start(t)
	await(t, source, next.Certificates[0])
	connect("with the agent again")
}

// handshake returns the first error of both sides.
func handshake(ctx context.Context, client, server *identity.Credentials) error {
	clientConfig, err := client.Config(ctx)
	if err != nil {
		return err
	}
	serverConfig, err := server.Config(ctx)
	if err != nil {
		return err
	}
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() {
		defer far.Close()
		done <- tls.Server(far, serverConfig).HandshakeContext(ctx)
	}()
	err = tls.Client(near, clientConfig).HandshakeContext(ctx)
	serverErr := <-done
	near.Close()
	return errors.Join(err, serverErr)
}
