package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// hold is a handler that accepts, and leaves the stream to the test.
func hold(streams chan<- *Stream) func(*Stream) {
	return func(s *Stream) {
		s.Accept(nil)
		streams <- s
	}
}

// TestLeaderCanBeStopped ends reads that lead, from outside, in each way, and goes on.
func TestLeaderCanBeStopped(t *testing.T) {
	for name, w := range testWires {
		t.Run(name, func(t *testing.T) {
			a, b := openPair(t, w, Config{})
			buf := make([]byte, 1<<10)
			pingPong := func() {
				t.Helper()
				b.Write([]byte("ping"))
				if n, err := io.ReadFull(a, buf[:4]); n != 4 || err != nil {
					t.Fatalf("read %q, %v", buf[:n], err)
				}
			}
			for range 2 * longStreak { // until a's own Reads lead
				pingPong()
			}
			for i := range 20 {
				a.SetReadDeadline(time.Now().Add(time.Duration(i%3) * 100 * time.Microsecond))
				if n, err := a.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("read %q, %v, want a timeout", buf[:n], err)
				}
				a.SetReadDeadline(time.Time{})
				pingPong()
			}
			ended := make(chan error)
			go func() {
				_, err := a.Read(buf)
				ended <- err
			}()
			time.AfterFunc(time.Millisecond, func() { a.Close() })
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("read after Close: %v", err)
			}
		})
	}
}

// TestStallWithinFrame lets the peer stop in the middle of a large frame: what came is read at once, and nothing
// writes into the buffer of a Read that has returned.
func TestStallWithinFrame(t *testing.T) {
	for _, leads := range []bool{true, false} {
		t.Run(fmt.Sprintf("leads=%v", leads), inBubble(func(t *testing.T) {
			streams := make(chan *Stream, 2)
			p, _ := playClient(t, Config{}, hold(streams))
			p.connect(1)
			p.wantStatus(1, 200, false)
			s := <-streams
			if !leads { // another stream's Read does
				p.connect(3)
				p.wantStatus(3, 200, false)
				other := <-streams
				go io.Copy(io.Discard, other)
				synctest.Wait()
			}
			payload := randomBytes(1, 60_000)
			var got []byte
			var bufs, kept [][]byte
			read := func() error {
				buf := make([]byte, 64<<10)
				n, err := s.Read(buf)
				got = append(got, buf[:n]...)
				bufs, kept = append(bufs, buf), append(kept, bytes.Clone(buf))
				return err
			}
			timeout := func() {
				t.Helper()
				start := time.Now()
				s.SetReadDeadline(start.Add(time.Second))
				if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
					t.Fatalf("read: %v after %v", err, time.Since(start))
				}
				s.SetReadDeadline(time.Time{})
			}
			receive := func(n int) {
				t.Helper()
				for len(got) < n {
					if err := read(); err != nil {
						t.Fatal(err)
					}
				}
			}
			// Nothing of the payload has come, but the Read's buffer is lent for it.
			time.AfterFunc(time.Millisecond, func() { p.write(string(appendFrameHeader(nil, len(payload), http2.FrameData, 0, 1))) })
			timeout()
			p.write(string(payload[:20_000]))
			start := time.Now()
			receive(20_000)
			if d := time.Since(start); d != 0 {
				t.Errorf("what came was read after %v", d)
			}
			timeout()
			go p.write(string(payload[20_000:]))
			receive(len(payload))
			synctest.Wait()
			for i := range bufs {
				if !bytes.Equal(bufs[i], kept[i]) {
					t.Error("a buffer was written to after its Read returned")
				}
			}
			if !bytes.Equal(got, payload) {
				t.Error("what was read is not what was sent")
			}
			p.wantAlive()
		}))
	}
}

