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

// TestSpreadIsEven dials for 84 minutes through a gateway that picks at random, while tunnels grow old and are
// replaced. It also watches what the gateway is told: nothing of any one connection.
func TestSpreadIsEven(t *testing.T) {
	const dials = 10_000
	bubble(t, func(t *testing.T, w *world) {
		g := w.gateway(map[string][]string{reviews: w.backends(5)})
		g.randomly(2)
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
	bubble(t, func(t *testing.T, w *world) {
		all := w.backends(5)
		g := w.gateway(map[string][]string{reviews: all[:4:4]})
		g.randomly(3)
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
		wantShares(t, run(10*time.Minute), 4, 600)
		g.set(reviews, all...)
		run(30 * time.Minute) // one MaxTunnelAge
		wantShares(t, run(20*time.Minute), 5, 1200)
	})
}

// alike serves n pods that nothing distinguishes but what they answer with, and returns their addresses.
func (w *world) alike(n int, answer http.Header) []string {
	w.Helper()
	var list []string
	cert := w.ca.Issue(podID)
	for i := range n {
		address := fmt.Sprintf("pod-%d:15008", i+1)
		list = append(list, address)
		w.serve(address, &hbone.Server{TLS: w.ca.Server(cert, webID), Handler: named(address, answer)})
	}
	return list
}

// TestSpreadWithoutHints: where all backends look alike, what a search believes must not favour any.
func TestSpreadWithoutHints(t *testing.T) {
	const lifetimes = 400
	bubble(t, func(t *testing.T, w *world) {
		g := w.gateway(map[string][]string{reviews: w.alike(5, nil)})
		g.reveal = false
		g.randomly(4)
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
		if len(count) != 5 || chi2 > 28.5 { // 4 degrees of freedom: p < 0.00001
			t.Errorf("tunnels by backend %v, chi-square %.1f", count, chi2)
		}
		t.Logf("%d tunnels took %d inner handshakes; by backend %v, chi-square %.1f",
			lifetimes, tr.Stats().Hops[1].Handshakes, count, chi2)
	})
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
		if len(count) != 2 {
			t.Errorf("backends reached: %v, want both", count)
		}
	})
}
