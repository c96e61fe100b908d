package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// A course is what one direction of a stream is to carry, and how it ends.
type course struct {
	data  []byte
	abort bool // instead of END_STREAM
}

// TestRandomStreams runs random conversations on a few connections at once, with random sizes,
// deadlines, half-closes and resets. The oracle: a direction that ends cleanly, in a stream that nobody
// aborted, delivers exactly its data and io.EOF; any other delivers a prefix and an error.
func TestRandomStreams(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	cfgs := map[string]Config{
		"default":      {},
		"small window": {StreamWindow: 20_000, ConnWindow: 70_000, MaxFrameSize: minMaxFrameSize},
	}
	for name, w := range testWires {
		for cfgName, cfg := range cfgs {
			t.Run(name+"/"+cfgName, func(t *testing.T) {
				t.Parallel()
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				stress(t, w, cfg, rounds, seed)
			})
		}
	}
}

func stress(t *testing.T, w wire, cfg Config, rounds int, seed uint64) {
	handle, accepted := accepting()
	client, server := newPair(t, w, cfg, handle)
	rng := rand.New(rand.NewPCG(seed, 0))
	var running sync.WaitGroup
	for range rounds {
		a := mustOpen(t, client)
		b := <-accepted
		there, back := randomCourse(rng), randomCourse(rng)
		aborted := there.abort || back.abort
		r := [4]*rand.Rand{}
		for i := range r {
			r[i] = rand.New(rand.NewPCG(seed, rng.Uint64()))
		}
		var ends sync.WaitGroup
		ends.Go(func() { there.write(t, a, aborted, r[0]) })
		ends.Go(func() { back.write(t, b, aborted, r[1]) })
		ends.Go(func() { there.read(t, b, aborted, r[2]) })
		ends.Go(func() { back.read(t, a, aborted, r[3]) })
		running.Go(func() {
			ends.Wait()
			a.Close()
			b.Close()
		})
		if rng.IntN(4) == 0 { // now and then, let them end
			running.Wait()
		}
	}
	running.Wait()
	waitFor(t, func() bool { return client.Streams() == 0 && server.Streams() == 0 })
	if client.Err() != nil || server.Err() != nil {
		t.Errorf("connection ended: %v, %v", client.Err(), server.Err())
	}
	client.inflow.mu.Lock()
	defer client.inflow.mu.Unlock()
	if n := client.inflow.queued; n != 0 {
		t.Errorf("%d received bytes are unaccounted for", n)
	}
}

func randomCourse(rng *rand.Rand) course {
	sizes := []int{0, 1, 100, 16384, 100_000, 400_000}
	return course{
		data:  randomBytes(rng.Uint64(), rng.IntN(sizes[rng.IntN(len(sizes))]+1)),
		abort: rng.IntN(6) == 0,
	}
}

// write sends the data in random pieces, with deadlines that may pass.
func (c course) write(t *testing.T, s *Stream, aborted bool, rng *rand.Rand) {
	for data := c.data; len(data) > 0; {
		if rng.IntN(4) == 0 {
			s.SetWriteDeadline(time.Now().Add(time.Duration(rng.IntN(300)) * time.Microsecond))
		}
		write := s.Write
		if rng.IntN(8) == 0 {
			write = s.TryWrite
		}
		n, err := write(data[:1+rng.IntN(len(data))])
		data = data[n:]
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.SetWriteDeadline(time.Time{})
		case err != nil && !aborted:
			t.Errorf("write: %v", err)
			return
		case err != nil:
			return
		}
	}
	if c.abort {
		s.Reset(http2.ErrCodeCancel, errors.New("aborted on purpose"))
	} else if err := s.CloseWrite(); err != nil && !aborted {
		t.Errorf("CloseWrite: %v", err)
	}
}

// read receives in random pieces, with deadlines that may pass, and asks the oracle.
func (c course) read(t *testing.T, s *Stream, aborted bool, rng *rand.Rand) {
	var got []byte
	buf := make([]byte, 70_000)
	for {
		if rng.IntN(4) == 0 {
			s.SetReadDeadline(time.Now().Add(time.Duration(rng.IntN(300)) * time.Microsecond))
		}
		n, err := s.Read(buf[:1+rng.IntN(len(buf))])
		got = append(got, buf[:n]...)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.SetReadDeadline(time.Time{})
			continue
		}
		if err == nil {
			continue
		}
		switch {
		case !bytes.HasPrefix(c.data, got):
			t.Errorf("received what was not sent")
		case err == io.EOF && (c.abort || len(got) != len(c.data)):
			t.Errorf("an incomplete direction ends with io.EOF: %d of %d bytes", len(got), len(c.data))
		case err != io.EOF && !aborted:
			t.Errorf("read: %v after %d of %d bytes", err, len(got), len(c.data))
		}
		return
	}
}

// TestRandomEnds closes connections under load. Nothing may hang, and each
// stream must fail.
func TestRandomEnds(t *testing.T) {
	for name, w := range testWires {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range 4 { // two ends, two ways
				handle, accepted := accepting()
				client, server := newPair(t, w, Config{StreamWindow: 1 << 18}, handle)
				var running sync.WaitGroup
				pump := func(s *Stream) {
					running.Go(func() {
						if _, err := io.Copy(s, neverEnding{}); err == nil {
							t.Error("write to a dead connection succeeds")
						}
					})
					running.Go(func() { io.Copy(io.Discard, s) })
				}
				for range 3 {
					pump(mustOpen(t, client))
					pump(<-accepted)
				}
				now := make(chan struct{})
				running.Go(func() { // opens and closes
					for opened := rand.IntN(10); ; opened-- {
						if opened == 0 {
							close(now)
						}
						s, err := client.Open(context.Background(), "a:1", nil)
						if err != nil {
							return
						}
						s.Close()
					}
				})
				<-now
				end := client
				if i%2 == 1 {
					end = server
				}
				if i < 2 {
					end.Close()
				} else {
					ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
					end.Shutdown(ctx)
					cancel()
				}
				running.Wait()
			}
		})
	}
}
