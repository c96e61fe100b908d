package hbone_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// bubble runs a test in virtual time.
func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

// herd dials n times at once and returns what came of it, in any order.
func herd(tr *hbone.Transport, p hbone.Path, n int) (conns []*hbone.Conn, errs []error) {
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for range n {
		wg.Go(func() {
			conn, err := tr.Dial(context.Background(), p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			} else {
				conns = append(conns, conn)
			}
		})
	}
	wg.Wait()
	return conns, errs
}

func TestOneDialServesAHerd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.podWithLimit(podAddr, 2000, hold)
		w.net.SetLatency("client", "pod-1", time.Millisecond)
		tr := w.transport()
		tr.MaxStreamsPerTunnel = 1000
		conns, errs := herd(tr, w.oneHop(), 1000)
		if len(errs) > 0 {
			t.Fatalf("%d dials failed, the first: %v", len(errs), errs[0])
		}
		if hop := tr.Stats().Hops[0]; hop.Dials != 1 || hop.Handshakes != 1 || hop.Streams != 1000 {
			t.Errorf("stats = %+v, want one dial, one handshake, 1000 streams", hop)
		}
		for _, c := range conns {
			c.Close()
		}
	})
}

func TestHerdOverDefaultLimit(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, hold)
		w.net.SetLatency("client", "pod-1", time.Millisecond)
		tr := w.transport()
		conns, errs := herd(tr, w.oneHop(), 1000)
		if len(errs) > 0 {
			t.Fatalf("%d dials failed, the first: %v", len(errs), errs[0])
		}
		if got := tr.Stats().Tunnels; got != 10 {
			t.Errorf("%d tunnels for 1000 streams, want 10", got)
		}
		for _, c := range conns {
			c.Close()
		}
	})
}

func TestBlackholeFailsAllWaitersAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.net.Blackhole("client", "pod-1")
		tr := w.transport()
		began := time.Now()
		var late sync.WaitGroup
		late.Go(func() {
			time.Sleep(5 * time.Second)
			if _, errs := herd(tr, w.oneHop(), 100); len(errs) != 100 {
				t.Errorf("%d of 100 late dials failed", len(errs))
			}
		})
		_, errs := herd(tr, w.oneHop(), 100)
		late.Wait()
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %v, want the one dial timeout of 10s", took)
		}
		for _, err := range errs {
			if he := wantHop(t, err, 0, hbone.PhaseDial); !he.Timeout() || !he.Retryable() || he.Remote() {
				t.Errorf("%v: timeout %v, retryable %v, remote %v", err, he.Timeout(), he.Retryable(), he.Remote())
			}
		}
		if dials := tr.Stats().Hops[0].Dials; dials != 1 {
			t.Errorf("%d dials, want 1", dials)
		}
	})
}

func TestPhasesHaveTimeouts(t *testing.T) {
	silent := func(w *world, address string) {
		l, err := w.net.Listen(address)
		if err != nil {
			w.Fatal(err)
		}
		w.Cleanup(func() { l.Close() })
	}
	mute := func(w *world, address string) { // TLS, and then nothing
		l, err := w.net.Listen(address)
		if err != nil {
			w.Fatal(err)
		}
		w.Cleanup(func() { l.Close() })
		go func() {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			_, _ = io.Copy(io.Discard, tls.Server(nc, w.ca.ServerConfig(w.ca.Issue(podID))))
		}()
	}
	tests := []struct {
		phase hbone.Phase
		setup func(w *world, address string)
	}{
		{hbone.PhaseDial, func(w *world, _ string) { w.net.Blackhole("client", "pod-1") }},
		{hbone.PhaseTLS, silent},
		{hbone.PhaseHTTP2, mute},
		{hbone.PhaseConnect, func(w *world, address string) {
			w.pod(address, func(r *hbone.Request) { <-r.Context().Done() })
		}},
	}
	for i, tt := range tests {
		t.Run(string(tt.phase), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				tt.setup(w, podAddr)
				tr := w.transport()
				tr.DialTimeout, tr.TLSTimeout = 1*time.Second, 2*time.Second
				tr.HTTP2Timeout, tr.ConnectTimeout = 3*time.Second, 4*time.Second
				began := time.Now()
				_, err := tr.Dial(context.Background(), w.oneHop())
				if he := wantHop(t, err, 0, tt.phase); !he.Timeout() {
					t.Errorf("%v: Timeout() = false", err)
				}
				if took, want := time.Since(began), time.Duration(i+1)*time.Second; took != want {
					t.Errorf("took %v, want %v", took, want)
				}
			})
		})
	}
}

