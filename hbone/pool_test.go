package hbone_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// bubble runs a test in virtual time.
func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

// herd dials n times at once and returns what came of it, in any order.
func herd(tr *hbone.Transport, p hbone.Path, n int) (conns []*hbone.Conn, errs []error) {
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for range n {
		wg.Go(func() {
			conn, err := tr.Dial(context.Background(), p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			} else {
				conns = append(conns, conn)
			}
		})
	}
	wg.Wait()
	return conns, errs
}

func TestOneDialServesAHerd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.podWithLimit(podAddr, 2000, hold)
		w.net.SetLatency("client", "pod-1", time.Millisecond)
		tr := w.transport()
		tr.MaxStreamsPerTunnel = 1000
		conns, errs := herd(tr, w.oneHop(), 1000)
		if len(errs) > 0 {
			t.Fatalf("%d dials failed, the first: %v", len(errs), errs[0])
		}
		if hop := tr.Stats().Hops[0]; hop.Dials != 1 || hop.Handshakes != 1 || hop.Streams != 1000 {
			t.Errorf("stats = %+v, want one dial, one handshake, 1000 streams", hop)
		}
		for _, c := range conns {
			c.Close()
		}
	})
}

func TestHerdOverDefaultLimit(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, hold)
		w.net.SetLatency("client", "pod-1", time.Millisecond)
		tr := w.transport()
		conns, errs := herd(tr, w.oneHop(), 1000)
		if len(errs) > 0 {
			t.Fatalf("%d dials failed, the first: %v", len(errs), errs[0])
		}
		if got := tr.Stats().Tunnels; got != 10 {
			t.Errorf("%d tunnels for 1000 streams, want 10", got)
		}
		for _, c := range conns {
			c.Close()
		}
	})
}

func TestDistinctPeersNeverWait(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.net.Blackhole("client", "pod-1")
		w.pod("pod-2:15008", echo)
		tr := w.transport()
		var stuck sync.WaitGroup
		stuck.Go(func() { herd(tr, w.oneHop(), 100) })
		synctest.Wait()
		began := time.Now()
		path := w.oneHop()
		path.Hops[0].Address = "pod-2:15008"
		conn := mustDial(t, tr, path)
		wantEcho(t, conn, "hello")
		conn.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v beside a peer that does not answer, want nothing", took)
		}
		stuck.Wait()
	})
}

func TestServicesDoNotShareInnerTunnels(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}, ratings: {podAddr}})
		tr := w.transport()
		for _, service := range []string{reviews, ratings, reviews, ratings} {
			conn := mustDial(t, tr, w.twoHops(service))
			wantEcho(t, conn, service)
			defer conn.Close()
		}
		s := tr.Stats()
		if s.Hops[0].Tunnels != 1 || s.Hops[1].Tunnels != 2 || s.Streams != 4 {
			t.Errorf("stats = %+v, want one outer and two inner tunnels with 4 streams", s)
		}
	})
}

// One service behind two gateways is two ways to it, with an inner tunnel each.
func TestGatewaysDoNotShareInnerTunnels(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		g := w.gateway(map[string][]string{reviews: {podAddr}})
		w.serve("gateway-2:15008", &hbone.Server{TLS: w.ca.Server(w.ca.Issue(gatewayID), webID), Handler: g.forward})
		tr := w.transport()
		for _, address := range []string{gatewayAddr, "gateway-2:15008", gatewayAddr, "gateway-2:15008"} {
			path := w.twoHops(reviews)
			path.Hops[0].Address = address
			conn := mustDial(t, tr, path)
			wantEcho(t, conn, address)
			defer conn.Close()
		}
		if s := tr.Stats(); s.Hops[0].Tunnels != 2 || s.Hops[1].Tunnels != 2 || s.Streams != 4 {
			t.Errorf("stats = %+v, want two outer and two inner tunnels with 4 streams", s)
		}
	})
}

func TestOrderOfPeersDoesNotMatter(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		tr := w.transport()
		for _, peers := range [][]string{{podID, gatewayID}, {gatewayID, podID}, {podID, gatewayID}} {
			path := w.oneHop()
			path.Hops[0].TLS = w.client(peers...)
			mustDial(t, tr, path).Close()
		}
		if got := tr.Stats().Hops[0].Dials; got > 1 {
			t.Errorf("%d tunnels for one set of accepted peers, want 1", got)
		}
	})
}

func TestIdentitiesDoNotShareTunnels(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.serve(podAddr, &hbone.Server{TLS: w.ca.Server(w.ca.Issue(podID)), Handler: echo})
		tr := w.transport()
		for _, id := range []string{"/a", "/b", "/a", "/b"} {
			path := w.oneHop()
			path.Hops[0].TLS = w.ca.Client(w.ca.Issue(id), podID)
			conn := mustDial(t, tr, path)
			defer conn.Close()
		}
		if got := tr.Stats().Tunnels; got != 2 {
			t.Errorf("%d tunnels for two local identities, want 2", got)
		}
	})
}

