package hbone_test

import (
	"testing"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// TestRoundTrips counts how often a dial crosses the network. Latency is the
// only thing that takes time here, so the time a dial takes is exact.
func TestRoundTrips(t *testing.T) {
	const link = 50 * time.Millisecond // one way
	const roundTrip = 2 * link
	bubble(t, func(t *testing.T, w *world) {
		w.net.SetLatency("client", "gateway", link)
		w.net.SetLatency("gateway", "client", link)
		w.net.SetLatency("client", "pod-2", link)
		w.net.SetLatency("pod-2", "client", link)
		w.pod(podAddr, echo)
		w.pod("pod-2:15008", echo)
		w.gateway(map[string][]string{reviews: {podAddr}, ratings: {podAddr}})
		tr := w.transport()
		direct := w.oneHop()
		direct.Hops[0].Address = "pod-2:15008"
		tests := []struct {
			name string
			path hbone.Path
			want int
		}{
			{"one hop, cold: TCP, TLS, CONNECT", direct, 3},
			{"one hop, warm: CONNECT", direct, 1},
			{"two hops, cold: TCP, TLS, outer CONNECT, inner TLS, inner CONNECT", w.twoHops(reviews), 5},
			{"two hops, warm: inner CONNECT", w.twoHops(reviews), 1},
			{"two hops, only the gateway warm: outer CONNECT, inner TLS, inner CONNECT", w.twoHops(ratings), 3},
			{"two hops, still warm", w.twoHops(ratings), 1},
		}
		for _, tt := range tests {
			began := time.Now()
			conn := mustDial(t, tr, tt.path)
			if took := time.Since(began); took != time.Duration(tt.want)*roundTrip {
				t.Errorf("%s: took %v, want %d round trips of %v", tt.name, took, tt.want, roundTrip)
			}
			conn.Close()
		}
		if got := tr.Stats().Handshakes(); got != 4 {
			t.Errorf("%d handshakes for 6 dials, want 4", got)
		}
	})
}

// The gateway's own way to the backend is part of the path, and its TCP
// handshake with the backend part of the outer CONNECT.
func TestRoundTripsBehindTheGateway(t *testing.T) {
	const link = 50 * time.Millisecond
	bubble(t, func(t *testing.T, w *world) {
		for _, pair := range [][2]string{{"client", "gateway"}, {"gateway", "client"}, {"gateway", "pod-1"}, {"pod-1", "gateway"}} {
			w.net.SetLatency(pair[0], pair[1], link)
		}
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}})
		tr := w.transport()
		const near, far = 2 * link, 4 * link
		for _, want := range []time.Duration{2*near + 3*far, far, far} {
			began := time.Now()
			mustDial(t, tr, w.twoHops(reviews)).Close()
			if took := time.Since(began); took != want {
				t.Errorf("took %v, want %v", took, want)
			}
		}
	})
}
