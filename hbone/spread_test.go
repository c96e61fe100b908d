package hbone_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// backends serves n pods and returns their addresses. Each answers with its
// own address before it echoes.
func (w *world) backends(n int) []string {
	w.Helper()
	var list []string
	for i := range n {
		address := fmt.Sprintf("pod-%d:15008", i+1)
		list = append(list, address)
		w.pod(address, named(address, nil))
	}
	return list
}

// named answers with the address of a backend before it echoes.
func named(address string, answer http.Header) func(*hbone.Request) {
	return func(r *hbone.Request) {
		if conn, err := r.Accept(answer); err == nil {
			defer conn.Close()
			fmt.Fprintln(conn, address)
			_, _ = io.Copy(conn, conn)
		}
	}
}

// visit dials once and returns the address of the backend that answered.
func visit(t *testing.T, tr *hbone.Transport, p hbone.Path) string {
	t.Helper()
	conn := mustDial(t, tr, p)
	defer conn.Close()
	var address string
	if _, err := fmt.Fscanln(conn, &address); err != nil {
		t.Fatalf("read: %v", err)
	}
	return address
}

// spread returns a transport with a tunnel to each of n backends.
func (w *world) spread(n int) (*hbone.Transport, hbone.Path) {
	w.Helper()
	w.gateway(map[string][]string{reviews: w.backends(n)})
	tr, path := w.transport(), w.twoHops(reviews)
	path.Spread = n
	for range n {
		mustDial(w, tr, path).Close()
		synctest.Wait()
	}
	if got := tr.Stats().Hops[1].Tunnels; got != n {
		w.Fatalf("%d inner tunnels, want %d", got, n)
	}
	return tr, path
}

// randomly makes the gateway pick at random, as Envoy does.
func (g *gateway) randomly(seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pick = func(list []string) int { return rnd.IntN(len(list)) }
}

func TestSpreadOverBackends(t *testing.T) {
	for _, reveal := range []bool{true, false} {
		t.Run(fmt.Sprintf("backend named %v", reveal), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				g := w.gateway(map[string][]string{reviews: w.backends(5)})
				g.reveal = reveal
				tr := w.transport()
				path := w.twoHops(reviews)
				path.Spread = 5
				count := map[string]int{}
				for range 1000 {
					count[visit(t, tr, path)]++
					synctest.Wait()
				}
				for address, n := range count {
					if n < 150 || n > 250 {
						t.Errorf("%s got %d of 1000 streams, want 150 to 250", address, n)
					}
				}
				s := tr.Stats()
				if len(count) != 5 || s.Hops[0].Tunnels != 1 || s.Hops[1].Tunnels != 5 {
					t.Errorf("%d backends reached, stats %+v; want 5 by as many inner tunnels", len(count), s)
				}
				if reveal && s.Hops[1].Handshakes != 5 {
					t.Errorf("%d inner handshakes, want 5", s.Hops[1].Handshakes)
				}
			})
		})
	}
}

// A gateway that picks at random often picks a backend that has a tunnel.
func TestSpreadRollsAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		g := w.gateway(map[string][]string{reviews: w.backends(5)})
		g.randomly(1)
		tr := w.transport()
		path := w.twoHops(reviews)
		path.Spread = 5
		count := map[string]int{}
		for range 1000 {
			count[visit(t, tr, path)]++
			time.Sleep(100 * time.Millisecond)
		}
		for address, n := range count {
			if n < 150 || n > 250 {
				t.Errorf("%s got %d of 1000 streams, want 150 to 250", address, n)
			}
		}
		s := tr.Stats()
		if len(count) != 5 || s.Hops[1].Handshakes != 5 {
			t.Errorf("%d backends reached with %d inner handshakes, want 5 with 5", len(count), s.Hops[1].Handshakes)
		}
	})
}

// With fewer backends than Spread the search for more becomes rare.
func TestSpreadStopsLookingForMore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		g := w.gateway(map[string][]string{reviews: w.backends(2)})
		tr := w.transport()
		path := w.twoHops(reviews)
		path.Spread = 5
		for range 600 { // ten minutes
			visit(t, tr, path)
			time.Sleep(time.Second)
		}
		if got := tr.Stats().Hops[1].Handshakes; got != 2 {
			t.Errorf("%d inner handshakes for 2 backends, want 2", got)
		}
		if limit := 20 * 9; g.streams > limit {
			t.Errorf("%d outer streams in ten minutes, want at most %d", g.streams, limit)
		}
	})
}

