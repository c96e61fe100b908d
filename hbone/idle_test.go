package hbone_test

import (
	"context"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/internal/bench"
	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// TestManyIdleStreams opens 10,000 streams over 100 tunnels, lets them be for an hour, and closes them. Nothing
// may be left.
func TestManyIdleStreams(t *testing.T) {
	const streams, tunnels = 10_000, 100
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var accepted sync.Map
		server := w.pod(podAddr, func(r *hbone.Request) {
			if conn, err := r.Accept(nil); err == nil {
				accepted.Store(conn, true)
			}
		})
		tr := w.transport()
		path := w.oneHop()
		conns := make([]*hbone.Conn, 0, streams)
		for range streams {
			conns = append(conns, mustDial(t, tr, path))
		}
		time.Sleep(time.Hour)
		if got := tr.Stats(); got.Streams != streams || got.Tunnels != tunnels {
			t.Errorf("%d streams in %d tunnels, want %d in %d", got.Streams, got.Tunnels, streams, tunnels)
		}
		for _, conn := range conns {
			conn.Close()
		}
		accepted.Range(func(conn, _ any) bool {
			conn.(*hbone.Conn).Close()
			return true
		})
		synctest.Wait()
		if got := tr.Stats(); got.Streams != 0 {
			t.Errorf("%d streams after all were closed", got.Streams)
		}
		for range server.Streams() {
			t.Fatal("the server has streams after all were closed")
		}
		tr.CloseIdle()
		if got := tr.Stats(); got.Tunnels != 0 || tr.Groups() != 0 {
			t.Errorf("%d tunnels of %d kinds after CloseIdle", got.Tunnels, tr.Groups())
		}
		synctest.Wait() // for the server to notice
		if mine, theirs := tr.MemoryUsed(), server.MemoryUsed(); mine != 0 || theirs != 0 {
			t.Errorf("%d bytes of the transport's memory and %d of the server's are used by no tunnel", mine, theirs)
		}
	})
}

// BenchmarkIdleStream tells what a stream costs that nobody uses: heap of both of its ends, goroutines, and stacks.
// Relayed, it has an application on TCP behind, and what the relay needs is counted as well.
func BenchmarkIdleStream(b *testing.B) {
	b.Run("direct", func(b *testing.B) { idleStreams(b, 10_000, func(*hbone.Conn) {}) })
	b.Run("relayed", func(b *testing.B) {
		addr := bench.Listen(b, func(conn net.Conn) {
			defer conn.Close()
			_, _ = conn.Read(make([]byte, 1))
		})
		idleStreams(b, 2_000, func(conn *hbone.Conn) {
			behind, err := bench.DialTCP(addr)
			if err != nil {
				b.Error(err)
				return
			}
			go func() { _, _ = hbone.Relay(context.Background(), conn, behind) }()
		})
	})
}

func idleStreams(b *testing.B, n int, use func(*hbone.Conn)) {
	ca := testca.New("cluster.local")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	accepted := make(chan *hbone.Conn, 1)
	server := &hbone.Server{TLS: ca.Server(ca.Issue("/server"), "/client"), Handler: func(r *hbone.Request) {
		conn, err := r.Accept(nil)
		if err != nil {
			b.Error(err)
			return
		}
		accepted <- conn
	}}
	go server.Serve(context.Background(), l)
	b.Cleanup(func() { server.Close() })
	transport := new(hbone.Transport)
	b.Cleanup(func() { transport.Close() })
	path := hbone.Path{Hops: []hbone.Hop{{
		Address: l.Addr().String(), Authority: "10.1.0.10:8080", TLS: ca.Client(ca.Issue("/client"), "/server"),
	}}}
	open := func(n int) (ends []*hbone.Conn) {
		ends = make([]*hbone.Conn, 0, 2*n)
		for range n {
			ends = append(ends, mustDial(b, transport, path), <-accepted)
			use(ends[len(ends)-1])
		}
		return ends
	}
	for b.Loop() {
		tunnels := open(n) // they stay, with their memory, when these streams are closed
		for _, conn := range tunnels {
			conn.Close()
		}
		heap, stacks, goroutines := inUse()
		ends := open(n)
		moreHeap, moreStacks, moreGoroutines := inUse()
		b.ReportMetric(float64(moreHeap-heap)/float64(n), "heap-B/stream")
		b.ReportMetric(float64(moreStacks-stacks)/float64(n), "stack-B/stream")
		b.ReportMetric(float64(moreGoroutines-goroutines)/float64(n), "goroutines/stream")
		for _, conn := range ends {
			conn.Close()
		}
	}
}

// inUse waits until what was closed is gone.
func inUse() (heap, stacks, goroutines int) {
	for last := -1; goroutines != last; {
		last = goroutines
		time.Sleep(100 * time.Millisecond)
		runtime.GC()
		goroutines = runtime.NumGoroutine()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc), int(m.StackInuse), goroutines
}
