package h2

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// updatesBefore reads frames until DATA of the engine comes, or nothing for a second, and returns the WINDOW_UPDATEs before that, by
// stream.
func (p *peer) updatesBefore() (updates map[uint32]int, data bool) {
	p.t.Helper()
	updates = make(map[uint32]int)
	for {
		p.conn.SetReadDeadline(time.Now().Add(time.Second))
		f, err := p.fr.ReadFrame()
		switch f := f.(type) {
		case *http2.WindowUpdateFrame:
			updates[f.StreamID] += int(f.Increment)
		case *http2.DataFrame:
			return updates, true
		case nil:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				p.t.Fatal(err)
			}
			return updates, false
		}
	}
}

// conversation is a peer with a stream on which it may send, and the server that it talks to.
func conversation(t *testing.T, cfg Config) (*peer, *Stream) {
	streams := make(chan *Stream, 1)
	p, _ := playClient(t, cfg, hold(streams))
	p.connect(1)
	p.wantStatus(1, 200, false)
	s := <-streams
	p.fr.WriteWindowUpdate(0, 1<<20)
	p.fr.WriteWindowUpdate(1, 1<<20)
	p.updatesBefore() // the connection's window is topped up for the first time
	return p, s
}

// say sends bytes of DATA, and has the server read them.
func (p *peer) say(s *Stream, n int) {
	p.t.Helper()
	for n > 0 {
		m := min(n, minMaxFrameSize)
		p.fr.WriteData(1, false, make([]byte, m))
		if _, err := io.ReadFull(s, make([]byte, m)); err != nil {
			p.t.Fatal(err)
		}
		n -= m
	}
	synctest.Wait()
}

// TestCreditRidesWithData: who talks to its peer sends credit with that.
func TestCreditRidesWithData(t *testing.T) {
	const window = 64 << 10
	cfg := Config{StreamWindow: window, ConnWindow: initialWindow, PingInterval: -1}
	quarter := window / 4
	answer := func(t *testing.T, s *Stream, n int) {
		if _, err := s.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("in a conversation", inBubble(func(t *testing.T) {
		p, s := conversation(t, cfg)
		answer(t, s, quarter/4)
		if updates, data := p.updatesBefore(); len(updates) != 0 || !data {
			t.Errorf("before the first answer: %v, %v", updates, data)
		}
		for range 20 {
			p.say(s, quarter)
			if updates, data := p.updatesBefore(); len(updates) != 0 || data {
				t.Fatalf("%v came alone", updates)
			}
			answer(t, s, quarter/4)
			if updates, _ := p.updatesBefore(); updates[0] != quarter || updates[1] != quarter {
				t.Fatalf("%v came with an answer, want %d on stream and connection", updates, quarter)
			}
		}
	}))
	t.Run("while we are silent", inBubble(func(t *testing.T) {
		p, s := conversation(t, cfg)
		for range 20 {
			p.say(s, quarter)
			if updates, _ := p.updatesBefore(); updates[0] != quarter || updates[1] != quarter {
				t.Fatalf("%v came, want %d on stream and connection", updates, quarter)
			}
		}
	}))
	t.Run("after a conversation", inBubble(func(t *testing.T) {
		p, s := conversation(t, cfg)
		answer(t, s, quarter/4)
		p.updatesBefore()
		p.say(s, quarter)
		if updates, _ := p.updatesBefore(); len(updates) != 0 {
			t.Fatalf("%v came alone", updates)
		}
		p.say(s, quarter)
		if updates, _ := p.updatesBefore(); updates[0] != 2*quarter || updates[1] != 2*quarter {
			t.Fatalf("%v came, want %d on stream and connection: we have not answered", updates, 2*quarter)
		}
	}))
	t.Run("when the peer has little left", inBubble(func(t *testing.T) {
		p, s := conversation(t, cfg)
		answer(t, s, quarter/4)
		p.updatesBefore()
		for range 3 { // that nobody reads yet
			p.fr.WriteData(1, false, make([]byte, quarter))
		}
		synctest.Wait()
		if _, err := io.ReadFull(s, make([]byte, 3*quarter)); err != nil {
			t.Fatal(err)
		}
		if updates, _ := p.updatesBefore(); updates[0] == 0 || updates[1] == 0 {
			t.Fatalf("%v came, although the peer may send no more than %d bytes", updates, quarter)
		}
	}))
	t.Run("while the working window shrinks", inBubble(func(t *testing.T) {
		p, s := conversation(t, Config{StreamWindow: 16 << 20, PingInterval: -1})
		f := &s.c.inflow
		setWorking := func(n int64) (left int64) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.working, f.updated = n, time.Now()
			return f.window
		}
		setWorking(512 << 10)
		p.say(s, 1) // the window is topped up
		p.updatesBefore()
		answer(t, s, 16<<10)
		p.updatesBefore()
		setWorking(512 << 10)
		p.say(s, 64<<10)
		if updates, _ := p.updatesBefore(); len(updates) != 0 {
			t.Fatalf("%v came alone", updates)
		}
		left := setWorking(minWorkingWindow) - 64<<10 // what waits does not count
		p.say(s, int(left/2))
		if updates, _ := p.updatesBefore(); updates[0] != 64<<10 {
			t.Errorf("%v came when the peer had %d bytes left", updates, left/2)
		}
	}))
}