func TestSaturatedTunnelReturns(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, hold)
		tr := w.transport()
		tr.MaxStreamsPerTunnel = 2
		var conns []*hbone.Conn
		for range 3 {
			conns = append(conns, mustDial(t, tr, w.oneHop()))
		}
		if got := tr.Stats().Tunnels; got != 2 {
			t.Fatalf("%d tunnels for 3 streams at 2 each, want 2", got)
		}
		first := conns[0].Hops()[0].Tunnel
		conns[0].Close()
		conns[1].Close()
		synctest.Wait()
		again := []*hbone.Conn{mustDial(t, tr, w.oneHop()), mustDial(t, tr, w.oneHop()), mustDial(t, tr, w.oneHop())}
		if got := tr.Stats().Hops[0].Dials; got != 2 {
			t.Errorf("%d dials, want the 2 tunnels that there were", got)
		}
		used := 0
		for _, c := range again {
			if c.Hops()[0].Tunnel == first {
				used++
			}
		}
		if used != 2 {
			t.Errorf("the tunnel that was full got %d of 3 new streams, want 2", used)
		}
	})
}

func TestMaxTunnelsMakesDialsWait(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, hold)
		tr := w.transport()
		tr.MaxStreamsPerTunnel, tr.MaxTunnels = 1, 1
		first := mustDial(t, tr, w.oneHop())
		time.AfterFunc(3*time.Second, func() { first.Close() })
		began := time.Now()
		second := mustDial(t, tr, w.oneHop())
		defer second.Close()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("waited %v for a free stream, want 3s", took)
		}
		if got := tr.Stats().Hops[0].Dials; got != 1 {
			t.Errorf("%d dials, want 1", got)
		}
	})
}

// TestMaxTunnelsHoldsWhileSpreading: a tunnel that is made to spread counts before it stands.
func TestMaxTunnelsHoldsWhileSpreading(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.gateway(map[string][]string{reviews: w.backends(3)})
		w.net.SetLatency("gateway", "client", 10*time.Millisecond)
		tr := w.transport()
		tr.MaxStreamsPerTunnel, tr.MaxTunnels = 2, 2
		path := w.twoHops(reviews)
		path.Spread = 3
		defer mustDial(t, tr, path).Close()
		conns, errs := herd(tr, path, 3) // the first fills the tunnel and has a second one made
		if len(errs) > 0 {
			t.Fatal(errs[0])
		}
		for _, c := range conns {
			defer c.Close()
		}
		time.Sleep(time.Second)
		if got := tr.Stats().Hops[1].Tunnels; got != 2 {
			t.Errorf("%d inner tunnels, want at most 2", got)
		}
	})
}

// TestWaiterIsToldOfReuse: a tunnel was there also for a dial that had to wait for room in it.
func TestWaiterIsToldOfReuse(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, hold)
		tr := w.transport()
		reused := 0
		tr.Trace = &hbone.Trace{TunnelReused: func(hbone.TunnelInfo) { reused++ }}
		tr.MaxStreamsPerTunnel, tr.MaxTunnels = 1, 1
		first := mustDial(t, tr, w.oneHop())
		time.AfterFunc(time.Second, func() { first.Close() })
		second := mustDial(t, tr, w.oneHop())
		defer second.Close()
		if !second.Hops()[0].Reused || reused != 1 {
			t.Errorf("Reused = %v, TunnelReused called %d times; want true, once", second.Hops()[0].Reused, reused)
		}
	})
}

// TestNobodyDialsForNobody: a context that has ended starts nothing.
func TestNobodyDialsForNobody(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		tr := w.transport()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := tr.Dial(ctx, w.oneHop())
		if wantHop(t, err, 0, hbone.PhaseWait); !errors.Is(err, context.Canceled) {
			t.Errorf("dial: %v, want context.Canceled", err)
		}
		synctest.Wait()
		if s := tr.Stats(); s.Tunnels != 0 || len(s.Hops) != 0 {
			t.Errorf("stats = %+v, want no dial", s)
		}
	})
}

// TestCarriersAreNotCounted: at no moment are there more inner tunnels than streams that carry them.
func TestCarriersAreNotCounted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.gateway(map[string][]string{reviews: {podAddr}})
		tr := w.transport()
		tr.Trace = &hbone.Trace{StreamClosed: func(i hbone.TunnelInfo, _ *hbone.Conn, _ hbone.StreamEnd) {
			if s := tr.Stats(); s.Streams != 0 {
				t.Errorf("hop %d: %+v, want no streams", i.Hop, s)
			}
		}}
		mustDial(t, tr, w.twoHops(reviews)).Close()
		synctest.Wait()
		tr.CloseIdle()
	})
}
