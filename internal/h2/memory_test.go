package h2

import (
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
)

// TestMemoryIsShared plays connections that share a Memory, at random. The oracle adds up what each has
// given and not got back.
func TestMemoryIsShared(t *testing.T) {
	const limit = 40 << 20
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		memory := NewMemory(limit)
		flows := make([]*connInflow, 1+rng.IntN(20))
		for i := range flows {
			flows[i] = &connInflow{memory: memory, limit: 8 << 20, window: initialWindow}
		}
		check := func() {
			t.Helper()
			var beyond int64
			for _, f := range flows {
				if f.window < 0 || f.queued < 0 || f.window+f.queued > max(f.limit, initialWindow) {
					t.Fatalf("seed %d: window %d, queued %d", seed, f.window, f.queued)
				}
				beyond += max(f.window+f.queued-initialWindow, 0)
			}
			if used := memory.Used(); used > limit || beyond > used {
				t.Fatalf("seed %d: %d held, %d used of %d", seed, beyond, used, limit)
			}
		}
		for range 2000 {
			f := flows[rng.IntN(len(flows))]
			if rng.IntN(2) == 0 {
				f.arrived(rng.IntN(int(f.window) + 1))
			} else {
				f.consumed(rng.IntN(int(f.queued) + 1))
			}
			check()
		}
		for _, f := range flows {
			if f.consumed(int(f.queued)); f.window == 0 {
				t.Fatalf("seed %d: a peer whose bytes are all read waits for credit", seed)
			}
			f.arrived(int(f.window / 2))
			f.close()
			f.consumed(int(f.queued))
		}
		if used := memory.Used(); used != 0 {
			t.Fatalf("seed %d: %d used after all have ended", seed, used)
		}
	}
}

// TestMemoryBoundsAllConnections lets streams of several connections stall until the memory that they share
// is used up, and then reads them.
func TestMemoryBoundsAllConnections(t *testing.T) {
	const conns, streams, limit = 8, 4, 4 << 20
	synctest.Test(t, func(t *testing.T) {
		serverCfg := Config{Memory: NewMemory(limit)}
		handle, accepted := accepting()
		var received []*Stream
		for range conns {
			client, _ := newUnlikePair(t, memWire, Config{}, serverCfg, handle)
			for range streams {
				s := mustOpen(t, client)
				go func() {
					s.Write(make([]byte, 3<<20))
					s.CloseWrite()
				}()
				received = append(received, <-accepted)
			}
		}
		synctest.Wait() // until nothing moves
		var unread int
		for _, s := range received {
			unread += s.recv.queue.size
		}
		if most := limit + conns*initialWindow; unread > most || unread < conns*initialWindow {
			t.Errorf("%d bytes are held, want at most %d", unread, most)
		}
		for _, s := range received {
			go func() {
				if n, err := io.Copy(io.Discard, s); n != 3<<20 || err != nil {
					t.Errorf("read %d bytes, %v", n, err)
				}
				s.Close()
			}()
		}
		synctest.Wait()
		if used := serverCfg.Memory.Used(); used > limit {
			t.Errorf("%d bytes used of %d", used, limit)
		}
	})
}

// TestMemoryOfCutFrames ends connections in the middle of a frame, and over frames that break flow control: nothing is held
// for what never comes.
func TestMemoryOfCutFrames(t *testing.T) {
	for name, window := range map[string]int{"cut": 0, "violation": initialWindow} {
		t.Run(name, inBubble(func(t *testing.T) {
			cfg := Config{Memory: NewMemory(1 << 30), ConnWindow: window}
			for range 3 {
				streams := make(chan *Stream, 1)
				p, c := playClient(t, cfg, hold(streams))
				p.connect(1)
				p.wantStatus(1, 200, false)
				s := <-streams
				for _, size := range []int{60_000, 1 << 20} { // the first one asks for more window
					p.write(string(appendFrameHeader(nil, size, http2.FrameData, 0, 1)) + string(make([]byte, min(size, 60_000))))
					io.ReadFull(s, make([]byte, 60_000))
				}
				p.conn.Close()
				<-c.Done()
				s.Close()
				c.Close()
				if c.inflow.queued != 0 {
					t.Errorf("%d bytes are unaccounted for", c.inflow.queued)
				}
			}
			if used := cfg.Memory.Used(); used != 0 {
				t.Errorf("%d used after all connections have ended", used)
			}
		}))
	}
}

// TestIdleConnectionsHoldNothing: connections on which nothing comes leave the memory to the others.
func TestIdleConnectionsHoldNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Memory: NewMemory(8 << 20)}
		handle, accepted := accepting()
		for range 100 {
			client, _ := newUnlikePair(t, memWire, Config{}, cfg, handle)
			s := mustOpen(t, client)
			go s.Write([]byte("a little"))
			(<-accepted).Read(make([]byte, 100))
		}
		synctest.Wait()
		if used := cfg.Memory.Used(); used > 100*minWorkingWindow {
			t.Errorf("%d held for connections that hardly anything comes on", used)
		}
	})
}

// TestFewUpdatesWhenMemoryIsShort: small reads do not cost a WINDOW_UPDATE each.
func TestFewUpdatesWhenMemoryIsShort(t *testing.T) {
	f := &connInflow{memory: NewMemory(0), limit: 256 << 20, window: initialWindow}
	f.arrived(initialWindow)
	updates := 0
	for range initialWindow / 10 {
		if f.consumed(10).bytes > 0 {
			updates++
		}
	}
	if updates == 0 || updates > 20 {
		t.Errorf("%d updates for %d reads", updates, initialWindow/10)
	}
}
