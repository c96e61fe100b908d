package h2

import (
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// TestEqualShares lets streams that write much at a time and streams that write little compete for a narrow path.
func TestEqualShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 4 << 20 // bytes a second
		sizes := []int{1 << 20, 64 << 10, 64 << 10, 16 << 10, 1 << 10, 1 << 10}
		handle, accepted := accepting()
		client, _ := newPair(t, narrowWire(10*time.Millisecond, rate), Config{}, handle)
		received := make([]counter, len(sizes))
		for i, size := range sizes {
			s := mustOpen(t, client)
			go io.Copy(&received[i], s)
			go writeForEver(<-accepted, size)
		}
		time.Sleep(10 * time.Second)
		for i := range received {
			received[i].take()
		}
		const seconds = 100
		time.Sleep(seconds * time.Second)
		fair := rate * seconds / len(sizes)
		for i, size := range sizes {
			least := fair * 3 / 4
			if size < smallWrite { // it may be late for its turn, as each Write waits for the one before
				least = fair / 4
			}
			if got := received[i].take(); got < least || got > fair*3/2 {
				t.Errorf("writes of %d bytes got %.2f of a fair share", size, float64(got)/float64(fair))
			}
		}
	})
}

func writeForEver(s *Stream, size int) {
	p := make([]byte, size)
	for {
		if _, err := s.Write(p); err != nil {
			return
		}
	}
}

// TestSmallWritesGoAhead lets many large Writes wait for the connection's window, and expects a small one to be sent
// as soon as that opens.
func TestSmallWritesGoAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const large = 20
		handle, accepted := accepting()
		p, _ := playClient(t, Config{}, handle)
		for i := range uint32(large + 1) {
			p.connect(2*i + 1)
			p.wantStatus(2*i+1, 200, false)
		}
		for range large {
			go writeForEver(<-accepted, 64<<10)
		}
		p.skipData(initialWindow, 0)
		synctest.Wait()
		small := <-accepted
		go small.Write([]byte("small"))
		synctest.Wait()
		p.fr.WriteWindowUpdate(0, 1<<20)
		if skipped := p.skipData(1<<20, small.id); skipped > outboxLimit {
			t.Errorf("a small write was sent after %d bytes of others", skipped)
		}
	})
}

// skipData reads DATA frames of so many bytes together, or up to one of a stream, and returns how many bytes came before.
func (p *peer) skipData(most int, until uint32) (skipped int) {
	p.t.Helper()
	for skipped < most {
		f := want[*http2.DataFrame](p)
		if f.StreamID == until {
			break
		}
		skipped += len(f.Data())
	}
	return skipped
}

// TestNewcomersLeaveBulkItsShare lets clients with a new stream for each short answer compete for a narrow path with a
// stream that has sent much: that one must not wait for as long as there are newcomers.
func TestNewcomersLeaveBulkItsShare(t *testing.T) {
	for _, size := range []int{4 << 10, 32 << 10, 60_000} {
		t.Run(strconv.Itoa(size), inBubble(func(t *testing.T) {
			const (
				rate    = 4 << 20 // bytes a second
				clients = 40
				seconds = 40
			)
			answers := func(s *Stream) {
				if s.Accept(nil) == nil {
					s.Write(make([]byte, size))
					s.Close()
				}
			}
			bulk := make(chan *Stream, 1)
			handle := func(s *Stream) {
				if s.Authority() != "bulk:1" {
					answers(s)
				} else if s.Accept(nil) == nil {
					bulk <- s
				}
			}
			client, _ := newPair(t, narrowWire(10*time.Millisecond, rate), Config{}, handle)
			s, err := client.Open(t.Context(), "bulk:1", nil)
			if err != nil {
				t.Fatal(err)
			}
			var received counter
			go io.Copy(&received, s)
			go writeForEver(<-bulk, 1<<20)
			time.Sleep(5 * time.Second)
			for range clients {
				go func() {
					for {
						s, err := client.Open(t.Context(), "short:1", nil)
						if err != nil {
							return
						}
						io.Copy(io.Discard, s)
						s.Close()
					}
				}()
			}
			time.Sleep(5 * time.Second)
			received.take()
			time.Sleep(seconds * time.Second)
			if got, fair := received.take(), rate*seconds/(clients+1); got < fair/2 {
				t.Errorf("%.2f of a fair share", float64(got)/float64(fair))
			}
		}))
	}
}

