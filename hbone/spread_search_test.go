package hbone_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// TestFirstSearchFindsEveryBackend starts 300 clients of a gateway that picks at random. Hardly one may
// have to look a second time for the last of three backends.
func TestFirstSearchFindsEveryBackend(t *testing.T) {
	const clients = 300
	bubble(t, func(t *testing.T, w *world) {
		g := w.gateway(map[string][]string{reviews: w.backends(3)})
		g.randomly(1)
		path := w.twoHops(reviews)
		path.Spread = 3
		missed := 0
		for range clients {
			tr := w.transport()
			for range 3 {
				visit(t, tr, path)
				synctest.Wait() // for the search that this dial began; no time passes
			}
			if tr.Stats().Hops[1].Tunnels < 3 {
				missed++
			}
			tr.Close()
		}
		if missed > 1 {
			t.Errorf("%d of %d clients missed a backend, want at most 1", missed, clients)
		}
	})
}

// A hint is what tells backends apart.
type hint string

const (
	gatewayHeader hint = "gateway's header" // before the inner handshake
	certificate   hint = "certificate"      // after it
	backendHeader hint = "backend's header" // with the first answer
	baggage       hint = "baggage"          // likewise
	nothing       hint = "nothing"
)

var hints = []hint{gatewayHeader, certificate, backendHeader, baggage}

// hinted serves n pods behind a gateway that picks at random, and returns their addresses. Each shows which it is by h alone.
func (w *world) hinted(h hint, n int, seed uint64) (*gateway, []string) {
	w.Helper()
	var list []string
	shared := w.ca.Issue(podID)
	for i := range n {
		address := fmt.Sprintf("pod-%d:15008", i+1)
		list = append(list, address)
		cert, answer := shared, http.Header{}
		switch h {
		case certificate:
			cert = w.ca.Issue(podID)
		case backendHeader:
			answer.Set(hbone.HeaderBackend, address)
		case baggage:
			answer.Set("Baggage", "k8s.pod.name="+address)
		}
		w.serve(address, &hbone.Server{TLS: w.ca.Server(cert, webID), Handler: named(address, answer)})
	}
	g := w.gateway(map[string][]string{reviews: list})
	g.reveal = h == gatewayHeader
	g.randomly(seed)
	return g, list
}

// forHints runs a test in a world of its own for each hint and for a few seeds.
func forHints(t *testing.T, test func(t *testing.T, w *world, h hint, seed uint64)) {
	for _, h := range hints {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s/%d", h, seed), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) { test(t, w, h, seed) })
			})
		}
	}
}

// TestSpreadIsEven dials for 84 minutes through a gateway that picks at random, while tunnels grow old and are
// replaced. It also watches what the gateway is told: nothing of any one connection.
func TestSpreadIsEven(t *testing.T) {
	const dials = 10_000
	forHints(t, func(t *testing.T, w *world, h hint, seed uint64) {
		g, _ := w.hinted(h, 5, seed)
		tr := w.transport()
		path := w.twoHops(reviews)
		path.Spread = 5
		path.Hops[0].TunnelHeader = http.Header{"X-Istio-Source": {"gateway"}}
		count := map[string]int{}
		minute := handshakesPerMinute{transport: tr}
		for i := range dials {
			path.StreamHeader = http.Header{"Baggage": {fmt.Sprintf("secret=%d", i)}, "Forwarded": {"for=secret"}}
			count[visit(t, tr, path)]++
			time.Sleep(500 * time.Millisecond)
			minute.look(i == 0)
		}
		wantShares(t, count, 5, dials)
		if minute.most > 8 {
			t.Errorf("%d inner handshakes in one minute, want at most 8", minute.most)
		}
		s := tr.Stats().Hops
		t.Logf("%d dials took %d inner handshakes, at most %d in one minute, and %d outer streams; shares %v",
			dials, s[1].Handshakes, minute.most, s[0].Opened, count)
		for _, h := range g.seen() {
			if len(h) != 1 || strings.Contains(fmt.Sprint(h), "secret") {
				t.Fatalf("the gateway got the header %v", h)
			}
		}
	})
}

// handshakesPerMinute finds the worst minute, after the first.
type handshakesPerMinute struct {
	transport *hbone.Transport
	since     time.Time
	before    uint64
	most      uint64
}

func (m *handshakesPerMinute) look(restart bool) {
	now, n := time.Now(), m.transport.Stats().Hops[1].Handshakes
	switch {
	case restart:
		m.since = now
		return
	case now.Sub(m.since) < time.Minute:
		return
	case m.before > 0:
		m.most = max(m.most, n-m.before)
	}
	m.since, m.before = now, n
}

