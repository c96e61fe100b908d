package hbone_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// A traced writes down what a Trace is told.
type traced struct {
	mu      sync.Mutex
	all     []string
	ends    []hbone.StreamEnd // of streams at lastHop
	lastHop int
}

func (tr *traced) add(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.all = append(tr.all, fmt.Sprintf(format, args...))
}

// lines returns what was told that begins with one of the prefixes; without any, all.
func (tr *traced) lines(prefixes ...string) (lines []string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, line := range tr.all {
		begins := func(prefix string) bool { return strings.HasPrefix(line, prefix) }
		if len(prefixes) == 0 || slices.ContainsFunc(prefixes, begins) {
			lines = append(lines, line)
		}
	}
	return lines
}

// trace tells of the tunnels by their hop, and of streams that carry none by their end.
func (tr *traced) trace() *hbone.Trace {
	return &hbone.Trace{
		TunnelDial: func(i hbone.TunnelInfo) { tr.add("dial %d %s", i.Hop, i.Address) },
		TLSDone: func(i hbone.TunnelInfo, s tls.ConnectionState) {
			tr.add("tls %d %s", i.Hop, s.PeerCertificates[0].URIs[0])
		},
		TunnelReady:   func(i hbone.TunnelInfo, _ time.Duration) { tr.add("ready %d", i.Hop) },
		TunnelFailed:  func(i hbone.TunnelInfo, err error) { tr.add("failed %d %v", i.Hop, err) },
		TunnelReused:  func(i hbone.TunnelInfo) { tr.add("reused %d", i.Hop) },
		TunnelWarmed:  func(i hbone.TunnelInfo) { tr.add("warmed %d", i.Hop) },
		TunnelRetired: func(i hbone.TunnelInfo, why hbone.RetireReason) { tr.add("retired %d %s", i.Hop, why) },
		TunnelClosed:  func(i hbone.TunnelInfo, _ error) { tr.add("closed %d", i.Hop) },
		Connecting:    func(i hbone.TunnelInfo, authority string) { tr.add("connecting %d %s", i.Hop, authority) },
		Connected:     func(i hbone.TunnelInfo, c *hbone.Conn) { tr.add("connected %d %s", i.Hop, c.Authority()) },
		ConnectFailed: func(i hbone.TunnelInfo, _ string, err *hbone.HopError) { tr.add("refused %d %v", i.Hop, err.Err) },
		StreamClosed: func(i hbone.TunnelInfo, c *hbone.Conn, end hbone.StreamEnd) {
			tr.add("end %d %s", i.Hop, c.Authority())
			if i.Hop == tr.lastHop {
				tr.mu.Lock()
				defer tr.mu.Unlock()
				tr.ends = append(tr.ends, end)
			}
		},
	}
}

func TestTrace(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}})
		tr := w.transport()
		got := new(traced)
		tr.Trace = got.trace()
		for range 2 {
			conn := mustDial(t, tr, w.twoHops(reviews))
			wantEcho(t, conn, "hello")
			conn.Close()
			synctest.Wait()
		}
		tr.CloseIdle()
		_, _ = tr.Dial(context.Background(), w.twoHops(ratings))
		gatewayTLS, podTLS := "tls 0 "+w.ca.ID(gatewayID), "tls 1 "+w.ca.ID(podID)
		want := []string{
			"dial 1 " + reviews,
			"dial 0 " + gatewayAddr, gatewayTLS, "ready 0",
			"connecting 0 " + reviews, "connected 0 " + reviews,
			podTLS, "ready 1",
			"connecting 1 " + reviews, "connected 1 " + reviews, "end 1 " + reviews,
			"reused 1",
			"connecting 1 " + reviews, "connected 1 " + reviews, "end 1 " + reviews,
			"retired 1 idle", "end 0 " + reviews, "closed 1",
			"retired 0 idle", "closed 0",
			"dial 1 " + ratings,
			"dial 0 " + gatewayAddr, gatewayTLS, "ready 0",
			"connecting 0 " + ratings, "refused 0 status 404 (Not Found)",
			"failed 1 hbone: hop 0 (" + gatewayAddr + "): connect " + ratings + ": status 404 (Not Found)",
		}
		if diff := cmp.Diff(want, got.lines()); diff != "" {
			t.Errorf("trace (-want +got):\n%s", diff)
		}
	})
}

