package hbone_test

import (
	"testing"

	"github.com/eastwest-mesh/eastwest/internal/bench"
)

// Benchmarks of tunnels beside what limits them; see docs/benchmarks.md, and
// package bench for the method. Each iteration measures every way once:
//
//	go test -run '^$' -bench . -benchtime 5x ./hbone

// BenchmarkBulk transfers to and from an application in the server itself.
func BenchmarkBulk(b *testing.B) { bulk(b, false, direct) }

// BenchmarkBulkRelayed transfers to and from an application on TCP, behind a relay.
func BenchmarkBulkRelayed(b *testing.B) { bulk(b, false, bench.Relayed) }

// BenchmarkBulkVerified is BenchmarkBulk with checksums.
func BenchmarkBulkVerified(b *testing.B) { bulk(b, true, direct) }

// direct leaves the application in the server itself.
func direct(w bench.Way) bench.Way { return w }

func bulk(b *testing.B, verify bool, at func(bench.Way) bench.Way) {
	bench.EachHops(b, func(b *testing.B, hops int) {
		bench.EachStreams(b, func(b *testing.B, streams int) {
			for _, d := range []bench.Direction{bench.Up, bench.Down} {
				b.Run(string(d), func(b *testing.B) {
					bench.Bulk{Direction: d, Streams: streams, Verify: verify}.Run(b, at(bench.HBONE(hops)), at(bench.Limit(hops)))
				})
			}
		})
	})
}

// BenchmarkPingPong sends 1 KiB there and back.
func BenchmarkPingPong(b *testing.B) {
	bench.EachHops(b, func(b *testing.B, hops int) {
		bench.EachStreams(b, func(b *testing.B, streams int) {
			bench.PingPong{Streams: streams}.Run(b, bench.HBONE(hops), bench.Limit(hops))
		})
	})
}

// BenchmarkPingPongBesideBulk sends 1 KiB there and back while four more streams receive bulk data, ours in the same tunnel.
func BenchmarkPingPongBesideBulk(b *testing.B) {
	bench.EachHops(b, func(b *testing.B, hops int) {
		bench.PingPong{Streams: 1, Rounds: 500, Beside: 4}.Run(b, bench.HBONE(hops), bench.Limit(hops))
	})
}

// BenchmarkNewStream opens streams that are answered in the server itself, beside new TCP connections.
func BenchmarkNewStream(b *testing.B) { connect(b, few, direct) }

// BenchmarkNewStreamSustained opens more of them than a client has ports.
func BenchmarkNewStreamSustained(b *testing.B) { connect(b, many, direct) }

// BenchmarkNewConnection opens streams to an application on TCP, beside new TCP connections to it.
func BenchmarkNewConnection(b *testing.B) { connect(b, few, bench.Relayed) }

// BenchmarkNewConnectionSustained opens more of them than a client has ports.
func BenchmarkNewConnectionSustained(b *testing.B) { connect(b, many, bench.Relayed) }

// How many connections an iteration makes. With few, all iterations find ports that were never used. With many, TCP finds most of
// them in TIME_WAIT from the second iteration on, as it does under lasting load.
const (
	few  = 4_000
	many = 20_000
)

func connect(b *testing.B, count int, at func(bench.Way) bench.Way) {
	bench.EachHops(b, func(b *testing.B, hops int) {
		bench.EachStreams(b, func(b *testing.B, streams int) {
			bench.Connect{AtOnce: streams, Count: count}.Run(b, at(bench.HBONE(hops)), bench.TCP())
		})
	})
}
