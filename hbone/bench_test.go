package hbone_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// benchPath serves echo streams on loopback, behind hops-1 servers that nest.
func benchPath(b *testing.B, hops int) (*hbone.Transport, hbone.Path) {
	ca := testca.New("cluster.local")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	path := hbone.Path{Spread: 1}
	var inner *hbone.Server
	for range hops {
		s := &hbone.Server{TLS: ca.Server(ca.Issue("/server"), "/client"), Handler: echo}
		if inner != nil {
			s.Handler = nest(inner)
		}
		inner = s
		b.Cleanup(func() { s.Close() })
		path.Hops = append(path.Hops, hbone.Hop{
			Authority: "10.1.0.10:8080",
			TLS:       ca.Client(ca.Issue("/client"), "/server"),
		})
	}
	path.Hops[0].Address = l.Addr().String()
	go inner.Serve(context.Background(), l)
	tr := new(hbone.Transport)
	b.Cleanup(func() { tr.Close() })
	mustDial(b, tr, path).Close()
	return tr, path
}

func eachDepth(b *testing.B, bench func(b *testing.B, tr *hbone.Transport, p hbone.Path)) {
	for hops := 1; hops <= 2; hops++ {
		b.Run(fmt.Sprintf("hops=%d", hops), func(b *testing.B) {
			tr, path := benchPath(b, hops)
			b.ReportAllocs()
			b.ResetTimer()
			bench(b, tr, path)
		})
	}
}

// BenchmarkDial opens and closes a stream over warm tunnels.
func BenchmarkDial(b *testing.B) {
	eachDepth(b, func(b *testing.B, tr *hbone.Transport, p hbone.Path) {
		for b.Loop() {
			mustDial(b, tr, p).Close()
		}
	})
}

// BenchmarkPingPong sends 1 KiB and waits for its echo.
func BenchmarkPingPong(b *testing.B) {
	eachDepth(b, func(b *testing.B, tr *hbone.Transport, p hbone.Path) {
		conn := mustDial(b, tr, p)
		defer conn.Close()
		buf := make([]byte, 1<<10)
		for b.Loop() {
			if _, err := conn.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(conn, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBulk sends 64 KiB at a time while it reads their echo.
func BenchmarkBulk(b *testing.B) {
	eachDepth(b, func(b *testing.B, tr *hbone.Transport, p hbone.Path) {
		conn := mustDial(b, tr, p)
		defer conn.Close()
		done := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, conn)
			done <- err
		}()
		buf := make([]byte, 64<<10)
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if _, err := conn.Write(buf); err != nil {
				b.Fatal(err)
			}
		}
		_ = conn.CloseWrite()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	})
}
