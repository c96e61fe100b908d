package hbone_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// What the tunnels of one key borrow from the paths that made them.

// TestTunnelHeaderIsCopied: tunnels made later, in the background, carry what the Dial said, and not what its
// caller has made of the map since.
func TestTunnelHeaderIsCopied(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		g := w.gateway(map[string][]string{reviews: w.backends(2)})
		tr := w.transport()
		h := http.Header{"X-Tenant": {"a"}}
		path := w.twoHops(reviews)
		path.Spread = 2
		path.Hops[0].TunnelHeader = h
		defer mustDial(t, tr, path).Close()
		h["X-Tenant"][0] = "b"
		path.Hops[0].TunnelHeader = http.Header{"X-Tenant": {"a"}}
		defer mustDial(t, tr, path).Close()
		synctest.Wait()
		seen := g.seen()
		if len(seen) < 2 {
			t.Fatalf("%d outer CONNECTs, want a second tunnel", len(seen))
		}
		for _, header := range seen {
			if got := header.Get("X-Tenant"); got != "a" {
				t.Errorf("an outer CONNECT says %q, want what its Dial said", got)
			}
		}
	})
}

// TestNewTunnelsUseTheNewestCredentials: those that made the first tunnel may be worth nothing any more.
func TestNewTunnelsUseTheNewestCredentials(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, hold)
		tr := w.transport()
		tr.MaxStreamsPerTunnel, tr.MaxTunnelAge = 1, time.Minute
		old := w.client(podID)
		path := w.oneHop()
		path.Hops[0].TLS = old
		defer mustDial(t, tr, path).Close()
		old.DrainAt(time.Now())
		defer mustDial(t, tr, w.oneHop()).Close() // a second tunnel, beside the full one

		time.Sleep(2 * time.Minute)
		tr.MaxStreamsPerTunnel = 2
		defer mustDial(t, tr, w.oneHop()).Close() // has the old ones replaced
		synctest.Wait()
		if hop := tr.Stats().Hops[0]; hop.Handshakes != 3 || hop.Failures != 0 {
			t.Errorf("stats = %+v, want three handshakes and no failure", hop)
		}
	})
}

// changing are credentials whose local identity changes.
type changing struct {
	mu  sync.Mutex
	now *testca.Credentials
}

func (c *changing) set(creds *testca.Credentials) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = creds
}

func (c *changing) get() *testca.Credentials {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *changing) Key() string                                     { return c.get().Key() }
func (c *changing) Config(ctx context.Context) (*tls.Config, error) { return c.get().Config(ctx) }
func (c *changing) Retire(s tls.ConnectionState) (time.Time, <-chan struct{}) {
	return c.get().Retire(s)
}

// TestIdentityThatChangesDuringADial: the tunnel is kept under the identity that it was made with, and not under the
// one that it was to be made with.
func TestIdentityThatChangesDuringADial(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		who := make(chan string, 2)
		w.serve(podAddr, &hbone.Server{TLS: w.ca.Server(w.ca.Issue(podID)), Handler: func(r *hbone.Request) {
			who <- r.TLS().PeerCertificates[0].URIs[0].Path
			echo(r)
		}})
		w.net.SetLatency("pod-1", "client", 10*time.Millisecond)
		tr := w.transport()
		before, after := w.ca.Client(w.ca.Issue("/before"), podID), w.ca.Client(w.ca.Issue("/after"), podID)
		creds := &changing{now: before}
		path := w.oneHop()
		path.Hops[0].TLS = creds
		time.AfterFunc(time.Millisecond, func() { creds.set(after) })
		defer mustDial(t, tr, path).Close()
		if got := <-who; got != "/after" {
			t.Fatalf("the first stream came as %s: the identity was to change before the handshake", got)
		}
		path.Hops[0].TLS = before
		defer mustDial(t, tr, path).Close()
		if got := <-who; got != "/before" {
			t.Errorf("a stream of /before came as %s", got)
		}
	})
}

// TestPlaintextSharesWithNobody: whatever keys other credentials have.
func TestPlaintextSharesWithNobody(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.serve(podAddr, &hbone.Server{TLS: hbone.Plaintext{}, Handler: echo})
		tr := w.transport()
		path := w.oneHop()
		path.Hops[0].TLS = hbone.Plaintext{}
		defer mustDial(t, tr, path).Close()
		path.Hops[0].TLS = namesake{w.client(podID)}
		_, err := tr.Dial(context.Background(), path)
		wantHop(t, err, 0, hbone.PhaseTLS)
	})
}

// A namesake has the key of Plaintext.
type namesake struct{ hbone.Credentials }

func (namesake) Key() string { return hbone.Plaintext{}.Key() }
