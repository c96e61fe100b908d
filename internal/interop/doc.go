// Package interop holds eastwest's tunnels to peers that others have written, holds
// one of those to our specification, and measures them beside each other. It is a
// module of its own, because what it needs is huge.
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
// cases of h2spec against the engine; TestIstioClientConformance and
// TestIstioServerConformance run pkg/hbone through hbone/hbonetest. See
// docs/interop.md for what is found.
//
//	go -C internal/interop test ./...
//
// # Measuring
//
// Benchmarks measure our tunnels beside pkg/hbone's and what limits both, by turns
// in one run, with the ways of internal/bench:
//
//	go -C internal/interop test -run '^$' -bench . -benchtime 5x
//
// Ours have default settings. pkg/hbone's log is off. Its double server joins its
// two hops in memory, while our gateway has a real connection to a server.
package interop
