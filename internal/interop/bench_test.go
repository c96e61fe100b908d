package interop

import (
	"context"
	"net"
	"testing"

	"github.com/eastwest-mesh/eastwest/internal/bench"
)

// Benchmarks beside pkg/hbone, with a TCP application behind all, as its servers
// always have one; see docs/benchmarks.md, and package bench for the method:
//
//	go test -run '^$' -bench . -benchtime 5x

// istioWay is pkg/hbone over one hop, or two: then its double server joins the
// hops in memory, while our gateway has a real connection to our server.
func istioWay(hops int) bench.Way {
	return bench.Way{Name: "pkg-hbone", Start: func(tb testing.TB, app bench.App) bench.Dial {
		w := newWorld(tb)
		serve := w.IstioServer
		if hops == 2 {
			serve = w.IstioDoubleServer
		}
		dial := w.IstioClient(must(serve())(tb), hops)
		authority := byName(bench.Listen(tb, app))
		return func() (net.Conn, error) { return dial(context.Background(), authority) }
	}}
}

// beside are our way, pkg/hbone's, and the one that limits them.
func beside(hops int) []bench.Way {
	return []bench.Way{bench.Relayed(bench.HBONE(hops)), istioWay(hops), bench.Relayed(bench.Limit(hops))}
}

// BenchmarkBulk transfers to and from the application.
func BenchmarkBulk(b *testing.B) {
	bench.EachHops(b, func(b *testing.B, hops int) {
		bench.EachStreams(b, func(b *testing.B, streams int) {
			for _, d := range []bench.Direction{bench.Up, bench.Down} {
				b.Run(string(d), func(b *testing.B) {
					bench.Bulk{Direction: d, Streams: streams}.Run(b, beside(hops)...)
				})
			}
		})
	})
}

// BenchmarkPingPong sends 1 KiB there and back.
func BenchmarkPingPong(b *testing.B) {
	bench.EachHops(b, func(b *testing.B, hops int) {
		bench.EachStreams(b, func(b *testing.B, streams int) {
			bench.PingPong{Streams: streams}.Run(b, beside(hops)...)
		})
	})
}

// BenchmarkNewConnection makes connections over warm tunnels, beside new TCP
// connections to the application itself. pkg/hbone makes an inner tunnel for
// each, and never closes its own to the application: so there are few of them.
func BenchmarkNewConnection(b *testing.B) {
	bench.EachHops(b, func(b *testing.B, hops int) {
		bench.EachStreams(b, func(b *testing.B, streams int) {
			bench.Connect{AtOnce: streams, Count: 1024}.Run(b, bench.Relayed(bench.HBONE(hops)), istioWay(hops), bench.TCP())
		})
	})
}
