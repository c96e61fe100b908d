package hbone_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// Dials without a deadline do not wait for ever for a stream that nobody gives back.

// wantSaturated expects that a dial found no free stream on a hop in time.
func wantSaturated(t *testing.T, err error, hop, tunnels int, waited time.Duration) {
	t.Helper()
	he := wantHop(t, err, hop, hbone.PhaseWait)
	var saturated *hbone.SaturatedError
	if !errors.As(err, &saturated) || *saturated != (hbone.SaturatedError{Tunnels: tunnels, Waited: waited}) {
		t.Errorf("%v, want a *SaturatedError with %d tunnels after %v", err, tunnels, waited)
	}
	if !he.Timeout() || !he.Retryable() || he.Remote() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v: timeout %v, retryable %v, remote %v; want a time limit of ours, worth another try",
			err, he.Timeout(), he.Retryable(), he.Remote())
	}
}

// dialWithin dials without a deadline, and fails the test if that takes longer than an hour.
func dialWithin(t *testing.T, tr *hbone.Transport, p hbone.Path) (took time.Duration, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	began := time.Now()
	conn, err := tr.Dial(ctx, p)
	if err == nil {
		conn.Close()
	}
	return time.Since(began), err
}

func TestPeerThatNeverTakesStreams(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.net.SetLatency("pod-1", "client", time.Second)
		never := make(chan struct{})
		defer close(never)
		w.played(func(nc net.Conn) { closedFor(never, nc) })
		tr := w.transport()
		tr.ConnectTimeout = 5 * time.Second
		_, err := dialWithin(t, tr, w.oneHop()) // begins before the peer says so: its CONNECT is refused
		wantSaturated(t, err, 0, 1, 5*time.Second)
		took, err := dialWithin(t, tr, w.oneHop())
		if wantSaturated(t, err, 0, 1, 5*time.Second); took != 5*time.Second {
			t.Errorf("the dial took %v, want ConnectTimeout", took)
		}
	})
}

func TestSaturatedMaxTunnels(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, hold)
		tr := w.transport()
		tr.MaxStreamsPerTunnel, tr.MaxTunnels = 1, 2
		defer mustDial(t, tr, w.oneHop()).Close()
		defer mustDial(t, tr, w.oneHop()).Close()
		took, err := dialWithin(t, tr, w.oneHop())
		if wantSaturated(t, err, 0, 2, 10*time.Second); took != 10*time.Second {
			t.Errorf("the dial took %v, want the default of ConnectTimeout", took)
		}
	})
}

// TestSlowDialIsNotSaturation: the time that a dial takes has limits of its own, and does not count.
func TestSlowDialIsNotSaturation(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, hold)
		w.net.SetLatency("client", "pod-1", 2*time.Second)
		w.net.SetLatency("pod-1", "client", 2*time.Second)
		tr := w.transport()
		tr.ConnectTimeout = 5 * time.Second // TCP and TLS take 8
		tr.MaxStreamsPerTunnel, tr.MaxTunnels = 1, 1
		errs := make(chan error)
		began := time.Now()
		for range 2 { // one of them gets the tunnel, and holds it
			go func() {
				_, err := tr.Dial(context.Background(), w.oneHop())
				errs <- err
			}()
		}
		if err := <-errs; err != nil {
			t.Errorf("dial: %v", err)
		}
		wantSaturated(t, <-errs, 0, 1, 5*time.Second)
		if took := time.Since(began); took != 8*time.Second+5*time.Second {
			t.Errorf("the dial that got no stream took %v, want the time of the other's, and ConnectTimeout", took)
		}
	})
}

// TestAbandonedInnerDial: nobody waits any more for an inner tunnel whose outer stream is not to be had. Its dial ends all
// the same.
func TestAbandonedInnerDial(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}, ratings: {podAddr}})
		tr := w.transport()
		tr.MaxStreamsPerTunnel, tr.MaxTunnels = 1, 1
		mustDial(t, tr, w.twoHops(reviews)).Close() // its inner tunnel holds the only outer stream
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := tr.Dial(ctx, w.twoHops(ratings))
		wantHop(t, err, 1, hbone.PhaseWait)
		before := tr.Stats().Hops[1].Failures
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := tr.Stats().Hops[1].Failures - before; got != 1 {
			t.Errorf("%d inner dials have failed after ConnectTimeout, want the abandoned one", got)
		}
		time.Sleep(3 * time.Second) // the backoff
		_, err = dialWithin(t, tr, w.twoHops(ratings))
		wantSaturated(t, err, 0, 1, 10*time.Second)
	})
}

// TestNoConnectTimeout: negative is none, also while a dial waits.
func TestNoConnectTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, hold)
		tr := w.transport()
		tr.MaxStreamsPerTunnel, tr.MaxTunnels, tr.ConnectTimeout = 1, 1, -1
		first := mustDial(t, tr, w.oneHop())
		time.AfterFunc(59*time.Minute, func() { first.Close() })
		if _, err := dialWithin(t, tr, w.oneHop()); err != nil {
			t.Errorf("dial: %v", err)
		}
	})
}