// wantShares expects that each of n backends got 15 to 25 % (of 5; in proportion, of more or fewer).
func wantShares(t *testing.T, count map[string]int, n, dials int) {
	t.Helper()
	if len(count) != n {
		t.Errorf("%d backends reached, want %d: %v", len(count), n, count)
	}
	for address, got := range count {
		if share := float64(got) * float64(n) / float64(dials); share < 0.75 || share > 1.25 {
			t.Errorf("%s got %d of %d streams, want 0.75 to 1.25 times an equal share", address, got, dials)
		}
	}
}

func TestBackendThatAppearsGetsItsShare(t *testing.T) {
	forHints(t, func(t *testing.T, w *world, h hint, seed uint64) {
		g, all := w.hinted(h, 5, seed)
		g.set(reviews, all[:4]...)
		tr := w.transport()
		path := w.twoHops(reviews)
		path.Spread = 5
		run := func(d time.Duration) map[string]int {
			count := map[string]int{}
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				count[visit(t, tr, path)]++
			}
			return count
		}
		run(10 * time.Minute)
		g.set(reviews, all...)
		run(30 * time.Minute) // one MaxTunnelAge
		wantShares(t, run(20*time.Minute), 5, 1200)
	})
}

// TestBlindSearchEnds: where each roll costs a handshake, and there are fewer backends than wanted, a search must not go
// on for ever.
func TestBlindSearchEnds(t *testing.T) {
	forHints(t, func(t *testing.T, w *world, h hint, seed uint64) {
		w.hinted(h, 4, seed)
		tr := w.transport()
		path := w.twoHops(reviews)
		path.Spread = 5
		run := func(d time.Duration) uint64 {
			before := tr.Stats()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				visit(t, tr, path)
			}
			if before.Hops == nil {
				return tr.Stats().Hops[1].Handshakes
			}
			return tr.Stats().Hops[1].Handshakes - before.Hops[1].Handshakes
		}
		if n := run(15 * time.Minute); n < 4 || n > 64 {
			t.Errorf("%d inner handshakes to find 4 backends and no fifth", n)
		}
		if n := run(10 * time.Minute); n > 0 {
			t.Errorf("%d inner handshakes after that", n)
		}
	})
}

// TestSpreadWithoutHints: where all backends look alike, what a search believes must not favour any, and costs hardly
// more than a handshake for each tunnel.
func TestSpreadWithoutHints(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) { testSpreadWithoutHints(t, w, seed) })
		})
	}
}

func testSpreadWithoutHints(t *testing.T, w *world, seed uint64) {
	const lifetimes = 400
	w.hinted(nothing, 5, seed)
	tr := w.transport()
	tr.MaxTunnelAge = 5 * time.Minute
	path := w.twoHops(reviews)
	path.Spread = 5
	led := map[uint64]string{} // tunnels to backends
	for len(led) < lifetimes {
		conn := mustDial(t, tr, path)
		var address string
		fmt.Fscanln(conn, &address)
		led[conn.Hops()[1].Tunnel] = address
		conn.Close()
		time.Sleep(5 * time.Second)
	}
	count := map[string]int{}
	for _, address := range led {
		count[address]++
	}
	var chi2 float64
	for _, n := range count {
		d := float64(n) - lifetimes/5
		chi2 += d * d / (lifetimes / 5)
	}
	if len(count) != 5 || chi2 > 18.5 { // 4 degrees of freedom: p < 0.001
		t.Errorf("tunnels by backend %v, chi-square %.1f", count, chi2)
	}
	handshakes := tr.Stats().Hops[1].Handshakes
	if handshakes > lifetimes+20 {
		t.Errorf("%d inner handshakes for %d tunnels", handshakes, lifetimes)
	}
	t.Logf("%d tunnels took %d inner handshakes; by backend %v, chi-square %.1f", lifetimes, handshakes, count, chi2)
}

// TestCertificatesTellBackendsApart: baggage, which pods of a deployment share, must not hide what their
// certificates tell.
func TestCertificatesTellBackendsApart(t *testing.T) {
	same := http.Header{"Baggage": {"service.name=reviews"}}
	bubble(t, func(t *testing.T, w *world) {
		var list []string
		for i := range 2 {
			address := fmt.Sprintf("pod-%d:15008", i+1)
			list = append(list, address)
			w.pod(address, named(address, same))
		}
		g := w.gateway(map[string][]string{reviews: list})
		g.reveal = false
		g.pick = func([]string) int { return min(g.streams/3, 1) } // the first twice, then the second
		tr := w.transport()
		path := w.twoHops(reviews)
		path.Spread = 2
		count := map[string]int{}
		for range 20 {
			count[visit(t, tr, path)]++
			synctest.Wait()
		}
		if n := tr.Stats().Hops[1].Tunnels; len(count) != 2 || n != 2 {
			t.Errorf("backends reached: %v, by %d tunnels; want both by one each", count, n)
		}
	})
}