// TestSomebodyAlwaysReads: frames are processed although the application reads nothing, at once if
// anybody waits for what they bring.
func TestSomebodyAlwaysReads(t *testing.T) {
	// busy is a stream that just read for the connection, and does not for now.
	busy := func(t *testing.T) (*peer, *Conn, *Stream) {
		streams := make(chan *Stream, 1)
		p, c := playClient(t, Config{}, hold(streams))
		p.connect(1)
		p.wantStatus(1, 200, false)
		s := <-streams
		for range 2 * longStreak {
			p.fr.WriteData(1, false, []byte("x"))
			if _, err := s.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
		}
		return p, c, s
	}
	t.Run("PING", inBubble(func(t *testing.T) {
		p, _, _ := busy(t)
		start := time.Now()
		p.wantAlive()
		if d := time.Since(start); d > 2*maxAbsence {
			t.Errorf("answered after %v", d)
		}
	}))
	t.Run("PING after much talk", inBubble(func(t *testing.T) {
		p, _, s := busy(t)
		for range 100 * busyLeads {
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				time.Sleep(maxAbsence / (2 * busyLeads)) // while s leads
				p.fr.WriteData(1, false, []byte("x"))
			}()
			if _, err := s.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			<-sent
		}
		start := time.Now()
		p.wantAlive()
		if d := time.Since(start); d > 2*busyAbsence {
			t.Errorf("answered after %v", d)
		} else if d < maxAbsence {
			t.Errorf("answered after %v: s was not left alone", d)
		}
	}))
	t.Run("window", inBubble(func(t *testing.T) {
		p, _, s := busy(t)
		start := time.Now()
		wrote := make(chan error)
		go func() {
			_, err := s.Write(make([]byte, initialWindow+1))
			wrote <- err
		}()
		for left := initialWindow; left > 0; {
			left -= len(want[*http2.DataFrame](p).Data())
		}
		p.fr.WriteWindowUpdate(0, 1)
		p.fr.WriteWindowUpdate(1, 1)
		if err := <-wrote; err != nil || time.Since(start) != 0 {
			t.Errorf("wrote after %v: %v", time.Since(start), err)
		}
	}))
	t.Run("Ping", inBubble(func(t *testing.T) {
		p, c, _ := busy(t)
		go func() {
			f := want[*http2.PingFrame](p)
			p.fr.WritePing(true, f.Data)
		}()
		if d, err := c.Ping(t.Context()); d != 0 || err != nil {
			t.Errorf("answered after %v, %v", d, err)
		}
	}))
	t.Run("CONNECT after a stream's end", inBubble(func(t *testing.T) {
		p, _, s := busy(t)
		s.Close()
		start := time.Now()
		p.wantData(1, "", true)
		p.wantReset(1, http2.ErrCodeNo)
		p.connect(3)
		p.wantStatus(3, 200, false)
		if d := time.Since(start); d != 0 {
			t.Errorf("answered after %v", d)
		}
	}))
	t.Run("Close", inBubble(func(t *testing.T) {
		_, c, s := busy(t)
		start := time.Now()
		c.Close()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) || time.Since(start) != 0 {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
	}))
}

// unstoppable is a connection whose reads cannot be interrupted.
type unstoppable struct{ net.Conn }

func (unstoppable) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// TestUnstoppableCarrier: where reads cannot be interrupted, no stream leads, and deadlines work all the same.
func TestUnstoppableCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := openPair(t, func(testing.TB) (net.Conn, net.Conn) {
			c, s := memnet.Pipe()
			return unstoppable{c}, unstoppable{s}
		}, Config{})
		buf := make([]byte, 100_000)
		for range 3 {
			a.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := a.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("read: %v", err)
			}
			a.SetReadDeadline(time.Time{})
			go b.Write(buf)
			if _, err := io.ReadFull(a, make([]byte, len(buf))); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestReadBuffer mixes reads into pooled buffers with others, against the oracle of what was sent.
func TestReadBuffer(t *testing.T) {
	for name, w := range testWires {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handle, accepted := accepting()
			client, _ := newPair(t, w, Config{}, handle)
			var all sync.WaitGroup
			for i := range uint64(8) {
				a, b := mustOpen(t, client), <-accepted
				sent := randomBytes(i, 1<<20)
				all.Go(func() {
					defer a.Close()
					rng := rand.New(rand.NewPCG(i, 0))
					for rest := sent; len(rest) > 0; {
						n, err := a.Write(rest[:1+rng.IntN(min(len(rest), 100_000))])
						if err != nil {
							t.Error(err)
							return
						}
						rest = rest[n:]
					}
					a.CloseWrite()
					io.Copy(io.Discard, a)
				})
				all.Go(func() {
					defer b.Close()
					if got, err := readMixed(b, rand.New(rand.NewPCG(i, 1))); !bytes.Equal(got, sent) || err != nil {
						t.Errorf("read %d bytes, %v", len(got), err)
					}
				})
			}
			all.Wait()
		})
	}
}