func TestDialHonoursContext(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, func(r *hbone.Request) { <-r.Context().Done() })
		tr := w.transport()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := tr.Dial(ctx, w.oneHop())
		wantHop(t, err, 0, hbone.PhaseConnect)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v, want context.DeadlineExceeded", err)
		}
		w.net.Blackhole("client", "pod-2")
		path := w.oneHop()
		path.Hops[0].Address = "pod-2:15008"
		ctx, cancel = context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		_, err = tr.Dial(ctx, path)
		if he := wantHop(t, err, 0, hbone.PhaseWait); !errors.Is(err, context.Canceled) || he.Retryable() {
			t.Errorf("error = %v (retryable %v), want context.Canceled", err, he.Retryable())
		}
	})
}

func TestDistinctPeersNeverWait(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.net.Blackhole("client", "pod-1")
		w.pod("pod-2:15008", echo)
		tr := w.transport()
		var stuck sync.WaitGroup
		stuck.Go(func() { herd(tr, w.oneHop(), 100) })
		synctest.Wait()
		began := time.Now()
		path := w.oneHop()
		path.Hops[0].Address = "pod-2:15008"
		conn := mustDial(t, tr, path)
		wantEcho(t, conn, "hello")
		conn.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v beside a peer that does not answer, want nothing", took)
		}
		stuck.Wait()
	})
}

func TestServicesDoNotShareInnerTunnels(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}, ratings: {podAddr}})
		tr := w.transport()
		for _, service := range []string{reviews, ratings, reviews, ratings} {
			conn := mustDial(t, tr, w.twoHops(service))
			wantEcho(t, conn, service)
			defer conn.Close()
		}
		s := tr.Stats()
		if s.Hops[0].Tunnels != 1 || s.Hops[1].Tunnels != 2 || s.Streams != 4 {
			t.Errorf("stats = %+v, want one outer and two inner tunnels with 4 streams", s)
		}
	})
}

func TestIdentitiesDoNotShareTunnels(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.serve(podAddr, &hbone.Server{TLS: w.ca.Server(w.ca.Issue(podID)), Handler: echo})
		tr := w.transport()
		for _, id := range []string{"/a", "/b", "/a", "/b"} {
			path := w.oneHop()
			path.Hops[0].TLS = w.ca.Client(w.ca.Issue(id), podID)
			conn := mustDial(t, tr, path)
			defer conn.Close()
		}
		if got := tr.Stats().Tunnels; got != 2 {
			t.Errorf("%d tunnels for two local identities, want 2", got)
		}
	})
}

func TestSaturatedTunnelReturns(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, hold)
		tr := w.transport()
		tr.MaxStreamsPerTunnel = 2
		var conns []*hbone.Conn
		for range 3 {
			conns = append(conns, mustDial(t, tr, w.oneHop()))
		}
		if got := tr.Stats().Tunnels; got != 2 {
			t.Fatalf("%d tunnels for 3 streams at 2 each, want 2", got)
		}
		first := conns[0].Hops()[0].Tunnel
		conns[0].Close()
		conns[1].Close()
		synctest.Wait()
		again := []*hbone.Conn{mustDial(t, tr, w.oneHop()), mustDial(t, tr, w.oneHop()), mustDial(t, tr, w.oneHop())}
		if got := tr.Stats().Hops[0].Dials; got != 2 {
			t.Errorf("%d dials, want the 2 tunnels that there were", got)
		}
		used := 0
		for _, c := range again {
			if c.Hops()[0].Tunnel == first {
				used++
			}
		}
		if used != 2 {
			t.Errorf("the tunnel that was full got %d of 3 new streams, want 2", used)
		}
	})
}

