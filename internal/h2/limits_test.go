package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// TestFloods sends floods of frames, each harmless alone, and wants the peer to be
// told to calm down. The peer reads all answers, so no limit on what is queued helps.
func TestFloods(t *testing.T) {
	floods := map[string]func(p *peer, i int){
		"rapid reset": func(p *peer, i int) {
			p.connect(uint32(3 + 2*i))
			p.fr.WriteRSTStream(uint32(3+2*i), http2.ErrCodeCancel)
		},
		"refused streams":   func(p *peer, i int) { p.connect(uint32(3 + 2*i)) },
		"malformed streams": func(p *peer, i int) { p.headers(uint32(3+2*i), true, ":method", "CONNECT") },
		"PING":              func(p *peer, i int) { p.fr.WritePing(false, [8]byte{}) },
		"SETTINGS":          func(p *peer, i int) { p.fr.WriteSettings() },
		"empty DATA":        func(p *peer, i int) { p.fr.WriteData(1, false, nil) },
		"padding only DATA": func(p *peer, i int) { p.fr.WriteDataPadded(1, false, nil, []byte{0}) },
		"PRIORITY":          func(p *peer, i int) { p.fr.WritePriority(1, http2.PriorityParam{}) },
		"unknown":           func(p *peer, i int) { p.fr.WriteRawFrame(0xfe, 0, 0, nil) },
		"WINDOW_UPDATE":     func(p *peer, i int) { p.fr.WriteWindowUpdate(1, 1) },
		"RST_STREAM":        func(p *peer, i int) { p.fr.WriteRSTStream(1, http2.ErrCodeCancel) },
		"PING ack":          func(p *peer, i int) { p.fr.WritePing(true, [8]byte{9}) },
		"GOAWAY":            func(p *peer, i int) { p.fr.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"HEADERS on reset stream": func(p *peer, i int) {
			if i == 0 {
				p.headers(3, false, ":method", "CONNECT") // is reset
			}
			p.headers(3, true, "late", "trailer")
		},
		"GET": func(p *peer, i int) {
			p.headers(uint32(3+2*i), true, ":method", "GET", ":scheme", "https", ":path", "/")
		},
	}
	for name, flood := range floods {
		t.Run(name, inBubble(func(t *testing.T) {
			p, c := playClient(t, Config{MaxConcurrentStreams: 10}, func(s *Stream) {
				if s.Accept(nil) == nil {
					<-s.Context().Done()
				}
			})
			p.connect(1)
			p.wantStatus(1, 200, false)
			go p.discard()
			for i := 0; c.Err() == nil; i++ {
				if i == 50000 {
					t.Fatal("nothing stops the flood")
				}
				flood(p, i)
				if i%100 == 0 {
					synctest.Wait()
				}
			}
			var ce *ConnError
			if !errors.As(c.Err(), &ce) || ce.Code != http2.ErrCodeEnhanceYourCalm || ce.Remote {
				t.Errorf("ended with %v", c.Err())
			}
		}))
	}
}

// TestPatientPeersAreNotFloods sends for ten minutes what a peer that behaves may send.
func TestPatientPeersAreNotFloods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playClient(t, Config{}, func(s *Stream) {
			s.Accept(nil)
			<-s.Context().Done()
		})
		go p.discard()
		for i := range 6000 {
			id := uint32(2*i + 1)
			p.connect(id)
			synctest.Wait()
			p.fr.WriteWindowUpdate(id, 100)
			p.fr.WriteWindowUpdate(0, 100)
			p.fr.WritePing(false, [8]byte{})
			p.fr.WriteRSTStream(id, http2.ErrCodeCancel)
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if err := c.Err(); err != nil {
			t.Error(err)
		}
	})
}

// TestUnreadAnswers floods with PINGs within their budget, without reading the answers.
func TestUnreadAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playClient(t, Config{PingInterval: -1}, echo)
		go func() {
			for i := 0; i < 1<<20 && c.Err() == nil; i++ {
				p.fr.WritePing(false, [8]byte{})
				time.Sleep(20 * time.Millisecond)
			}
		}()
		<-c.Done()
		var ce *ConnError
		if !errors.As(c.Err(), &ce) || ce.Code != http2.ErrCodeEnhanceYourCalm {
			t.Errorf("ended with %v", c.Err())
		}
	})
}

