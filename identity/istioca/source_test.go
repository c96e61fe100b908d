package istioca

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/identity/identitytest"
	capb "github.com/eastwest-mesh/eastwest/internal/pb/ca/v1"
)

// withIntermediate returns a CA, and one whose authority the first one signed.
func withIntermediate(t testing.TB) (root, below *identity.CA) {
	t.Helper()
	root = newCA(t, identity.CAConfig{})
	below, err := root.Intermediate("cluster-1", 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return root, below
}

// direct is a connection that calls a Server in the same process, and can be
// down.
type direct struct {
	server *Server
	down   atomic.Bool
	calls  atomic.Int32
	active atomic.Int32
	most   atomic.Int32
	delay  time.Duration
}

func (d *direct) Invoke(ctx context.Context, _ string, in, out any, _ ...grpc.CallOption) error {
	d.calls.Add(1)
	n := d.active.Add(1)
	defer d.active.Add(-1)
	for most := d.most.Load(); n > most && !d.most.CompareAndSwap(most, n); most = d.most.Load() {
	}
	select {
	case <-time.After(d.delay):
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	if d.down.Load() {
		return status.Error(codes.Unavailable, "CA is down")
	}
	res, err := d.server.createCertificate(ctx, in.(*capb.IstioCertificateRequest))
	if err != nil {
		return err
	}
	out.(*capb.IstioCertificateResponse).CertChain = res.CertChain
	return nil
}

func (d *direct) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams")
}

// node is an Authenticator for which everybody is the node proxy.
type node struct{}

func (node) Authenticate(context.Context) (Caller, error) {
	return Caller{ID: ztunnel, Node: "node-1"}, nil
}

// everything is a Nodes for which everything runs everywhere.
type everything struct{}

func (everything) RunsOn(context.Context, Caller, spiffeid.ID) (bool, error) { return true, nil }

func connect(t testing.TB) *direct {
	t.Helper()
	s, err := NewServer(ServerConfig{CA: newCA(t, identity.CAConfig{}), Authenticator: node{}, TrustedNodes: identity.Peers{IDs: []spiffeid.ID{ztunnel}}, Nodes: everything{}})
	if err != nil {
		t.Fatal(err)
	}
	return &direct{server: s}
}

func serial(t testing.TB, s *Source) string {
	t.Helper()
	svid, err := s.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	return svid.Certificates[0].SerialNumber.String()
}

// pass lets fake time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

var _ identity.Source = (*Source)(nil)

func TestSourceRenewsAtHalfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := connect(t)
		s := newClient(t, ClientConfig{Conn: d, Impersonate: true, TTL: time.Hour}).Source(pod)
		defer s.Close()
		if err := s.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		first := serial(t, s)
		pass(24*time.Minute - time.Second) // 40% of an hour
		if serial(t, s) != first {
			t.Error("renewed before 40% of the life")
		}
		pass(6*time.Minute + time.Second)
		if serial(t, s) == first || d.calls.Load() != 2 {
			t.Errorf("not renewed once at half life: %d calls", d.calls.Load())
		}
		if b, err := s.GetX509BundleForTrustDomain(local); err != nil || b.Empty() {
			t.Errorf("bundle: %v", err)
		}
		if _, err := s.GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("other.example")); err == nil {
			t.Error("it has a bundle of another trust domain")
		}
	})
}

func TestSourceSurvivesTheCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := connect(t)
		s := newClient(t, ClientConfig{Conn: d, Impersonate: true, TTL: time.Hour}).Source(pod)
		defer s.Close()
		if err := s.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		first := serial(t, s)
		d.down.Store(true)
		pass(59 * time.Minute)
		if serial(t, s) != first {
			t.Error("the old certificate is gone while it is valid")
		}
		if calls := d.calls.Load(); calls < 10 || calls > 60 {
			t.Errorf("%d attempts in half an hour", calls)
		}
		pass(2 * time.Minute)
		_, err := s.GetX509SVID()
		var ue *UnavailableError
		if !errors.As(err, &ue) || ue.Expired.IsZero() || status.Code(errors.Unwrap(ue.Err)) != codes.Unavailable || !strings.Contains(err.Error(), "CA is down") {
			t.Errorf("after the end: %v", err)
		}
		d.down.Store(false)
		pass(150 * time.Second)
		if serial(t, s) == first {
			t.Error("it did not recover")
		}
	})
}

func TestReadyReportsTheFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := connect(t)
		d.down.Store(true)
		s := newClient(t, ClientConfig{Conn: d}).Source(pod)
		defer s.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Ready(ctx); err == nil || !strings.Contains(err.Error(), "CA is down") {
			t.Errorf("got %v", err)
		}
		if _, err := s.GetX509SVID(); err == nil || !strings.Contains(err.Error(), "no certificate for spiffe://cluster.local/ns/app/sa/reviews yet") {
			t.Errorf("got %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Ready(t.Context()); err == nil {
			t.Error("a closed source got ready")
		}
	})
}

func TestCloseEndsARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := connect(t)
		d.delay = time.Hour
		s := newClient(t, ClientConfig{Conn: d, Timeout: 2 * time.Hour}).Source(pod)
		pass(time.Second)
		start := time.Now()
		_ = s.Close()
		_ = s.Close()
		if time.Since(start) > 0 || d.active.Load() != 0 {
			t.Errorf("closing took %v, %d requests are under way", time.Since(start), d.active.Load())
		}
		if err := s.Ready(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

func TestManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := connect(t)
		d.delay = time.Second
		m := NewManager(newClient(t, ClientConfig{Conn: d, Impersonate: true, Concurrency: 3}))
		a, err := m.Acquire(pod)
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.Acquire(pod)
		if err != nil || a != b {
			t.Fatalf("two sources of one identity: %v", err)
		}
		m.Release(pod)
		if err := a.Ready(t.Context()); err != nil {
			t.Errorf("released while in use: %v", err)
		}
		m.Release(pod)
		m.Release(pod) // once too often
		again, err := m.Acquire(pod)
		if err != nil || again == a {
			t.Errorf("a closed source was given out: %v", err)
		}
		for _, sa := range []string{"a", "b", "c", "d", "e", "f"} {
			id, err := identity.WorkloadID(local, "app", sa)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Acquire(id); err != nil {
				t.Fatal(err)
			}
		}
		pass(time.Minute)
		if n := d.most.Load(); n != 3 || len(m.Identities()) != 7 {
			t.Errorf("%d requests at once for %d identities", n, len(m.Identities()))
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if _, err := m.Acquire(pod); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		m.Release(pod)
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestManagerClosedTwice: each Close waits for the end.
func TestManagerClosedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, err := NewClient(ClientConfig{Conn: stubborn{}})
		if err != nil {
			t.Fatal(err)
		}
		m := NewManager(client)
		if _, err := m.Acquire(pod); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		go func() { _ = m.Close() }()
		synctest.Wait()
		if err := m.Close(); err != nil || time.Since(began) < time.Second {
			t.Errorf("closed after %v, %v, while a request was under way", time.Since(began), err)
		}
	})
}

// stubborn takes a second to give up.
type stubborn struct{ grpc.ClientConnInterface }

func (stubborn) Invoke(ctx context.Context, _ string, _, _ any, _ ...grpc.CallOption) error {
	<-ctx.Done()
	time.Sleep(time.Second)
	return ctx.Err()
}

func TestBackoff(t *testing.T) {
	c := newClient(t, ClientConfig{Conn: &direct{}})
	for failures, want := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 7: 128 * time.Second, 8: 150 * time.Second, 62: 150 * time.Second, 1000: 150 * time.Second} {
		for range 100 {
			if got := c.backoff(failures); got < want/2 || got > want {
				t.Fatalf("after %d failures: %v, want up to %v", failures, got, want)
			}
		}
	}
}

// TestIsASource has the CA's directory replaced, for the test of new roots.
func TestIsASource(t *testing.T) {
	identitytest.Run(t, func(t *testing.T) identitytest.Subject {
		dir := filepath.Join(t.TempDir(), "ca")
		ca, err := identity.OpenCA(dir, identity.CAConfig{TrustDomain: local})
		if err != nil {
			t.Fatal(err)
		}
		w := serve(t, serverConfig(ca))
		client := newClient(t, ClientConfig{Conn: w.dial(t), Token: token("ztunnel-token"), Impersonate: true})
		source := client.Source(pod)
		t.Cleanup(func() { _ = source.Close() })
		if err := source.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		renew := func(t *testing.T) {
			if err := source.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return identitytest.Subject{
			Source: source,
			ID:     pod,
			Rotate: renew,
			ReplaceRoots: func(t *testing.T) {
				other := filepath.Join(t.TempDir(), "ca")
				if _, err := identity.OpenCA(other, identity.CAConfig{TrustDomain: local}); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"ca-cert.pem", "ca-key.pem", "root-cert.pem"} {
					if err := os.Rename(filepath.Join(other, name), filepath.Join(dir, name)); err != nil {
						t.Fatal(err)
					}
				}
				if changed, err := ca.Reload(); !changed || err != nil {
					t.Fatalf("reload: %t, %v", changed, err)
				}
				renew(t)
			},
		}
	})
}

func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := connect(t)
		source := newClient(t, ClientConfig{Conn: ca, Impersonate: true}).Source(pod)
		if err := source.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		first := serial(t, source)
		if err := source.Renew(t.Context()); err != nil || serial(t, source) == first {
			t.Errorf("renewed: %v, a new certificate: %t", err, serial(t, source) != first)
		}
		second := serial(t, source)
		ca.down.Store(true)
		if err := source.Renew(t.Context()); status.Code(err) != codes.Unavailable || serial(t, source) != second {
			t.Errorf("with the CA down: %v, the old certificate: %t", err, serial(t, source) == second)
		}
		// The failure is followed by attempts as any other.
		ca.down.Store(false)
		pass(2 * time.Second)
		if serial(t, source) == second {
			t.Error("no attempt after the one that failed")
		}
		before := serial(t, source)
		pass(11 * time.Hour)
		if serial(t, source) == before {
			pass(time.Hour)
		}
		if serial(t, source) == before {
			t.Error("no renewal at half life after a renewal by hand")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		ca.delay = time.Hour
		if err := source.Renew(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v", err)
		}
		_ = source.Close()
		if err := source.Renew(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}