func TestMaxTunnelsMakesDialsWait(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, hold)
		tr := w.transport()
		tr.MaxStreamsPerTunnel, tr.MaxTunnels = 1, 1
		first := mustDial(t, tr, w.oneHop())
		time.AfterFunc(3*time.Second, func() { first.Close() })
		began := time.Now()
		second := mustDial(t, tr, w.oneHop())
		defer second.Close()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("waited %v for a free stream, want 3s", took)
		}
		if got := tr.Stats().Hops[0].Dials; got != 1 {
			t.Errorf("%d dials, want 1", got)
		}
	})
}

// The server's settings come with its first answer, so a second CONNECT may
// already be on its way to a tunnel that takes one.
func TestRefusedStreamGoesElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.podWithLimit(podAddr, 1, echo)
		w.net.SetLatency("client", "pod-1", 10*time.Millisecond)
		w.net.SetLatency("pod-1", "client", 10*time.Millisecond)
		tr := w.transport()
		conns, errs := herd(tr, w.oneHop(), 5)
		if len(errs) > 0 {
			t.Fatalf("%d of 5 dials failed, the first: %v", len(errs), errs[0])
		}
		for _, conn := range conns {
			wantEcho(t, conn, "hello")
			conn.Close()
		}
		if s := tr.Stats(); s.Tunnels != 5 || s.Hops[0].Retried == 0 {
			t.Errorf("stats = %+v, want 5 tunnels and some CONNECTs repeated", s)
		}
	})
}

func TestGoAwayRaceIsInvisible(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		l, err := w.net.Listen(podAddr)
		if err != nil {
			t.Fatal(err)
		}
		server := &hbone.Server{TLS: w.ca.Server(w.ca.Issue(podID), webID), Handler: echo}
		defer server.Close()
		tr := w.transport()
		go func() {
			nc, err := l.Accept()
			if err == nil {
				leaving(t, tls.Server(nc, w.ca.ServerConfig(w.ca.Issue(podID))))
			}
			_ = server.Serve(context.Background(), l)
		}()
		conn := mustDial(t, tr, w.oneHop())
		wantEcho(t, conn, "hello")
		conn.Close()
		if hop := tr.Stats().Hops[0]; hop.Retried != 1 || hop.Dials != 2 {
			t.Errorf("stats = %+v, want one CONNECT repeated on a second tunnel", hop)
		}
	})
}

// leaving is a server that answers the first CONNECT with GOAWAY: it took none
// (RFC 9113 §6.8).
func leaving(t *testing.T, nc net.Conn) {
	defer nc.Close()
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
		t.Errorf("preface: %v", err)
		return
	}
	fr := http2.NewFramer(nc, nc)
	_ = fr.WriteSettings()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Errorf("before CONNECT: %v", err)
			return
		}
		if _, ok := f.(*http2.HeadersFrame); ok {
			_ = fr.WriteGoAway(0, http2.ErrCodeNo, nil)
			_, _ = io.Copy(io.Discard, nc) // until the client has gone
			return
		}
	}
}

func TestBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		tr := w.transport()
		tr.MaxBackoff = 4 * time.Second
		_, err := tr.Dial(context.Background(), w.oneHop())
		wantHop(t, err, 0, hbone.PhaseDial)
		_, err = tr.Dial(context.Background(), w.oneHop())
		wantHop(t, err, 0, hbone.PhaseDial)
		var backoff *hbone.BackoffError
		if !errors.As(err, &backoff) || !backoff.Until.After(time.Now()) {
			t.Fatalf("second error = %v, want a *BackoffError", err)
		}
		for range 10 { // the pause grows, and no further than it may
			time.Sleep(4 * time.Second)
			_, _ = tr.Dial(context.Background(), w.oneHop())
		}
		if got := tr.Stats().Hops[0].Dials; got != 11 {
			t.Errorf("%d dials, want 11: one for each longest pause", got)
		}
		_, err = tr.Dial(context.Background(), w.oneHop())
		if !errors.As(err, &backoff) || time.Until(backoff.Until) < 2*time.Second {
			t.Errorf("error = %v, want a pause that has grown", err)
		}
		w.pod(podAddr, echo)
		time.Sleep(4 * time.Second)
		mustDial(t, tr, w.oneHop()).Close()
	})
}