// TestUnreadEnds opens streams that the server ends at once, without reading that.
func TestUnreadEnds(t *testing.T) {
	handlers := map[string]func(*Stream){
		"Reject":           func(s *Stream) { s.Reject(http.StatusForbidden, nil) },
		"no answer":        func(*Stream) {},
		"Accept and Close": func(s *Stream) { s.Accept(nil); s.Close() },
	}
	for name, handle := range handlers {
		t.Run(name, inBubble(func(t *testing.T) {
			p, c := playClient(t, Config{PingInterval: -1}, handle)
			for id := uint32(1); c.Err() == nil; id += 2 {
				p.connect(id)
				synctest.Wait()
				c.mu.Lock()
				waiting := c.out.len()
				c.mu.Unlock()
				if waiting > 1<<20 {
					t.Fatalf("%d bytes wait for a peer that does not read", waiting)
				}
			}
			if ce := (*ConnError)(nil); !errors.As(c.Err(), &ce) || ce.Code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("ended with %v", c.Err())
			}
		}))
	}
}

func TestHeaderBombs(t *testing.T) {
	t.Run("CONTINUATION frames", inBubble(func(t *testing.T) {
		p, c := playClient(t, Config{}, echo)
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: connBlock(p)})
		for c.Err() == nil {
			p.fr.WriteContinuation(1, false, nil)
			synctest.Wait()
		}
		p.wantConnError(http2.ErrCodeEnhanceYourCalm)
	}))
	t.Run("CONTINUATION bytes", inBubble(func(t *testing.T) {
		p, _ := playClient(t, Config{}, echo)
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: connBlock(p)})
		for range 5 {
			p.fr.WriteContinuation(1, false, make([]byte, 16000))
		}
		p.wantConnError(http2.ErrCodeEnhanceYourCalm)
	}))
	t.Run("list expands", inBubble(func(t *testing.T) {
		p, _ := playClient(t, Config{}, func(*Stream) { t.Error("handler runs") })
		fields := []string{"bomb", string(make4k())} // enters the dynamic table; then one byte each
		for range 10000 {
			fields = append(fields, "bomb", string(make4k()))
		}
		p.connect(1, fields...)
		p.wantStatus(1, http.StatusRequestHeaderFieldsTooLarge, true)
		p.wantReset(1, http2.ErrCodeNo)
		p.wantAlive()
	}))
	t.Run("SETTINGS", inBubble(func(t *testing.T) {
		p, _ := playClient(t, Config{}, echo)
		p.fr.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 6000))
		p.wantConnError(http2.ErrCodeEnhanceYourCalm)
	}))
}

func make4k() []byte {
	b := make([]byte, 3900)
	for i := range b {
		b[i] = 'x'
	}
	return b
}

func TestServerRefusesStreamsBeyondItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p, c := playClient(t, Config{MaxConcurrentStreams: 2}, func(s *Stream) {
			s.Accept(nil)
			<-release
		})
		defer close(release)
		for id := uint32(1); id <= 3; id += 2 {
			p.connect(id)
			p.wantStatus(id, 200, false)
		}
		p.connect(5)
		p.wantReset(5, http2.ErrCodeRefusedStream)
		// A reset frees the stream's slot, but its handler goes on: those are limited as well.
		for id := uint32(1); id <= 3; id += 2 {
			p.fr.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		for id := uint32(7); id <= 9; id += 2 {
			p.connect(id)
			p.wantStatus(id, 200, false)
			p.fr.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		p.connect(11)
		p.wantReset(11, http2.ErrCodeRefusedStream)
		if n := c.Streams(); n != 0 {
			t.Errorf("%d streams", n)
		}
	})
}

func TestOpenWaitsForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handle, accepted := accepting()
		c, _ := newPair(t, memWire, Config{MaxConcurrentStreams: 1}, handle)
		notified := 0
		c.NotifyAvailable(func() { notified++ })
		if err := c.awaitSettings(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := c.Available(); n != 1 {
			t.Fatalf("Available() = %d", n)
		}
		first := mustOpen(t, c)
		if n := c.Available(); n != 0 {
			t.Fatalf("Available() = %d with one open", n)
		}
		opened := make(chan *Stream)
		go func() {
			s, err := c.Open(t.Context(), "a:1", nil)
			if err != nil {
				t.Error(err)
			}
			opened <- s
		}()
		synctest.Wait()
		select {
		case <-opened:
			t.Fatal("opened beyond the peer's limit")
		default:
		}
		(<-accepted).CloseWrite()
		first.Close()
		(<-opened).Close()
		synctest.Wait()
		if notified == 0 || c.Available() != 1 {
			t.Errorf("notified %d times, Available() = %d", notified, c.Available())
		}
	})
}

