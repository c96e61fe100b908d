package hbone_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/hbone"
)

func mustWarm(t testing.TB, tr *hbone.Transport, p hbone.Path) {
	t.Helper()
	if err := tr.Warm(context.Background(), p); err != nil {
		t.Fatalf("Warm: %v", err)
	}
}

// TestRoundTripsAfterWarm: a dial takes one round trip and no handshake, whatever the path. Warm itself takes as many as
// a dial, since the peer has to show that it took us.
func TestRoundTripsAfterWarm(t *testing.T) {
	const link = 50 * time.Millisecond // one way
	const roundTrip = 2 * link
	tests := []struct {
		name string
		path func(*world) hbone.Path
		want time.Duration // of Warm
	}{
		{"one hop: TCP, TLS, PING", func(w *world) hbone.Path {
			path := w.oneHop()
			path.Hops[0].Address = "pod-2:15008"
			return path
		}, 3 * roundTrip},
		{"two hops: TCP, TLS, CONNECT, TLS, PING", func(w *world) hbone.Path { return w.twoHops(reviews) }, 5 * roundTrip},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				for _, host := range []string{"gateway", "pod-2"} {
					w.net.SetLatency("client", host, link)
					w.net.SetLatency(host, "client", link)
				}
				w.pod(podAddr, echo)
				w.pod("pod-2:15008", echo)
				w.gateway(map[string][]string{reviews: {podAddr}})
				tr, path := w.transport(), tt.path(w)
				for _, want := range []time.Duration{tt.want, roundTrip} { // cold, and there already
					began := time.Now()
					mustWarm(t, tr, path)
					if took := time.Since(began); took != want {
						t.Errorf("Warm took %v, want %v", took, want)
					}
				}
				before := tr.Stats()
				if before.Streams != 0 || before.Tunnels != len(path.Hops) {
					t.Errorf("%d streams in %d tunnels after Warm, want none in %d", before.Streams, before.Tunnels, len(path.Hops))
				}
				began := time.Now()
				mustDial(t, tr, path).Close()
				if took := time.Since(began); took != roundTrip {
					t.Errorf("a dial after Warm took %v, want %v", took, roundTrip)
				}
				if made := tr.Stats().Handshakes() - before.Handshakes(); made != 0 {
					t.Errorf("a dial after Warm made %d handshakes", made)
				}
			})
		})
	}
}

// TestWarmFindsTheBackends: after it, no dial has to.
func TestWarmFindsTheBackends(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		g := w.gateway(map[string][]string{reviews: w.backends(5)})
		g.randomly(1)
		tr, path := w.transport(), w.twoHops(reviews)
		path.Spread = 5
		mustWarm(t, tr, path)
		if hop := tr.Stats().Hops[1]; hop.Tunnels != 5 || hop.Streams != 0 {
			t.Fatalf("%d streams in %d inner tunnels after Warm, want none in 5", hop.Streams, hop.Tunnels)
		}
		reached := map[string]bool{}
		for range 5 {
			reached[visit(t, tr, path)] = true
		}
		if hop := tr.Stats().Hops[1]; len(reached) != 5 || hop.Handshakes != 5 {
			t.Errorf("five dials reached %d backends, after %d inner handshakes; want 5 after 5", len(reached), hop.Handshakes)
		}
	})
}

// TestWarmEndsWithFewerBackends than are wanted.
func TestWarmEndsWithFewerBackends(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		g := w.gateway(map[string][]string{reviews: w.backends(2)})
		tr, path := w.transport(), w.twoHops(reviews)
		path.Spread = 5
		for range 3 {
			mustWarm(t, tr, path)
		}
		if hop := tr.Stats().Hops[1]; hop.Tunnels != 2 || hop.Handshakes != 2 {
			t.Errorf("%d inner tunnels after %d handshakes, want 2 after 2", hop.Tunnels, hop.Handshakes)
		}
		if g.streams > 40 {
			t.Errorf("%d outer streams for 2 backends", g.streams)
		}
	})
}

func TestWarmKeepsToTheLimits(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.gateway(map[string][]string{reviews: w.backends(5)})
		tr, path := w.transport(), w.twoHops(reviews)
		path.Spread = 5
		tr.MaxTunnels = 3
		mustWarm(t, tr, path)
		if got := tr.Stats().Hops[1].Dials; got != 3 {
			t.Errorf("%d inner tunnels were begun, want the 3 that may be", got)
		}
	})
}

// TestHerdOfWarms: all wait for the same tunnel.
func TestHerdOfWarms(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.net.SetLatency("client", "pod-1", time.Millisecond)
		tr, errs := w.transport(), make(chan error)
		for range 20 {
			go func() { errs <- tr.Warm(context.Background(), w.oneHop()) }()
		}
		for range 20 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if got := tr.Stats().Hops[0].Dials; got != 1 {
			t.Errorf("%d dials, want 1", got)
		}
	})
}

