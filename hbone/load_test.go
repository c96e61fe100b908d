package hbone_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// TestLeastLoadedTunnelIsNext: of several tunnels to the same peer, a stream goes to one that has the least, whatever
// they were left with. Behind the gateway the backend is known, and the tunnels are told to be of one.
func TestLeastLoadedTunnelIsNext(t *testing.T) {
	const perTunnel, tunnels = 5, 4
	for last := range 2 {
		t.Run(fmt.Sprintf("hops=%d", last+1), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.pod(podAddr, hold)
				tr := w.transport()
				tr.MaxStreamsPerTunnel = perTunnel
				path := w.paths()[last]
				open := map[uint64][]*hbone.Conn{} // by tunnel
				dial := func() uint64 {
					conn := mustDial(t, tr, path)
					id := conn.Hops()[last].Tunnel
					open[id] = append(open[id], conn)
					return id
				}
				for range perTunnel * tunnels {
					dial()
				}
				if len(open) != tunnels {
					t.Fatalf("%d tunnels, want %d", len(open), tunnels)
				}
				end := 0
				for id, conns := range open { // one keeps all but one, another all but two
					end++
					for _, conn := range conns[:end] {
						conn.Close()
					}
					open[id] = conns[end:]
				}
				synctest.Wait()
				for range 1 + 2 + 3 + 4 {
					least := perTunnel
					for _, conns := range open {
						least = min(least, len(conns))
					}
					if got := len(open[dial()]) - 1; got != least {
						t.Errorf("a stream went to a tunnel with %d, want one with %d: the least", got, least)
					}
				}
			})
		})
	}
}
