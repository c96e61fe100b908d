package hbone_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/hbone"
)

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

// stuckPhases are the phases that a hop can be stuck in, and how to make a pod do that.
var stuckPhases = []struct {
	phase hbone.Phase
	setup func(w *world)
}{
	{hbone.PhaseDial, func(w *world) {
		w.net.Blackhole("client", "pod-1")
		w.net.Blackhole("gateway", "pod-1")
	}},
	{hbone.PhaseTLS, func(w *world) { w.accepting(func(net.Conn) {}) }},
	{hbone.PhaseHTTP2, func(w *world) {
		w.accepting(func(nc net.Conn) { // TLS, and then nothing
			_, _ = io.Copy(io.Discard, tls.Server(nc, w.ca.ServerConfig(w.ca.Issue(podID))))
		})
	}},
	{hbone.PhaseConnect, func(w *world) { w.pod(podAddr, func(r *hbone.Request) { <-r.Context().Done() }) }},
}

// accepting accepts connections as the pod, and keeps them open.
func (w *world) accepting(do func(net.Conn)) {
	l, err := w.net.Listen(podAddr)
	if err != nil {
		w.Fatal(err)
	}
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, nc)
			go do(nc)
		}
	}()
	w.Cleanup(func() {
		l.Close()
		<-done
		for _, nc := range conns {
			nc.Close()
		}
	})
}

// paths are ways to the pod, directly and through a gateway.
func (w *world) paths() []hbone.Path {
	w.gateway(map[string][]string{reviews: {podAddr}})
	return []hbone.Path{w.oneHop(), w.twoHops(reviews)}
}

// eachStuckPhase dials one hop and two, the last of which is stuck in each phase.
func eachStuckPhase(t *testing.T, test func(t *testing.T, tr *hbone.Transport, path hbone.Path, phase hbone.Phase)) {
	for _, stuck := range stuckPhases {
		for last := range 2 {
			t.Run(fmt.Sprintf("%s/hops=%d", stuck.phase, last+1), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					stuck.setup(w)
					test(t, w.transport(), w.paths()[last], stuck.phase)
				})
			})
		}
	}
}

func TestPhasesHaveTimeouts(t *testing.T) {
	eachStuckPhase(t, func(t *testing.T, tr *hbone.Transport, path hbone.Path, phase hbone.Phase) {
		tr.DialTimeout, tr.TLSTimeout = 1*time.Second, 2*time.Second
		tr.HTTP2Timeout, tr.ConnectTimeout = 3*time.Second, 4*time.Second
		limits := map[hbone.Phase]time.Duration{
			hbone.PhaseDial: tr.DialTimeout, hbone.PhaseTLS: tr.TLSTimeout,
			hbone.PhaseHTTP2: tr.HTTP2Timeout, hbone.PhaseConnect: tr.ConnectTimeout,
		}
		hop := len(path.Hops) - 1
		if hop > 0 && phase == hbone.PhaseDial { // it is the gateway that dials
			hop, phase = 0, hbone.PhaseConnect
		}
		began := time.Now()
		_, err := tr.Dial(context.Background(), path)
		if he := wantHop(t, err, hop, phase); !he.Timeout() {
			t.Errorf("%v: Timeout() = false", err)
		}
		if took, want := time.Since(began), limits[phase]; took != want {
			t.Errorf("took %v, want %v", took, want)
		}
	})
}

func TestPhasesHonourContext(t *testing.T) {
	eachStuckPhase(t, func(t *testing.T, tr *hbone.Transport, path hbone.Path, stuck hbone.Phase) {
		phase := hbone.PhaseWait // for the tunnel
		if stuck == hbone.PhaseConnect || stuck == hbone.PhaseHTTP2 {
			phase = hbone.PhaseConnect // which goes out before the peer's settings came
		}
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := tr.Dial(ctx, path)
		if he := wantHop(t, err, len(path.Hops)-1, phase); !he.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v, want a timeout of the context", err)
		}
		if took := time.Since(began); took != 500*time.Millisecond {
			t.Errorf("took %v, want 500ms", took)
		}
	})
}