// TestLineIsFair plays writers that share a window, at random: some always have more to write, and others come for one
// Write and go. The oracle counts what each has sent, and what was sent while it waited.
func TestLineIsFair(t *testing.T) {
	for seed := range uint64(30) {
		g := &lineGame{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0))}
		for range 2 + g.rng.IntN(6) {
			g.join(g.size(), true)
		}
		newcomers := g.rng.IntN(20)
		for range 5_000 {
			if len(g.writers) < newcomers {
				g.join(g.size(), false)
			}
			g.room += g.rng.IntN(2 * maxSendFrame)
			g.call()
			for w := g.runnable(); w != nil; w = g.runnable() {
				g.step(w)
			}
			g.writers = slices.DeleteFunc(g.writers, func(w *lineWriter) bool { return w.left == 0 })
			g.check()
		}
		for range g.writers { // all that wait have their turn, when nobody goes on
			g.room = maxSendFrame
			g.line.call(g.room)
			g.check()
			if i := slices.IndexFunc(g.line.streams, func(s *Stream) bool { return s.send.place.called }); i >= 0 {
				g.line.leave(g.line.streams[i])
			}
		}
		if n := len(g.line.streams); n > 0 {
			t.Errorf("seed %d: %d are never called", seed, n)
		}
	}
}

// A lineGame is a line, and what its rules need of a connection.
type lineGame struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	line    line
	room    int
	writers []*lineWriter
	most    int   // so many were in the line
	sent    int64 // by all
}

type lineWriter struct {
	stream  *Stream
	size    int // of a Write
	left    int // of the current one
	forever bool
	sent    int64
	since   int64 // lineGame.sent when it began to wait
}

func (g *lineGame) size() int { return 1 << (8 + g.rng.IntN(14)) }

func (g *lineGame) join(size int, forever bool) {
	s := &Stream{}
	s.send.changed.L = new(sync.Mutex)
	g.writers = append(g.writers, &lineWriter{stream: s, size: size, left: size, forever: forever})
}

// call calls, and checks that those who are called come first, and are no more than there is room for.
func (g *lineGame) call() {
	before := g.line.called
	var waiting []*Stream
	for _, s := range g.line.streams {
		if !s.send.place.called {
			waiting = append(waiting, s)
		}
	}
	g.line.call(g.room)
	called := g.line.called - before
	want := min(len(waiting), max(0, (g.room+maxSendFrame-1)/maxSendFrame-before))
	if called != want || slices.ContainsFunc(waiting[:want], func(s *Stream) bool { return !s.send.place.called }) {
		g.t.Fatalf("seed %d: %d of %d called, want the first %d", g.seed, called, len(waiting), want)
	}
}

// runnable returns somebody who would run now; nil if all wait.
func (g *lineGame) runnable() *lineWriter {
	offset := g.rng.IntN(len(g.writers))
	for i := range g.writers {
		w := g.writers[(i+offset)%len(g.writers)]
		if p := w.stream.send.place; w.left > 0 && (p.called || !p.waiting) {
			return w
		}
	}
	return nil
}

// step lets w send as much as goes, and then wait, as Stream.write does.
func (g *lineGame) step(w *lineWriter) {
	for w.left > 0 && g.room > 0 && g.line.mayGo(w.stream) {
		g.waited(w)
		n := min(w.left, g.room, maxSendFrame)
		g.line.leave(w.stream)
		g.line.sent(w.stream, n)
		g.room -= n
		g.sent += int64(n)
		w.left -= n
		w.sent += int64(n)
		if w.left == 0 && w.forever {
			w.left = w.size
		}
	}
	if w.left > 0 {
		if !w.stream.send.place.waiting {
			w.since = g.sent
		}
		g.line.wait(w.stream, w.left)
	}
	g.most = max(g.most, len(g.line.streams))
	g.call()
}

// waited checks how much others have sent while w waited.
func (g *lineGame) waited(w *lineWriter) {
	if !w.stream.send.place.waiting {
		return
	}
	if others, most := g.sent-w.since, int64(g.most+1)*3*lineSlack; others > most {
		g.t.Fatalf("seed %d: a writer of %d bytes has waited for %d of others, want at most %d", g.seed, w.size, others, most)
	}
}

// check checks the line's own rules, and that those who always write have sent alike.
func (g *lineGame) check() {
	called := 0
	for i, s := range g.line.streams {
		p := s.send.place
		if !p.waiting || i > 0 && g.line.streams[i-1].send.place.order > p.order {
			g.t.Fatalf("seed %d: %d of the line is out of place", g.seed, i)
		}
		if p.called {
			called++
		}
	}
	if called != g.line.called {
		g.t.Fatalf("seed %d: %d are called, %d counted", g.seed, called, g.line.called)
	}
	least, most := int64(math.MaxInt64), int64(0)
	for _, w := range g.writers {
		g.waited(w)
		if w.forever {
			least, most = min(least, w.sent), max(most, w.sent)
		}
	}
	if most-least > 3*lineSlack {
		g.t.Fatalf("seed %d: one has sent %d bytes more than another", g.seed, most-least)
	}
}