// TestTraceTellsHowStreamsEnd ends streams in every way, after some bytes.
func TestTraceTellsHowStreamsEnd(t *testing.T) {
	mine := errors.New("mine")
	pod := func(t *testing.T, r *hbone.Request) {
		conn, err := r.Accept(nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		got, _ := io.ReadAll(io.LimitReader(conn, 5))
		fmt.Fprint(conn, "seven b")
		switch string(got) {
		case "reset":
			conn.Abort(nil)
		case "clean":
			_ = conn.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, conn)
	}
	tests := []struct {
		name string
		say  string
		do   func(w *world, conn *hbone.Conn)
		want func(error) bool
	}{
		{"clean", "clean", func(_ *world, conn *hbone.Conn) { _ = conn.CloseWrite() }, func(err error) bool { return err == nil }},
		{"closed after the peer ended", "clean", func(*world, *hbone.Conn) {}, func(err error) bool { return err == nil }},
		{"closed early", "hello", func(*world, *hbone.Conn) {}, func(err error) bool { return errors.Is(err, net.ErrClosed) }},
		{"aborted", "hello", func(_ *world, conn *hbone.Conn) { conn.Abort(mine) }, func(err error) bool { return errors.Is(err, mine) }},
		{"reset by the peer", "reset", func(*world, *hbone.Conn) {}, func(err error) bool {
			var hop *hbone.HopError
			return errors.As(err, &hop) && hop.Hop == 1 && hop.Remote() && errors.Is(err, syscall.ECONNRESET)
		}},
		{"tunnel broke", "hello", func(w *world, _ *hbone.Conn) { w.net.Cut("client", "gateway"); synctest.Wait() }, func(err error) bool {
			var hop *hbone.HopError
			return errors.As(err, &hop) && hop.Hop == 0 && hop.Phase == hbone.PhaseStream
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.pod(podAddr, func(r *hbone.Request) { pod(t, r) })
				w.gateway(map[string][]string{reviews: {podAddr}})
				tr := w.transport()
				got := &traced{lastHop: 1}
				tr.Trace = got.trace()
				conn := mustDial(t, tr, w.twoHops(reviews))
				fmt.Fprint(conn, tt.say)
				synctest.Wait() // until the answer has come
				tt.do(w, conn)
				conn.Close()
				synctest.Wait()
				if len(got.ends) != 1 {
					t.Fatalf("%d streams ended, want 1: %v", len(got.ends), got.lines("end"))
				}
				if end := got.ends[0]; end.Sent != 5 || end.Received != 7 || !tt.want(end.Cause) {
					t.Errorf("end = %+v, want 5 bytes sent, 7 received, and another cause", end)
				}
			})
		})
	}
}

// TestTraceTellsWhyTunnelsRetire: once each, before they close.
func TestTraceTellsWhyTunnelsRetire(t *testing.T) {
	tests := []struct {
		why hbone.RetireReason
		do  func(w *world, tr *hbone.Transport, pod *hbone.Server, path hbone.Path)
	}{
		{hbone.RetireIdle, func(*world, *hbone.Transport, *hbone.Server, hbone.Path) { time.Sleep(6 * time.Minute) }},
		{hbone.RetireAge, func(_ *world, tr *hbone.Transport, _ *hbone.Server, path hbone.Path) {
			time.Sleep(2 * time.Minute)
			for range 2 { // the first has the tunnel replaced, the second finds that done
				if conn, err := tr.Dial(context.Background(), path); err == nil {
					conn.Close()
				}
				synctest.Wait()
			}
		}},
		{hbone.RetireDrain, func(*world, *hbone.Transport, *hbone.Server, hbone.Path) { time.Sleep(3 * time.Minute) }},
		{hbone.RetireGoAway, func(_ *world, _ *hbone.Transport, pod *hbone.Server, _ hbone.Path) {
			_ = pod.Shutdown(context.Background())
		}},
		{hbone.RetireGoAway, func(w *world, _ *hbone.Transport, _ *hbone.Server, _ hbone.Path) { w.net.Cut("client", "pod-1") }},
		{hbone.RetireClosing, func(_ *world, tr *hbone.Transport, _ *hbone.Server, _ hbone.Path) {
			_ = tr.Shutdown(context.Background())
		}},
		{hbone.RetireClosing, func(_ *world, tr *hbone.Transport, _ *hbone.Server, _ hbone.Path) { tr.Close() }},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprint(i, " ", tt.why), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				pod := w.pod(podAddr, echo)
				tr := w.transport()
				tr.MaxTunnelAge = time.Minute
				got := new(traced)
				tr.Trace = got.trace()
				path := w.oneHop()
				if tt.why == hbone.RetireDrain {
					creds := w.client(podID)
					creds.DrainAt(time.Now().Add(2 * time.Minute))
					path.Hops[0].TLS = creds
				}
				mustDial(t, tr, path).Close()
				synctest.Wait()
				tt.do(w, tr, pod, path)
				synctest.Wait()
				lines := got.lines("retired", "closed")
				if want := []string{"retired 0 " + string(tt.why), "closed 0"}; !slices.Equal(lines, want) {
					t.Errorf("trace = %q, want %q", lines, want)
				}
			})
		})
	}
	t.Run("revoked", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			w.pod(podAddr, echo)
			tr := w.transport()
			got := new(traced)
			tr.Trace = got.trace()
			creds := w.client(podID)
			path := w.oneHop()
			path.Hops[0].TLS = creds
			conn := mustDial(t, tr, path)
			defer conn.Close()
			creds.Revoke()
			synctest.Wait()
			lines := got.lines("retired", "end", "closed")
			if want := []string{"retired 0 revoked", "end 0 10.1.0.10:8080", "closed 0"}; !slices.Equal(lines, want) {
				t.Errorf("trace = %q, want %q", lines, want)
			}
			if len(got.ends) != 1 || !errors.Is(got.ends[0].Cause, hbone.ErrRevoked) {
				t.Errorf("ends = %v, want one by ErrRevoked", got.ends)
			}
		})
	})
}

// TestTraceTellsEveryDial: a search for a backend opens tunnels that are not wanted; those too come to an end.
func TestTraceTellsEveryDial(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.gateway(map[string][]string{reviews: w.backends(1)})
		tr := w.transport()
		got := new(traced)
		tr.Trace = got.trace()
		path := w.twoHops(reviews)
		path.Spread = 2
		for range 2 {
			visit(t, tr, path)
			synctest.Wait()
		}
		dials, ready, duplicate := len(got.lines("dial 1")), len(got.lines("ready 1")), len(got.lines("failed 1 "+hbone.ErrDuplicateBackend.Error()))
		if ready != 1 || duplicate == 0 || dials != ready+duplicate {
			t.Errorf("%d inner tunnels begun, %d made, %d given up", dials, ready, duplicate)
		}
	})
}
