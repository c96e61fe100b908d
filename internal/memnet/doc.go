// Package memnet is a small network in memory for tests: stream connections
// with deadlines, half-close and latency, listeners, and links that can be cut
// or made to swallow everything.
//
//	n := new(memnet.Network)
//	n.SetLatency("east", "west", 25*time.Millisecond)
//	l, err := n.Listen("west:15008")
//	c, err := n.Host("east").Dial(ctx, "tcp", "west:15008")
//
// It blocks only on mutexes, conditions and timers, so it works inside
// testing/synctest bubbles, where latency is virtual time.
//
// What it does not do: there are no packets, no loss, no limited rate and no
// resolution of names; a host is just the part of an address before the port.
package memnet