// TestCredentialsThatHang: a wait for a certificate is part of the handshake, on each hop. It ends with the time for
// that, the caller's context, or the Transport.
func TestCredentialsThatHang(t *testing.T) {
	for hop := range 2 {
		t.Run(fmt.Sprint("hop ", hop), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.pod(podAddr, echo)
				w.gateway(map[string][]string{reviews: {podAddr}})
				path := w.twoHops(reviews)
				path.Hops[hop].TLS = waiting{path.Hops[hop].TLS, new(atomic.Int32)}
				tr := w.transport()
				tr.TLSTimeout = 2 * time.Second
				dial := func(patience, want time.Duration) error {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					began := time.Now()
					_, err := tr.Dial(ctx, path)
					if took := time.Since(began); took != want {
						t.Errorf("took %v, want %v: %v", took, want, err)
					}
					time.Sleep(3 * time.Second) // until nothing is left of it
					return err
				}
				err := dial(time.Minute, 2*time.Second)
				if he := wantHop(t, err, hop, hbone.PhaseTLS); !he.Timeout() || he.Remote() {
					t.Errorf("%v: timeout %v, remote %v", he, he.Timeout(), he.Remote())
				}
				err = dial(time.Second, time.Second)
				if wantHop(t, err, 1, hbone.PhaseWait); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error = %v, want context.DeadlineExceeded", err)
				}
				time.AfterFunc(time.Second, func() { tr.Close() })
				if err := dial(time.Minute, time.Second); !errors.Is(err, hbone.ErrClosed) {
					t.Errorf("error = %v, want ErrClosed", err)
				}
			})
		})
	}
}

// TestBlackholeBehindTheGateway: waiters for an inner tunnel fail together as well, and others are not held up.
func TestBlackholeBehindTheGateway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.net.Blackhole("gateway", "pod-1")
		w.pod("pod-2:15008", echo)
		w.gateway(map[string][]string{reviews: {podAddr}, ratings: {"pod-2:15008"}})
		tr := w.transport()
		began := time.Now()
		var stuck sync.WaitGroup
		stuck.Go(func() {
			_, errs := herd(tr, w.twoHops(reviews), 100)
			if len(errs) != 100 {
				t.Errorf("%d of 100 dials failed", len(errs))
			}
			for _, err := range errs {
				wantHop(t, err, 0, hbone.PhaseConnect)
			}
		})
		synctest.Wait()
		conn := mustDial(t, tr, w.twoHops(ratings))
		wantEcho(t, conn, "hello")
		conn.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v beside a service that does not answer, want nothing", took)
		}
		stuck.Wait()
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %v, want the one connect timeout of 10s", took)
		}
	})
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

// TestSilentBackendGetsNoStreams: a backend whose packets are lost tells nobody that it is gone. The first
// CONNECT that it does not answer has to do.
func TestSilentBackendGetsNoStreams(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		tr, path := w.spread(3)
		w.net.Blackhole("gateway", "pod-1")
		defer w.net.Heal("gateway", "pod-1") // so that the relay to it ends
		failed := 0
		for range 100 {
			conn, err := tr.Dial(context.Background(), path)
			if err != nil {
				wantHop(t, err, 1, hbone.PhaseConnect)
				failed++
				continue
			}
			conn.Close()
			synctest.Wait()
		}
		if failed != 1 {
			t.Errorf("%d dials went to the backend that is gone, want 1", failed)
		}
	})
}

// TestSlowAnswerIsNotDeath: the peer of a tunnel may be well, and only what it connects to not answer.
func TestSlowAnswerIsNotDeath(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, func(r *hbone.Request) {
			if r.Authority() == ratings {
				<-r.Context().Done()
				return
			}
			echo(r)
		})
		tr := w.transport()
		path := w.oneHop()
		for range 3 {
			path.Hops[0].Authority = ratings
			_, err := tr.Dial(context.Background(), path)
			wantHop(t, err, 0, hbone.PhaseConnect)
			synctest.Wait()
			path.Hops[0].Authority = reviews
			mustDial(t, tr, path).Close()
		}
		if got := tr.Stats().Hops[0].Dials; got != 1 {
			t.Errorf("%d tunnels were made, want 1", got)
		}
	})
}