// TestCreditDoesNotWaitForAStalledPeer: a stream that is opened before our SETTINGS are acknowledged may have less window than
// it is granted. Credit for it must not wait for what the peer cannot send.
func TestCreditDoesNotWaitForAStalledPeer(t *testing.T) {
	for _, clientReads := range []bool{true, false} {
		t.Run(fmt.Sprintf("client reads %v", clientReads), inBubble(func(t *testing.T) {
			clientConfig, serverConfig := Config{StreamWindow: 16 << 10, PingInterval: -1}, Config{PingInterval: -1}
			if !clientReads {
				clientConfig, serverConfig = serverConfig, clientConfig
			}
			handle, accepted := accepting()
			client, _ := newUnlikePair(t, memWire, clientConfig, serverConfig, handle)
			reader := mustOpen(t, client)
			writer := <-accepted
			if !clientReads {
				reader, writer = writer, reader
			}
			go reader.Write(make([]byte, 64<<10)) // so that credit may ride with DATA
			if _, err := io.ReadFull(writer, make([]byte, 64<<10)); err != nil {
				t.Fatal(err)
			}
			go writer.Write(make([]byte, 256<<10))
			reader.SetReadDeadline(time.Now().Add(time.Minute))
			if n, err := io.ReadFull(reader, make([]byte, 256<<10)); err != nil {
				t.Errorf("after %d bytes: %v", n, err)
			}
		}))
	}
}

// TestCreditIsReckonedAnew: what comes between a read and the WINDOW_UPDATE for it counts for how long that may wait.
func TestCreditIsReckonedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const half = 32 << 10
		p, s := conversation(t, Config{StreamWindow: 2 * half, PingInterval: -1})
		f := &s.c.inflow
		f.mu.Lock()
		f.working, f.updated = 8<<20, time.Now() // it is the stream's window that is to matter
		f.mu.Unlock()
		p.say(s, 1)
		p.updatesBefore()
		s.c.mu.Lock()
		s.c.talks = true
		s.c.mu.Unlock()

		send := func(n int) {
			for ; n > 0; n -= min(n, minMaxFrameSize) {
				p.fr.WriteData(1, false, make([]byte, min(n, minMaxFrameSize)))
			}
			time.Sleep(time.Second) // until the background reader has taken it
		}
		send(half - 1)
		n, due, err := s.read(make([]byte, half), nil) // s.Read, while more DATA comes
		if n != half-1 || err != nil {
			t.Fatal(n, err)
		}
		send(half)
		s.c.consumed(n)
		s.giveCredit(due)
		if _, err := io.ReadFull(s, make([]byte, half)); err != nil {
			t.Fatal(err)
		}
		if updates, _ := p.updatesBefore(); updates[1] == 0 {
			t.Error("a peer that has nothing left gets no credit")
		}
	})
}

// TestTalksNeverStall: whatever the sizes, what one end writes arrives without anything else being sent.
func TestTalksNeverStall(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), inBubble(func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			handle, accepted := accepting()
			window := 1 + rng.IntN(1<<(6+rng.IntN(12)))
			client, _ := newPair(t, memWire, Config{
				StreamWindow: window,
				ConnWindow:   []int{0, initialWindow, 300_000}[rng.IntN(3)],
				PingInterval: -1, // it would end a stall
			}, handle)
			if rng.IntN(2) == 0 {
				synctest.Wait() // until SETTINGS are exchanged
			}
			var talks [][2]*Stream
			for range 1 + rng.IntN(3) {
				talks = append(talks, [2]*Stream{mustOpen(t, client), <-accepted})
			}
			for range 40 {
				talk, from := talks[rng.IntN(len(talks))], rng.IntN(2)
				say(t, talk[from], talk[1-from], 1+rng.IntN(8*window), make([]byte, 1+rng.IntN(2*window)))
			}
		}))
	}
}

// say has so many bytes written, and reads them by way of buf.
func say(t *testing.T, from, to *Stream, size int, buf []byte) {
	t.Helper()
	go from.Write(make([]byte, size))
	to.SetReadDeadline(time.Now().Add(time.Minute))
	for left := size; left > 0; {
		n, err := to.Read(buf)
		if left -= n; err != nil {
			t.Fatalf("%d of %d bytes are missing: %v", left, size, err)
		}
	}
}
