package h2

import (
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
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
			flows[i].refill()
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
			if n := f.consumed(int(f.queued)); f.window == 0 {
				t.Fatalf("seed %d: a peer whose bytes are all read waits for credit (%d given)", seed, n)
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