// TestWarmKeepsTunnels from being idle: as many as are wanted, and no others.
func TestWarmKeepsTunnels(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.gateway(map[string][]string{reviews: w.backends(2)})
		tr, path := w.transport(), w.twoHops(reviews)
		tr.MaxTunnelAge, tr.MaxStreamsPerTunnel = -1, 10
		path.Spread = 2
		conns, errs := herd(tr, path, 100)
		if len(errs) > 0 {
			t.Fatal(errs[0])
		}
		for _, conn := range conns {
			conn.Close()
		}
		synctest.Wait()
		made := tr.Stats().Handshakes()
		for range 15 {
			mustWarm(t, tr, path)
			time.Sleep(4 * time.Minute) // of the 5 that an idle tunnel is kept
		}
		if s := tr.Stats(); s.Hops[1].Tunnels != 2 || s.Handshakes() != made {
			t.Errorf("%d inner tunnels and %d more handshakes after an hour, want 2 and none", s.Hops[1].Tunnels, s.Handshakes()-made)
		}
		time.Sleep(11 * time.Minute)
		if got := tr.Stats().Tunnels; got != 0 {
			t.Errorf("%d tunnels are left that nobody keeps warm", got)
		}
	})
}

// TestWarmFailsAsADialDoes: at once, and with the peer's verdict on us, which comes after our own handshake.
func TestWarmFailsAsADialDoes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		tr, path := w.transport(), w.oneHop()
		path.Hops[0].TLS = w.ca.Client(w.ca.Issue("/ns/app/sa/other"), podID)
		if he := wantHop(t, tr.Warm(context.Background(), path), 0, hbone.PhaseTLS); !he.Remote() || he.Retryable() {
			t.Errorf("%v: remote %v, retryable %v; want true, false", he, he.Remote(), he.Retryable())
		}
		path.Hops[0].Address = "nobody:15008"
		wantHop(t, tr.Warm(context.Background(), path), 0, hbone.PhaseDial)
		if err := tr.Warm(context.Background(), hbone.Path{}); !errors.As(err, new(*hbone.ConfigError)) {
			t.Errorf("Warm of an empty path: %v, want a *ConfigError", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := tr.Warm(ctx, w.oneHop()); !errors.Is(err, context.Canceled) {
			t.Errorf("Warm: %v, want context.Canceled", err)
		}
		tr.Close()
		if err := tr.Warm(context.Background(), w.oneHop()); !errors.Is(err, hbone.ErrClosed) {
			t.Errorf("Warm after Close: %v, want ErrClosed", err)
		}
	})
}

// TestWarmNoticesADeadTunnel long before the keepalive does, and then leads around it.
func TestWarmNoticesADeadTunnel(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		tr, told := w.transport(), new(traced)
		tr.Trace = told.trace()
		tr.HTTP2Timeout = time.Second
		mustWarm(t, tr, w.oneHop())
		w.net.Blackhole("client", "pod-1")
		began := time.Now()
		he := wantHop(t, tr.Warm(context.Background(), w.oneHop()), 0, hbone.PhaseHTTP2)
		if took := time.Since(began); took != time.Second || !he.Timeout() || !he.Retryable() {
			t.Errorf("%v after %v: timeout %v, retryable %v; want a timeout after HTTP2Timeout", he, took, he.Timeout(), he.Retryable())
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := tr.Dial(ctx, w.oneHop()); err == nil {
			t.Error("a dial succeeded on a dead network")
		}
		if got := tr.Stats().Hops[0].Dials; got != 2 {
			t.Errorf("%d tunnels were begun, want a second one instead of the dead one", got)
		}
		w.net.Heal("client", "pod-1") // which was only slow, then
		mustWarm(t, tr, w.oneHop())
		want := []string{"dial 0 pod-1:15008", "warmed 0", "dial 0 pod-1:15008", "warmed 0"}
		if diff := cmp.Diff(want, told.lines("dial", "warmed", "reused")); diff != "" {
			t.Errorf("trace (-want +got):\n%s", diff)
		}
	})
}

// TestWarmReplacesATunnelThatEnds while it is asked.
func TestWarmReplacesATunnelThatEnds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.net.SetLatency("client", "pod-1", time.Millisecond)
		tr := w.transport()
		mustWarm(t, tr, w.oneHop())
		done := make(chan error)
		go func() { done <- tr.Warm(context.Background(), w.oneHop()) }()
		synctest.Wait()
		w.net.Cut("client", "pod-1")
		w.net.Heal("client", "pod-1")
		if err := <-done; err != nil {
			t.Errorf("Warm: %v", err)
		}
		if got := tr.Stats().Hops[0].Dials; got != 2 {
			t.Errorf("%d dials, want 2", got)
		}
	})
}