func TestIdleTunnelsClose(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}})
		tr := w.transport()
		conn := mustDial(t, tr, w.twoHops(reviews))
		time.Sleep(time.Hour)
		wantEcho(t, conn, "still there")
		conn.Close()
		time.Sleep(4 * time.Minute)
		if got := tr.Stats().Tunnels; got != 2 {
			t.Errorf("%d tunnels after 4 idle minutes, want 2", got)
		}
		time.Sleep(2 * time.Minute)
		if got := tr.Stats().Tunnels; got != 1 {
			t.Errorf("%d tunnels after 6 idle minutes, want only the outer one", got)
		}
		time.Sleep(5 * time.Minute)
		if got := tr.Stats().Tunnels; got != 0 {
			t.Errorf("%d tunnels after 11 idle minutes, want 0", got)
		}
	})
}

func TestOldTunnelIsReplacedInTheBackground(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		tr := w.transport()
		tr.MaxTunnelAge = 10 * time.Minute
		before := mustDial(t, tr, w.oneHop())
		time.Sleep(12 * time.Minute)
		during := mustDial(t, tr, w.oneHop())
		synctest.Wait() // for the replacement
		after := mustDial(t, tr, w.oneHop())
		first := before.Hops()[0].Tunnel
		if got := during.Hops()[0]; got.Tunnel != first || !got.Reused {
			t.Errorf("the dial that found the tunnel old used %d, want %d: it should not have to wait", got.Tunnel, first)
		}
		if got := after.Hops()[0].Tunnel; got == first {
			t.Error("the old tunnel is still used")
		}
		for _, conn := range []*hbone.Conn{before, during, after} {
			wantEcho(t, conn, "undisturbed")
		}
		before.Close()
		during.Close()
		synctest.Wait()
		if got := tr.Stats().Tunnels; got != 1 {
			t.Errorf("%d tunnels when the old one's streams ended, want 1", got)
		}
		after.Close()
	})
}

func TestOldTunnelIsReplacedAtTheLimit(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		tr := w.transport()
		tr.MaxTunnels, tr.MaxTunnelAge = 1, time.Minute
		first := mustDial(t, tr, w.oneHop())
		defer first.Close()
		time.Sleep(2 * time.Minute)
		mustDial(t, tr, w.oneHop()).Close()
		synctest.Wait()
		last := mustDial(t, tr, w.oneHop())
		defer last.Close()
		if last.Hops()[0].Tunnel == first.Hops()[0].Tunnel {
			t.Error("the old tunnel was not replaced")
		}
	})
}

func TestDrainAtExpiry(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}})
		for hop := range 2 {
			tr := w.transport()
			path := w.twoHops(reviews)
			creds := w.client(gatewayID, podID)
			creds.DrainAt(time.Now().Add(time.Hour))
			path.Hops[hop].TLS = creds
			before := mustDial(t, tr, path)
			creds.DrainAt(time.Time{}) // a new certificate
			time.Sleep(time.Hour)
			after := mustDial(t, tr, path)
			if before.Hops()[hop].Tunnel == after.Hops()[hop].Tunnel {
				t.Errorf("hop %d: a tunnel whose certificate expired took a new stream", hop)
			}
			wantEcho(t, before, "undisturbed")
			wantEcho(t, after, "hello")
			before.Close()
			after.Close()
			tr.Close()
		}
	})
}

