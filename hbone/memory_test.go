package hbone_test

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// Tests of HTTP2.MemoryLimit: streams that nobody reads, two in each of eight tunnels, with far more on its way to them
// than they may hold together.
const (
	stalledStreams   = 16
	stalledPerTunnel = 2
	stalledTunnels   = stalledStreams / stalledPerTunnel

	memoryLimit = 2 << 20
	muchMore    = 4 << 20 // bytes for each stream
)

// A bounded is one end of a stream, and what its Transport or Server holds of its memory.
type bounded struct {
	testing.TB
	*hbone.Conn
	used func() int64
}

func (b bounded) Read(p []byte) (int, error) {
	b.check()
	return b.Conn.Read(p)
}

func (b bounded) check() {
	b.Helper()
	if used := b.used(); used > memoryLimit {
		b.Errorf("%d bytes of memory are used, want at most %d", used, memoryLimit)
	}
}

// readAll reads all that is to come, and checks the memory time and again.
func (b bounded) readAll() {
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{b}); n != muchMore || err != nil {
		b.Errorf("read %d of %d bytes, %v", n, muchMore, err)
	}
	b.Close()
}

// wantStalled checks that streams which nobody reads have used up the memory that they share, and no more than that:
// 64 KiB on a tunnel are free.
func wantStalled(t *testing.T, conns []bounded) {
	t.Helper()
	var unread int64
	for _, c := range conns {
		c.check()
		unread += hbone.BytesReceived(c.Conn)
	}
	if most := int64(memoryLimit + stalledTunnels*64<<10); len(conns) != stalledStreams || unread < memoryLimit/2 || unread > most {
		t.Errorf("%d streams hold %d bytes, want more than half of %d and at most %d", len(conns), unread, memoryLimit, most)
	}
}

// readAllAtOnce lets streams go on that stalled.
func readAllAtOnce(conns []bounded) {
	var reading sync.WaitGroup
	for _, c := range conns {
		reading.Go(c.readAll)
	}
	reading.Wait()
}

func sendMuch(conn *hbone.Conn) {
	_, _ = conn.Write(make([]byte, muchMore)) // who reads finds out
	_ = conn.CloseWrite()
}

// testMemoryIsShared opens streams until they stall, has one more go on, and then all. Nothing is left in the end.
func testMemoryIsShared(t *testing.T, tr *hbone.Transport, dial func() bounded) {
	var stalled []bounded
	for range stalledStreams {
		stalled = append(stalled, dial())
	}
	time.Sleep(time.Second)
	if got := tr.Stats().Tunnels; got != stalledTunnels {
		t.Fatalf("%d tunnels, want %d", got, stalledTunnels)
	}
	wantStalled(t, stalled)
	dial().readAll()
	wantStalled(t, stalled)
	readAllAtOnce(stalled)
	time.Sleep(time.Second)
	tr.CloseIdle()
	time.Sleep(time.Second)
	if got := stalled[0].used(); got != 0 {
		t.Errorf("%d bytes of memory are used by no tunnel", got)
	}
}

// TestTransportMemoryIsShared: the tunnels of a Transport bound each other, and none starves.
func TestTransportMemoryIsShared(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, func(r *hbone.Request) {
			if conn, err := r.Accept(nil); err == nil {
				sendMuch(conn)
				conn.Close()
			}
		})
		tr := w.transport()
		tr.MaxStreamsPerTunnel, tr.HTTP2.MemoryLimit = stalledPerTunnel, memoryLimit
		testMemoryIsShared(t, tr, func() bounded { return bounded{t, mustDial(t, tr, w.oneHop()), tr.MemoryUsed} })
	})
}

// TestServerMemoryIsShared: the same for the tunnels of a Server.
func TestServerMemoryIsShared(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		accepted := make(chan *hbone.Conn, stalledStreams)
		server := w.serve(podAddr, &hbone.Server{
			TLS:   w.ca.Server(w.ca.Issue(podID), webID),
			HTTP2: hbone.HTTP2{MemoryLimit: memoryLimit},
			Handler: func(r *hbone.Request) {
				if conn, err := r.Accept(nil); err == nil {
					accepted <- conn
				}
			},
		})
		tr := w.transport()
		tr.MaxStreamsPerTunnel = stalledPerTunnel
		testMemoryIsShared(t, tr, func() bounded {
			conn := mustDial(t, tr, w.oneHop())
			go func() {
				sendMuch(conn)
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			}()
			return bounded{t, <-accepted, server.MemoryUsed}
		})
	})
}
