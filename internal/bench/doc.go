// Package bench measures ways to carry connections, side by side: raw TCP, TLS,
// TLS inside of TLS, HBONE over one hop and two, and whatever else a benchmark
// adds. It stands behind the benchmarks of package hbone and of internal/interop.
//
//	bench.Bulk{Direction: bench.Up, Streams: 64}.Run(b, bench.HBONE(1), bench.TLS())
//	                                   the way measured ^^^^^^^^        ^^^ what it is compared with
//
// All ends of all ways live in one process, on loopback. Each iteration of a
// benchmark measures every way once, in turn, so that what the machine does
// meanwhile hits all alike; reported are medians over the iterations, and the
// ratios of the first way's to the others'. Run at least five:
//
//	go test -run '^$' -bench . -benchtime 5x ./hbone
//
// CPU is that of the whole process, kernel included, by getrusage: where it is
// not to be had, it is reported as 0.
//
// It says nothing about networks: loopback has no latency, no loss and no limit
// but the CPU, which is the point. It sets a congestion control without pacing on its
// sockets where it can, and on those that a way's libraries have made when its connections
// stand, as pacing makes such numbers meaningless.
package bench
