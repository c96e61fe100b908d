// Package interop holds eastwest's tunnels to peers that others have written, and
// measures them beside each other. It is a module of its own, because what it
// needs is huge.
//
//	client         hop 1              hop 2           behind
//	Transport ---- Server ---------------------------- App
//	Transport ---- pkg/hbone ------------------------- App
//	pkg/hbone ---- Gateway ---------- Server --------- App
//	Transport ---- Gateway ---------- pkg/hbone ------ App
//	x/net/http2 -- Server ---------------------------- App      … and so on
//
// A [World] is one CA, one TCP application, and any of these in one process, on
// loopback. TestRoutes holds every pair to one list of behaviours; what a peer is
// known to do wrong is listed beside it, and must go wrong. TestH2Spec runs the
// cases of h2spec against the engine. See docs/interop.md for what is found.
//
//	go -C internal/interop test ./...
//
// # Measuring
//
// A [Measure] is taken of all its [Peer]s. Benchmarks take them one after the
// other, for benchstat:
//
//	go -C internal/interop test -run '^$' -bench . -count 5
//	go -C internal/interop test -run '^$' -bench Bulk/hops=2/streams=64
//
// Compare takes them by turns in one run, so that what else the machine does
// hits all alike, and prints medians and ratios to pkg/hbone:
//
//	go -C internal/interop run ./compare
//	go -C internal/interop run ./compare -reps 9 -time 2s -match Bulk
//	go -C internal/interop run ./compare -verify
//
// Ours have default settings. CPU time is the whole process's: both ends, all
// hops and the kernel. All sockets have congestion control cubic, or reno where
// that is not allowed: pacing, as BBR's, distorts loopback. pkg/hbone's log is
// off. Its double server joins its two hops in memory, while our gateway has a
// real connection to a server: the peer eastwest-nested is ours in its shape.
package interop