func readMixed(s *Stream, rng *rand.Rand) (got []byte, err error) {
	buf := make([]byte, 10_000)
	for {
		if rng.IntN(4) == 0 {
			s.SetReadDeadline(time.Now().Add(time.Duration(rng.IntN(200)) * time.Microsecond))
		}
		if rng.IntN(2) == 0 {
			var b *Buffer
			if b, err = s.ReadBuffer(); err == nil {
				got = append(got, b.Bytes()...)
				b.Release()
			}
		} else {
			var n int
			n, err = s.Read(buf)
			got = append(got, buf[:n]...)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.SetReadDeadline(time.Time{})
		case err == io.EOF:
			return got, nil
		case err != nil:
			return got, err
		}
	}
}

// TestLeaderLeavesWithItsData: a Read that has what it waits for does not go on for others for long, whatever is at hand.
func TestLeaderLeavesWithItsData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streams := make(chan *Stream, 2)
		p, _ := playClient(t, Config{}, hold(streams))
		p.connect(1)
		p.wantStatus(1, 200, false)
		first := <-streams
		p.connect(3)
		p.wantStatus(3, 200, false)
		other := <-streams
		for range 2 * longStreak { // until the background reader leaves reading to it
			p.fr.WriteData(1, false, []byte("x"))
			first.Read(make([]byte, 10))
		}
		var frames []byte
		frames = append(appendFrameHeader(frames, 1, http2.FrameData, 0, 1), 'y')
		for range 200 {
			frames = append(appendFrameHeader(frames, 991, http2.FrameData, 0, 3), make([]byte, 991)...)
		}
		go p.write(string(frames))
		if n, err := first.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		other.recv.mu.Lock()
		size := other.recv.queue.size
		other.recv.mu.Unlock()
		if size > 2*readBufferSize {
			t.Errorf("a Read that had its byte went through %d bytes of another stream first", size)
		}
		if _, err := io.ReadFull(other, make([]byte, 200*991)); err != nil { // somebody goes on
			t.Error(err)
		}
	})
}

// TestQueuesOutliveTheConnection: what streams have queued is not what comes after the connection broke.
func TestQueuesOutliveTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streams := make(chan *Stream, 1)
		p, c := playClient(t, Config{}, hold(streams))
		p.connect(1)
		p.wantStatus(1, 200, false)
		s := <-streams
		payload := randomBytes(1, 5000)
		p.fr.WriteData(1, false, payload)
		synctest.Wait()
		p.fr.WriteData(0, false, []byte("x")) // a connection error
		<-c.Done()
		p.write(string(bytes.Repeat([]byte("Z"), readBufferSize)))
		synctest.Wait()
		got := make([]byte, len(payload))
		if _, err := io.ReadFull(s, got); !bytes.Equal(got, payload) {
			t.Errorf("read %.20q…, %v", got, err)
		}
	})
}

// TestAnswerWhileOthersAreOverdue: a CONNECT that is answered while others are given up is not given up.
func TestAnswerWhileOthersAreOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playServer(t, Config{AnswerTimeout: time.Second, PingInterval: -1})
		results := make(chan error, 2)
		open := func() {
			s, err := c.Open(t.Context(), "a:1", nil)
			if err == nil {
				s.SetReadDeadline(time.Now().Add(time.Minute))
				if _, err = s.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, ErrAnswerTimeout) {
					err = nil
				}
			}
			results <- err
		}
		go open()
		time.Sleep(time.Second / 2)
		go open()
		synctest.Wait()
		c.NotifyAvailable(func() { // while the first is reset
			c.NotifyAvailable(nil)
			p.answer(3, 200, false)
			time.Sleep(time.Second)
		})
		if err := <-results; !errors.Is(err, ErrAnswerTimeout) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the first: %v", err)
		}
		if err := <-results; err != nil {
			t.Errorf("the second: %v", err)
		}
	})
}