func TestNewBackendGetsItsShare(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.backends(3)
		g := w.gateway(map[string][]string{reviews: all[:2:2]})
		tr := w.transport()
		tr.MaxTunnelAge = 5 * time.Minute
		path := w.twoHops(reviews)
		path.Spread = 2
		run := func(d time.Duration) map[string]int {
			count := map[string]int{}
			for range int(d / time.Second) {
				count[visit(t, tr, path)]++
				time.Sleep(time.Second)
			}
			return count
		}
		run(time.Minute)
		g.set(reviews, all[2], all[1]) // the first one has gone
		run(7 * time.Minute)
		if count := run(time.Minute); count[all[2]] < 20 || count[all[0]] > 0 {
			t.Errorf("streams after one age: %v, want the new backend to have its share and the old one none", count)
		}
	})
}

func TestDeadBackendGetsNoStreams(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		tr, path := w.spread(3)
		w.net.Cut("gateway", "pod-1")
		synctest.Wait()
		for range 100 {
			if address := visit(t, tr, path); address == "pod-1:15008" {
				t.Fatal("a stream went to the dead backend")
			}
			synctest.Wait()
		}
	})
}

// Two tunnels to the same backend, because one had no room, share its share.
func TestLoadIsBalancedOverBackendsNotTunnels(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for _, address := range []string{"pod-1:15008", "pod-2:15008"} {
			w.pod(address, named(address, http.Header{hbone.HeaderBackend: {address}}))
		}
		g := w.gateway(map[string][]string{reviews: {"pod-1:15008", "pod-2:15008"}})
		g.reveal = false
		g.pick = func([]string) int { return min(g.streams/3, 1) } // the first twice, then the second
		tr := w.transport()
		tr.MaxStreamsPerTunnel = 1
		path := w.twoHops(reviews)
		first, second := mustDial(t, tr, path), mustDial(t, tr, path)
		first.Close()
		second.Close()
		path.Spread = 2
		mustDial(t, tr, path).Close()
		synctest.Wait()
		count := map[string]int{}
		for range 200 {
			conn := mustDial(t, tr, path)
			count[conn.Hops()[1].Backend.ID]++
			conn.Close()
			synctest.Wait()
		}
		if got := tr.Stats().Hops[1].Tunnels; got != 3 {
			t.Fatalf("%d inner tunnels, want two to the first backend and one to the second", got)
		}
		if n := count["pod-2:15008"]; n < 90 || n > 110 {
			t.Errorf("streams by backend: %v, want them to be equal", count)
		}
	})
}

func TestBackendSources(t *testing.T) {
	tests := []struct {
		name   string
		outer  bool        // the gateway names the backend
		answer http.Header // of the backend
		want   hbone.BackendSource
	}{
		{"gateway's header", true, http.Header{hbone.HeaderBackend: {"other"}}, hbone.BackendHeader},
		{"backend's header", false, http.Header{hbone.HeaderBackend: {podAddr}}, hbone.BackendHeader},
		{"baggage", false, http.Header{"Baggage": {"k8s.cluster.name=west"}}, hbone.BackendBaggage},
		{"certificate", false, nil, hbone.BackendCertificate},
	}
	ids := map[hbone.BackendSource]string{
		hbone.BackendHeader:      podAddr,
		hbone.BackendBaggage:     "k8s.cluster.name=west",
		hbone.BackendCertificate: "",
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				g := w.gateway(map[string][]string{reviews: {podAddr}})
				g.reveal = tt.outer
				w.pod(podAddr, func(r *hbone.Request) {
					if conn, err := r.Accept(tt.answer); err == nil {
						conn.Close()
					}
				})
				hops := mustDial(t, w.transport(), w.twoHops(reviews)).Hops()
				got, id := hops[1].Backend, ids[tt.want]
				if got.Source != tt.want || id != "" && got.ID != id || got.ID == "" {
					t.Errorf("backend = %+v, want %q by %s", got, id, tt.want)
				}
				if hops[0].Backend != (hbone.Backend{}) {
					t.Errorf("the gateway's backend = %+v, want none", hops[0].Backend)
				}
			})
		})
	}
}