func TestRevocationCutsAndNamesTheHop(t *testing.T) {
	for hop := range 2 {
		t.Run(fmt.Sprint("hop ", hop), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.pod(podAddr, echo)
				w.gateway(map[string][]string{reviews: {podAddr}})
				tr := w.transport()
				path := w.twoHops(reviews)
				creds := w.client(gatewayID, podID)
				path.Hops[hop].TLS = creds
				conn := mustDial(t, tr, path)
				wantEcho(t, conn, "hello")
				creds.Revoke()
				synctest.Wait()
				_, err := conn.Read(make([]byte, 1))
				he := wantHop(t, err, hop, hbone.PhaseStream)
				if !errors.Is(err, hbone.ErrRevoked) || he.Retryable() {
					t.Errorf("read: %v, want ErrRevoked, not retryable", err)
				}
				_, err = conn.Write([]byte("x"))
				wantHop(t, err, hop, hbone.PhaseStream)
				if got := tr.Stats().Hops; got[1].Tunnels != 0 || got[0].Tunnels != hop {
					t.Errorf("tunnels left: %d outer, %d inner; want %d and 0", got[0].Tunnels, got[1].Tunnels, hop)
				}
				_, err = tr.Dial(context.Background(), path)
				if wantHop(t, err, hop, hbone.PhaseTLS); !errors.Is(err, hbone.ErrRevoked) {
					t.Errorf("dial: %v, want ErrRevoked", err)
				}
			})
		})
	}
}

func TestBrokenTunnelNamesTheHop(t *testing.T) {
	tests := []struct {
		name string
		cut  [2]string
		hop  int
	}{
		{"to the gateway", [2]string{"client", "gateway"}, 0},
		{"behind the gateway", [2]string{"gateway", "pod-1"}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.pod(podAddr, echo)
				w.gateway(map[string][]string{reviews: {podAddr}})
				tr := w.transport()
				conn := mustDial(t, tr, w.twoHops(reviews))
				wantEcho(t, conn, "hello")
				w.net.Cut(tt.cut[0], tt.cut[1])
				_, err := conn.Read(make([]byte, 1))
				wantHop(t, err, tt.hop, hbone.PhaseStream)
			})
		})
	}
}

func TestPoolForgetsKeys(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		tr := w.transport()
		for i := range 50 {
			path := w.oneHop()
			if i%2 == 0 {
				path.Hops[0].Address = fmt.Sprintf("10.0.0.%d:15008", i) // nobody there
			} else {
				path.Hops[0].TLS = w.ca.Client(w.ca.Issue(webID), podID, fmt.Sprint("/", i))
			}
			if conn, err := tr.Dial(context.Background(), path); err == nil {
				conn.Close()
			}
		}
		if got := tr.Groups(); got != 50 {
			t.Errorf("%d kinds of tunnels known, want 50", got)
		}
		time.Sleep(6 * time.Minute)
		if got := tr.Groups(); got != 0 {
			t.Errorf("%d kinds of tunnels remembered after all have gone, want 0", got)
		}
	})
}

func TestTransportClose(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}})
		tr := w.transport()
		conn := mustDial(t, tr, w.twoHops(reviews))
		w.net.Blackhole("client", "nowhere")
		waiting := make(chan error, 1)
		go func() {
			path := w.oneHop()
			path.Hops[0].Address = "nowhere:15008"
			_, err := tr.Dial(context.Background(), path)
			waiting <- err
		}()
		synctest.Wait()
		tr.Close()
		tr.Close()
		if err := <-waiting; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a dial under way: %v, want net.ErrClosed", err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a stream: %v, want net.ErrClosed", err)
		}
		if _, err := tr.Dial(context.Background(), w.oneHop()); !errors.Is(err, hbone.ErrClosed) {
			t.Errorf("a later dial: %v, want ErrClosed", err)
		}
		if got := tr.Stats().Tunnels; got != 0 {
			t.Errorf("%d tunnels left", got)
		}
	})
}

