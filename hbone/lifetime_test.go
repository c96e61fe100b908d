package hbone_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
)

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
			synctest.Wait()
			if got := tr.Stats().Hops[hop].Tunnels; got != 1 {
				t.Errorf("hop %d: %d tunnels after the expired one's last stream, want 1", hop, got)
			}
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

// TestPoolForgetsKeysBehindTheGateway: the same for services that come and go, whether or not the gateway knows them.
func TestPoolForgetsKeysBehindTheGateway(t *testing.T) {
	const known, unknown = 50, 10
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		service := func(i int) string { return fmt.Sprintf("service-%d.app.svc.cluster.local:80", i) }
		g := w.gateway(map[string][]string{})
		for i := range known {
			g.set(service(i), podAddr)
		}
		tr := w.transport()
		for i := range known + unknown {
			path := w.twoHops(service(i))
			path.Spread = 3
			if conn, err := tr.Dial(context.Background(), path); err == nil {
				conn.Close()
			}
		}
		if got := tr.Groups(); got < known+1 {
			t.Errorf("%d kinds of tunnels known, want %d services, and the gateway", got, known)
		}
		time.Sleep(11 * time.Minute) // inner tunnels, then the outer one
		if got := tr.Groups(); got != 0 {
			t.Errorf("%d kinds of tunnels remembered after all have gone, want 0", got)
		}
	})
}

// TestTunnelsDoNotAgeTogether: tunnels that were made at once, as after a restart, must not all be replaced at once.
func TestTunnelsDoNotAgeTogether(t *testing.T) {
	const pods, age, step = 20, 10 * time.Minute, 5 * time.Second
	bubble(t, func(t *testing.T, w *world) {
		began := time.Now()
		retired := make(chan time.Duration, 2*pods)
		tr := w.transport()
		tr.MaxTunnelAge = age
		tr.Trace = &hbone.Trace{TunnelRetired: func(_ hbone.TunnelInfo, why hbone.RetireReason) {
			if why == hbone.RetireAge {
				retired <- time.Since(began)
			}
		}}
		paths := make([]hbone.Path, pods)
		for i := range paths {
			paths[i] = w.oneHop()
			paths[i].Hops[0].Address = fmt.Sprintf("pod-%d:15008", i+1)
			w.pod(paths[i].Hops[0].Address, echo)
		}
		for ; time.Since(began) < age+age/5; time.Sleep(step) {
			for _, path := range paths {
				mustDial(t, tr, path).Close()
			}
		}
		together := map[time.Duration]int{}
		for range pods {
			at := <-retired
			if at < age-age/10 || at > age+age/10+step {
				t.Errorf("a tunnel was replaced after %v, want %v, give or take a tenth", at, age)
			}
			together[at]++
		}
		if len(together) < pods/4 { // of 24 moments
			t.Errorf("%d tunnels were replaced at %d moments: %v", pods, len(together), together)
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

// TestOldTunnelsOnTwoHops: inner tunnels stay in an outer one that is only old, and leave it in their own time;
// no stream notices.
func TestOldTunnelsOnTwoHops(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.gateway(map[string][]string{reviews: w.backends(3)})
		tr := w.transport()
		tr.MaxTunnelAge = 10 * time.Minute
		path := w.twoHops(reviews)
		path.Spread = 3
		first := mustDial(t, tr, path)
		var address string
		fmt.Fscanln(first, &address)
		use := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				visit(t, tr, path)
			}
		}
		handshakes := func() (outer, inner uint64) {
			hops := tr.Stats().Hops
			return hops[0].Handshakes, hops[1].Handshakes
		}
		use(8 * time.Minute) // nothing is old: less than 9 in 10 of the age
		if outer, inner := handshakes(); outer != 1 || inner != 3 {
			t.Fatalf("%d outer and %d inner handshakes while all are young, want 1 and 3", outer, inner)
		}
		use(4 * time.Minute) // all are replaced, each once, over the outer tunnel of that moment
		if outer, inner := handshakes(); outer > 2 || inner != 6 {
			t.Errorf("%d outer and %d inner handshakes after one age, want at most 2, and 6", outer, inner)
		}
		use(13 * time.Minute) // nothing but the first stream is left in the first outer tunnel
		if outer, inner := handshakes(); outer < 2 || outer > 3 || inner != 9 {
			t.Errorf("%d outer and %d inner handshakes after two ages, want 2 or 3, and 9", outer, inner)
		}
		wantEcho(t, first, "undisturbed")
		first.Close()
		synctest.Wait()
		if hops := tr.Stats().Hops; hops[1].Tunnels != 3 {
			t.Errorf("%d inner tunnels, want the 3 young ones", hops[1].Tunnels)
		}
		if hops := mustDial(t, tr, path).Hops(); hops[1].Tunnel == first.Hops()[1].Tunnel {
			t.Error("the first tunnel took a new stream")
		}
	})
}
