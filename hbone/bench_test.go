package hbone_test

import (
	"fmt"
	"testing"

	"github.com/eastwest-mesh/eastwest/internal/bench"
)

// Benchmarks of tunnels beside what limits them; see docs/benchmarks.md, and
// package bench for the method. Each iteration measures every way once:
//
//	go test -run '^$' -bench . -benchtime 5x ./hbone

// limits are the ways that each number of hops is compared with.
func limits(hops int) bench.Way {
	if hops == 1 {
		return bench.TLS()
	}
	return bench.TLSInTLS()
}

func eachHops(b *testing.B, run func(b *testing.B, hops int)) {
	for hops := 1; hops <= 2; hops++ {
		b.Run(fmt.Sprintf("hops=%d", hops), func(b *testing.B) { run(b, hops) })
	}
}

func eachStreams(b *testing.B, run func(b *testing.B, streams int)) {
	for _, streams := range []int{1, 64} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) { run(b, streams) })
	}
}

// BenchmarkBulk transfers to and from an application in the server itself.
func BenchmarkBulk(b *testing.B) { bulk(b, false, func(w bench.Way) bench.Way { return w }) }

// BenchmarkBulkRelayed transfers to and from an application on TCP, behind a relay.
func BenchmarkBulkRelayed(b *testing.B) { bulk(b, false, bench.Relayed) }

// BenchmarkBulkVerified is BenchmarkBulk with checksums.
func BenchmarkBulkVerified(b *testing.B) { bulk(b, true, func(w bench.Way) bench.Way { return w }) }

func bulk(b *testing.B, verify bool, at func(bench.Way) bench.Way) {
	eachHops(b, func(b *testing.B, hops int) {
		eachStreams(b, func(b *testing.B, streams int) {
			for _, d := range []bench.Direction{bench.Up, bench.Down} {
				b.Run(string(d), func(b *testing.B) {
					bench.Bulk{Direction: d, Streams: streams, Verify: verify}.Run(b, at(bench.HBONE(hops)), at(limits(hops)))
				})
			}
		})
	})
}

// BenchmarkPingPong sends 1 KiB there and back.
func BenchmarkPingPong(b *testing.B) {
	eachHops(b, func(b *testing.B, hops int) {
		eachStreams(b, func(b *testing.B, streams int) {
			bench.PingPong{Streams: streams}.Run(b, bench.HBONE(hops), limits(hops))
		})
	})
}

// BenchmarkPingPongBesideBulk sends 1 KiB there and back while four more streams receive bulk data, ours in the same tunnel.
func BenchmarkPingPongBesideBulk(b *testing.B) {
	eachHops(b, func(b *testing.B, hops int) {
		bench.PingPong{Streams: 1, Rounds: 500, Beside: 4}.Run(b, bench.HBONE(hops), limits(hops))
	})
}

// BenchmarkNewStream opens streams that are answered in the server itself, beside new TCP connections.
func BenchmarkNewStream(b *testing.B) {
	eachHops(b, func(b *testing.B, hops int) {
		eachStreams(b, func(b *testing.B, streams int) {
			bench.Connect{AtOnce: streams}.Run(b, bench.HBONE(hops), bench.TCP())
		})
	})
}

// BenchmarkNewConnection opens streams to an application on TCP, beside new TCP connections to it.
func BenchmarkNewConnection(b *testing.B) {
	eachHops(b, func(b *testing.B, hops int) {
		eachStreams(b, func(b *testing.B, streams int) {
			bench.Connect{AtOnce: streams}.Run(b, bench.Relayed(bench.HBONE(hops)), bench.TCP())
		})
	})
}