func TestTransportShutdown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}})
		tr := w.transport()
		conn := mustDial(t, tr, w.twoHops(reviews))
		time.AfterFunc(time.Minute, func() {
			wantEcho(t, conn, "finishing")
			conn.Close()
		})
		began := time.Now()
		if err := tr.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("took %v, want until the stream ended", took)
		}

		tr = w.transport()
		conn = mustDial(t, tr, w.twoHops(reviews))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := tr.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown = %v, want context.DeadlineExceeded", err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Shutdown gave up: %v, want net.ErrClosed", err)
		}
	})
}

func TestCloseIdle(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}, ratings: {podAddr}})
		tr := w.transport()
		conn := mustDial(t, tr, w.twoHops(reviews))
		mustDial(t, tr, w.twoHops(ratings)).Close()
		synctest.Wait()
		tr.CloseIdle()
		if s := tr.Stats(); s.Hops[0].Tunnels != 1 || s.Hops[1].Tunnels != 1 {
			t.Errorf("stats = %+v, want what carries the open stream", s)
		}
		conn.Close()
		synctest.Wait()
		tr.CloseIdle()
		if got := tr.Stats().Tunnels; got != 0 {
			t.Errorf("%d tunnels left, want 0", got)
		}
	})
}

// TestBadCertificateBacksOff: a TLS 1.3 client learns of its refusal after the
// handshake, and a herd must not try it again and again.
func TestBadCertificateBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		said := new(refusals)
		w.serve(podAddr, &hbone.Server{TLS: w.ca.Server(w.ca.Issue(podID), "/nobody"), Handler: echo, Refused: said.add})
		w.net.SetLatency("client", "pod-1", time.Millisecond)
		w.net.SetLatency("pod-1", "client", time.Millisecond)
		tr := w.transport()
		conns, errs := herd(tr, w.oneHop(), 1000)
		if len(conns) > 0 {
			t.Fatalf("%d dials succeeded", len(conns))
		}
		for _, err := range errs {
			if he := wantHop(t, err, 0, hbone.PhaseTLS); !he.Remote() {
				t.Fatalf("%v: not told as the server's decision", err)
			}
		}
		synctest.Wait()
		if len(said.all) != 1 {
			t.Errorf("the server refused %d connections for one herd, want 1", len(said.all))
		}
	})
}

func TestTrace(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}})
		var (
			mu  sync.Mutex
			got []string
		)
		add := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprintf(format, args...))
		}
		tr := w.transport()
		tr.Trace = &hbone.Trace{
			TunnelDial:    func(i hbone.TunnelInfo) { add("dial %d %s", i.Hop, i.Address) },
			TunnelReady:   func(i hbone.TunnelInfo, _ time.Duration) { add("ready %d", i.Hop) },
			TunnelFailed:  func(i hbone.TunnelInfo, err error) { add("failed %d %s", i.Hop, i.Address) },
			TunnelRetired: func(i hbone.TunnelInfo, why hbone.RetireReason) { add("retired %d %s", i.Hop, why) },
			TunnelClosed:  func(i hbone.TunnelInfo, _ error) { add("closed %d", i.Hop) },
			Connected:     func(i hbone.TunnelInfo, c *hbone.Conn) { add("connected %d %s", i.Hop, c.Authority()) },
			ConnectFailed: func(i hbone.TunnelInfo, a string, err *hbone.HopError) { add("refused %d %s %v", i.Hop, a, err.Err) },
		}
		mustDial(t, tr, w.twoHops(reviews)).Close()
		synctest.Wait()
		tr.CloseIdle()
		_, _ = tr.Dial(context.Background(), w.twoHops(ratings))
		want := []string{
			"dial 1 " + reviews, "dial 0 " + gatewayAddr, "ready 0", "connected 0 " + reviews,
			"ready 1", "connected 1 " + reviews,
			"retired 1 idle", "closed 1", "retired 0 idle", "closed 0",
			"dial 1 " + ratings, "dial 0 " + gatewayAddr, "ready 0",
			"refused 0 " + ratings + " status 404 (Not Found)", "failed 1 " + ratings,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("trace (-want +got):\n%s", diff)
		}
	})
}
