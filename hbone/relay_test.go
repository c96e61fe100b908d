package hbone_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/internal/memnet"
	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// sides makes connections whose near end a Relay gets, and whose far end is
// the test's.
func sides(t *testing.T) map[string]func(t *testing.T) (near, far net.Conn) {
	stream := newPipe(t, fabrics()["memnet"], 1)
	nested := newPipe(t, fabrics()["loopback"], 2)
	open := func(p *pipe, t *testing.T) (client, server net.Conn) {
		client, server, _, err := p.open()
		if err != nil {
			t.Fatal(err)
		}
		return client, server
	}
	return map[string]func(t *testing.T) (near, far net.Conn){
		"tcp":    tcpPair,
		"memory": func(*testing.T) (net.Conn, net.Conn) { return memnet.Pipe() },
		"client": func(t *testing.T) (net.Conn, net.Conn) { return open(stream, t) },
		"server": func(t *testing.T) (net.Conn, net.Conn) {
			client, server := open(stream, t)
			return server, client
		},
		"nested": func(t *testing.T) (net.Conn, net.Conn) { return open(nested, t) },
	}
}

func tcpPair(t *testing.T) (near, far net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

// relayed is a Relay between two sides.
type relayed struct {
	t      *testing.T
	a, b   net.Conn // the far ends
	cancel context.CancelCauseFunc
	done   chan struct{}
	stats  hbone.RelayStats
	err    error
}

func startRelay(t *testing.T, a, b func(*testing.T) (net.Conn, net.Conn)) *relayed {
	nearA, farA := a(t)
	nearB, farB := b(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &relayed{t: t, a: farA, b: farB, cancel: cancel, done: make(chan struct{})}
	go func() {
		r.stats, r.err = hbone.Relay(ctx, nearA, nearB)
		close(r.done)
	}()
	t.Cleanup(func() {
		farA.Close()
		farB.Close()
		<-r.done
		cancel(nil)
	})
	return r
}

func (r *relayed) send(c net.Conn, msg string) {
	r.t.Helper()
	if _, err := io.WriteString(c, msg); err != nil {
		r.t.Errorf("write: %v", err)
	}
}

func (r *relayed) closeWrite(c net.Conn) {
	r.t.Helper()
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		r.t.Errorf("CloseWrite: %v", err)
	}
}

// wantRest expects c to read msg and then a clean end.
func (r *relayed) wantRest(c net.Conn, msg string) {
	r.t.Helper()
	if got, err := io.ReadAll(c); string(got) != msg || err != nil {
		r.t.Errorf("read %q, %v; want %q and a clean end", got, err, msg)
	}
}

// wantAbort expects c to end, and not cleanly.
func (r *relayed) wantAbort(c net.Conn) {
	r.t.Helper()
	if _, err := io.ReadAll(c); err == nil {
		r.t.Error("read a clean end, want an abort")
	}
}

func (r *relayed) wantResult(want string, stats hbone.RelayStats) {
	r.t.Helper()
	<-r.done
	switch {
	case want == "" && r.err != nil:
		r.t.Errorf("Relay = %v, want no error", r.err)
	case want != "" && (r.err == nil || !strings.Contains(r.err.Error(), want)):
		r.t.Errorf("Relay = %v, want an error with %q", r.err, want)
	}
	if r.stats != stats {
		r.t.Errorf("stats = %+v, want %+v", r.stats, stats)
	}
}

func abortConn(c net.Conn) {
	switch c := c.(type) {
	case *hbone.Conn:
		c.Abort(nil)
	case interface{ SetLinger(int) error }:
		_ = c.SetLinger(0)
	}
	c.Close()
}

// TestRelay ends a relay in every way, between every two kinds of connection.
func TestRelay(t *testing.T) {
	tests := []struct {
		name string
		run  func(r *relayed)
	}{
		{"clean ends keep the other direction", func(r *relayed) {
			r.send(r.a, "ping")
			r.closeWrite(r.a)
			r.wantRest(r.b, "ping")
			r.send(r.b, "pong!")
			r.closeWrite(r.b)
			r.wantRest(r.a, "pong!")
			r.wantResult("", hbone.RelayStats{AToB: 4, BToA: 5})
		}},
		{"the other side first", func(r *relayed) {
			r.closeWrite(r.b)
			r.wantRest(r.a, "")
			r.send(r.a, "late")
			r.closeWrite(r.a)
			r.wantRest(r.b, "late")
			r.wantResult("", hbone.RelayStats{AToB: 4})
		}},
		{"abort of one side", func(r *relayed) {
			abortConn(r.a)
			r.wantAbort(r.b)
			r.wantResult("reset", hbone.RelayStats{})
		}},
		{"abort after the other side's clean end", func(r *relayed) {
			r.closeWrite(r.a)
			r.wantRest(r.b, "")
			abortConn(r.b)
			r.wantAbort(r.a)
			r.wantResult("reset", hbone.RelayStats{})
		}},
		{"end of the context", func(r *relayed) {
			r.cancel(errors.New("enough"))
			r.wantAbort(r.a)
			r.wantAbort(r.b)
			r.wantResult("enough", hbone.RelayStats{})
		}},
	}
	kinds := sides(t)
	for nameA, a := range kinds {
		for nameB, b := range kinds {
			for _, tt := range tests {
				t.Run(nameA+" to "+nameB+"/"+tt.name, func(t *testing.T) { tt.run(startRelay(t, a, b)) })
			}
		}
	}
}

// A side that takes no more may still have something to say.
func TestRelayDeliversAnEarlyAnswer(t *testing.T) {
	kinds := sides(t)
	for nameA, a := range kinds {
		t.Run(nameA, func(t *testing.T) {
			r := startRelay(t, a, kinds["memory"])
			_ = r.b.(*memnet.Conn).CloseRead()
			r.send(r.a, "a long request")
			r.send(r.b, "no ")
			if _, err := io.ReadFull(r.a, make([]byte, 3)); err != nil {
				t.Fatal(err)
			}
			r.send(r.b, "thanks")
			r.closeWrite(r.b)
			r.wantRest(r.a, "thanks")
			<-r.done
			if r.err == nil {
				t.Error("Relay = nil, though bytes were lost")
			}
		})
	}
}

// A connection without half-close is closed whole.
func TestRelayWithoutHalfClose(t *testing.T) {
	whole := func(*testing.T) (net.Conn, net.Conn) { return net.Pipe() }
	kinds := sides(t)
	r := startRelay(t, kinds["tcp"], whole)
	r.send(r.a, "ping")
	buf := make([]byte, 4)
	if _, err := io.ReadFull(r.b, buf); err != nil {
		t.Fatal(err)
	}
	r.closeWrite(r.a)
	r.wantRest(r.b, "")
	r.wantRest(r.a, "")
	r.wantResult("", hbone.RelayStats{AToB: 4})
}

// An aborted TLS connection must not end in a close_notify.
func TestRelayAbortsTLS(t *testing.T) {
	ca := testca.New("cluster.local")
	secure := func(t *testing.T) (near, far net.Conn) {
		rawNear, rawFar := tcpPair(t)
		client := tls.Client(rawFar, ca.ClientConfig(ca.Issue(webID), podID))
		server := tls.Server(rawNear, ca.ServerConfig(ca.Issue(podID)))
		done := make(chan error)
		go func() { done <- server.Handshake() }()
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return server, client
	}
	r := startRelay(t, secure, tcpPair)
	abortConn(r.b)
	r.wantAbort(r.a)
	r.wantResult("reset", hbone.RelayStats{})
}

// TestRelayDeliversWhatAGoneClientSent: a client writes and closes; the application says a word before it reads, and
// gets everything all the same.
func TestRelayDeliversWhatAGoneClientSent(t *testing.T) {
	const size = 1 << 20
	near, far := tcpPair(t)
	near.(*net.TCPConn).SetWriteBuffer(4 << 20)
	far.(*net.TCPConn).SetReadBuffer(64 << 10)
	client, server, _, err := newPipe(t, fabrics()["loopback"], 1).open()
	if err != nil {
		t.Fatal(err)
	}
	relayed := make(chan struct{})
	go func() {
		_, _ = hbone.Relay(context.Background(), server, near)
		close(relayed)
	}()
	if _, err := client.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if _, err := far.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.Copy(io.Discard, far); got != size || err != nil {
		t.Errorf("the application got %d of %d bytes, %v", got, size, err)
	}
	far.Close()
	<-relayed
}

// TestRelayEndsWithoutItsClient: an application that never ends does not keep the relay of a client that is gone.
func TestRelayEndsWithoutItsClient(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		near, far := memnet.Pipe()
		defer far.Close()
		relayed := make(chan struct{})
		w.pod(podAddr, func(r *hbone.Request) {
			conn, err := r.Accept(nil)
			if err != nil {
				return
			}
			_, _ = hbone.Relay(context.Background(), conn, near)
			close(relayed)
		})
		conn := mustDial(t, w.transport(), w.oneHop())
		conn.Close()
		<-relayed
	})
}