// TestTinyFramesUseLittleMemory lets a stalled stream receive its whole window byte by byte.
func TestTinyFramesUseLittleMemory(t *testing.T) {
	const window = 1 << 16
	a, b := openPair(t, memWire, Config{StreamWindow: window})
	before := heap()
	for range window {
		if _, err := a.Write([]byte{'x'}); err != nil {
			t.Fatal(err)
		}
	}
	a.CloseWrite()
	waitFor(t, func() bool { b.recv.mu.Lock(); defer b.recv.mu.Unlock(); return b.recv.eof })
	if used := heap() - before; used > 3*window {
		t.Errorf("%d bytes for a window of %d", used, window)
	}
	if n, err := io.Copy(io.Discard, b); n != window || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// waitFor waits, outside of bubbles, until something holds.
func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	for start := time.Now(); !holds(); runtime.Gosched() {
		if time.Since(start) > 30*time.Second {
			t.Fatal("waited in vain")
		}
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget{burst: 10, perSecond: 2, last: time.Now()}
		spend := func() (n int) {
			for b.spend() {
				n++
			}
			return n
		}
		got := fmt.Sprint(spend())
		time.Sleep(3 * time.Second)
		got += fmt.Sprint(" ", spend())
		time.Sleep(time.Hour)
		got += fmt.Sprint(" ", spend())
		if got != "10 5 9" && got != "10 6 10" && got != "10 5 10" {
			t.Errorf("spent %s", got)
		}
	})
}

// TestPeerThatNeverOpensItsWindow: a peer may stay alive and never let us send anything. Nothing but its own
// streams waits, no longer than their users want to, and at the end it can be cut.
func TestPeerThatNeverOpensItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playClient(t, Config{}, func(s *Stream) {
			s.Accept(nil)
			s.SetWriteDeadline(time.Now().Add(time.Hour))
			start := time.Now()
			if n, err := s.Write([]byte("hello")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Hour {
				t.Errorf("Write = %d, %v after %v", n, err, time.Since(start))
			}
			s.SetWriteDeadline(time.Time{})
			_, err := s.Write([]byte("hello"))
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write = %v when the connection is closed", err)
			}
		})
		p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		for id := uint32(1); id < 100; id += 2 {
			p.connect(id)
		}
		p.conn.SetReadDeadline(time.Time{})
		go func() { // alive
			for {
				f, err := p.fr.ReadFrame()
				if err != nil {
					return
				}
				if ping, ok := f.(*http2.PingFrame); ok && !ping.IsAck() {
					p.fr.WritePing(true, ping.Data)
				}
			}
		}()
		time.Sleep(2 * time.Hour)
		if c.Err() != nil || c.Streams() != 50 {
			t.Fatalf("%d streams, %v", c.Streams(), c.Err())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := c.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Minute+closeGrace {
			t.Errorf("Shutdown = %v after %v", err, time.Since(start))
		}
	})
}

// TestSlowPreface: a client that dribbles is given up in time, however steadily it does.
func TestSlowPreface(t *testing.T) {
	said := append([]byte(http2.ClientPreface), 0, 0, 0, 4, 0, 0, 0, 0, 0) // and empty SETTINGS
	synctest.Test(t, func(t *testing.T) {
		p, c := playRawClient(t, Config{}, echo)
		var dribble sync.WaitGroup
		dribble.Go(func() {
			for i := range said {
				time.Sleep(time.Second)
				if _, err := p.conn.Write(said[i : i+1]); err != nil {
					return
				}
			}
		})
		defer dribble.Wait()
		start := time.Now()
		<-c.Done()
		if d := time.Since(start); d != 10*time.Second || !errors.Is(c.Err(), syscall.ETIMEDOUT) {
			t.Errorf("ended after %v with %v", d, c.Err())
		}
	})
}
