package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

func TestPeerGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playServer(t, Config{})
		notified := make(chan struct{}, 10)
		c.NotifyAvailable(func() { notified <- struct{}{} })
		results := make([]chan error, 2)
		for i := range results {
			results[i] = make(chan error, 1)
			go func() {
				s, err := c.Open(t.Context(), "a:1", nil)
				if err == nil {
					_, err = io.ReadAll(s)
					s.Close()
				}
				results[i] <- err
			}()
			p.wantHeaders(uint32(2*i+1), false)
		}
		p.fr.WriteGoAway(1, http2.ErrCodeNo, []byte("bye"))
		if err := <-results[1]; !errors.Is(err, ErrUnprocessed) {
			t.Errorf("Open above the last stream: %v", err)
		}
		<-notified
		if !c.Draining() || c.Available() != 0 {
			t.Errorf("Draining() = %v, Available() = %d", c.Draining(), c.Available())
		}
		if _, err := c.Open(t.Context(), "a:1", nil); !errors.Is(err, ErrUnprocessed) {
			t.Errorf("Open after GOAWAY: %v", err)
		}
		p.answer(1, 200, false)
		p.fr.WriteData(1, true, []byte("whole"))
		if err := <-results[0]; err != nil {
			t.Errorf("stream below the last: %v", err)
		}
		p.wantData(1, "", true)
		p.wantGoAway(0, http2.ErrCodeNo) // drained: the client leaves
		p.wantEnd()
		if err := c.Err(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Err() = %v", err)
		}
	})
}

func TestGoAwayThenEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playServer(t, Config{})
		opened := make(chan error)
		go func() {
			_, err := c.Open(t.Context(), "a:1", nil)
			opened <- err
		}()
		p.wantHeaders(1, false)
		p.fr.WriteGoAway(1, http2.ErrCodeInternal, []byte("out of cheese"))
		p.conn.Close()
		err := <-opened
		var ce *ConnError
		if !errors.As(err, &ce) || !ce.Remote || ce.Code != http2.ErrCodeInternal || string(ce.Debug) != "out of cheese" {
			t.Errorf("Open: %v", err)
		}
		if errors.Is(err, ErrUnprocessed) {
			t.Errorf("Open: %v, but it may have been processed", err)
		}
	})
}

// TestGoAwayBeforeBrokenPipe sends to a peer that has left after a GOAWAY: the GOAWAY counts,
// not that the write failed first.
func TestGoAwayBeforeBrokenPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		n.SetLatency("server", "client", time.Millisecond)
		l, _ := n.Listen("server:1")
		conn, err := n.Host("client").Dial(t.Context(), "tcp", "server:1")
		if err != nil {
			t.Fatal(err)
		}
		accepted, _ := l.Accept()
		p := newPeer(t, accepted.(*memnet.Conn))
		p.fr.WriteSettings()
		p.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
		p.conn.Close() // arrives in a millisecond, but writes fail at once
		c, err := NewClient(conn, Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Open(t.Context(), "a:1", nil); !errors.Is(err, ErrUnprocessed) {
			t.Errorf("Open: %v", err)
		}
	})
}

func TestServerShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playClient(t, Config{}, echo)
		p.connect(1)
		p.wantStatus(1, 200, false)
		done := make(chan error)
		go func() { done <- c.Shutdown(t.Context()) }()
		p.wantGoAway(maxStreamID, http2.ErrCodeNo)
		ping := want[*http2.PingFrame](p)
		p.connect(3) // was on its way
		p.wantStatus(3, 200, false)
		p.fr.WritePing(true, ping.Data)
		p.wantGoAway(3, http2.ErrCodeNo)
		p.connect(5) // too late: ignored, with all that follows
		p.fr.WriteData(5, true, []byte("lost"))
		for _, id := range []uint32{1, 3} {
			p.fr.WriteData(id, true, []byte("last words"))
			p.wantData(id, "last words", false)
			p.wantData(id, "", true)
		}
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		p.wantGoAway(3, http2.ErrCodeNo)
		p.wantEnd()
	})
}

func TestShutdownCutsWhenTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handle, accepted := accepting()
		client, server := newPair(t, memWire, Config{}, handle)
		a, b := mustOpen(t, client), <-accepted
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read of a cut stream: %v", err)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("read at the other end: %v", err)
		}
		if _, err := client.Open(t.Context(), "a:1", nil); !errors.Is(err, ErrUnprocessed) {
			t.Errorf("Open afterwards: %v", err)
		}
	})
}

func TestClientShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handle, accepted := accepting()
		client, server := newPair(t, memWire, Config{}, handle)
		a, b := mustOpen(t, client), <-accepted
		done := make(chan error)
		go func() { done <- client.Shutdown(t.Context()) }()
		synctest.Wait()
		if _, err := client.Open(t.Context(), "a:1", nil); !errors.Is(err, ErrUnprocessed) {
			t.Errorf("Open while draining: %v", err)
		}
		a.Write([]byte("goes on"))
		a.CloseWrite()
		if got, err := io.ReadAll(b); string(got) != "goes on" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		b.Close()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		<-server.Done()
	})
}

func TestCloseFailsEverything(t *testing.T) {
	why := errors.New("certificate of hop 2 was revoked")
	for name, tt := range map[string]struct {
		close func(*Conn)
		want  error
	}{
		"Close":          {func(c *Conn) { c.Close(); c.Close() }, net.ErrClosed},
		"CloseWithError": {func(c *Conn) { c.CloseWithError(why) }, why},
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			handle, accepted := accepting()
			client, server := newPair(t, memWire, Config{}, handle)
			a, b := mustOpen(t, client), <-accepted
			b.Write([]byte("unread"))
			synctest.Wait()
			errs := make(chan error, 3)
			go func() {
				_, err := io.Copy(a, neverEnding{})
				errs <- err
			}()
			go func() {
				_, err := client.Open(t.Context(), "a:1", nil)
				for err == nil { // the server accepts all; open until one fails
					_, err = client.Open(t.Context(), "a:1", nil)
				}
				errs <- err
			}()
			synctest.Wait()
			tt.close(client)
			for range 2 {
				if err := <-errs; !errors.Is(err, tt.want) {
					t.Errorf("blocked call: %v, want %v", err, tt.want)
				}
			}
			// At once: what was received does not matter any more.
			if _, err := a.Read(make([]byte, 10)); !errors.Is(err, tt.want) {
				t.Errorf("Read: %v, want %v", err, tt.want)
			}
			if !errors.Is(context.Cause(a.Context()), tt.want) {
				t.Errorf("context's cause: %v", context.Cause(a.Context()))
			}
			if !errors.Is(client.Err(), tt.want) {
				t.Errorf("Err() = %v", client.Err())
			}
			<-server.Done()
			var ce *ConnError
			if !errors.As(server.Err(), &ce) || !ce.Remote {
				t.Errorf("the other end: %v", server.Err())
			}
		}))
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

func TestOpenHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playServer(t, Config{PingInterval: -1})
		why := errors.New("user left")
		ctx, cancel := context.WithCancelCause(t.Context())
		opened := make(chan error)
		go func() {
			_, err := c.Open(ctx, "a:1", nil)
			opened <- err
		}()
		p.wantHeaders(1, false)
		cancel(why)
		if err := <-opened; !errors.Is(err, context.Canceled) {
			t.Errorf("Open: %v", err)
		}
		p.wantReset(1, http2.ErrCodeCancel)
		p.answer(1, 200, false) // crossed the reset
		p.fr.WriteData(1, false, []byte("late"))
		p.wantAlive()

		timeout, cancel2 := context.WithTimeout(t.Context(), time.Minute)
		defer cancel2()
		go p.next()
		if _, err := c.Open(timeout, "a:1", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open: %v", err)
		}
		if n := c.Streams(); n != 0 {
			t.Errorf("%d streams", n)
		}
	})
}

func TestRefusedStreamIsUnprocessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playServer(t, Config{})
		for id, tt := range []struct {
			code        http2.ErrCode
			unprocessed bool
		}{{http2.ErrCodeRefusedStream, true}, {http2.ErrCodeCancel, false}} {
			go func() {
				p.wantHeaders(uint32(2*id+1), false)
				p.fr.WriteRSTStream(uint32(2*id+1), tt.code)
			}()
			_, err := c.Open(t.Context(), "a:1", nil)
			synctest.Wait() // for the script
			if errors.Is(err, ErrUnprocessed) != tt.unprocessed || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%v: %v", tt.code, err)
			}
		}
	})
}

func TestOnlyStatus200IsSuccess(t *testing.T) {
	for _, status := range []int{201, 204, 299, 301, 400, 401, 503} {
		for _, endStream := range []bool{true, false} {
			t.Run(http.StatusText(status), inBubble(func(t *testing.T) {
				p, c := playServer(t, Config{})
				go func() {
					p.wantHeaders(1, false)
					p.answer(1, status, endStream)
				}()
				_, err := c.Open(t.Context(), "a:1", nil)
				synctest.Wait() // for the script
				var se *StatusError
				if !errors.As(err, &se) || se.Status != status {
					t.Fatalf("Open: %v", err)
				}
				p.wantData(1, "", true)
				if !endStream {
					p.wantReset(1, http2.ErrCodeCancel)
				}
				p.wantAlive()
				if n := c.Streams(); n != 0 {
					t.Errorf("%d streams", n)
				}
			}))
		}
	}
}

// A blackhole is two engines over a link that can stop to carry anything.
func blackhole(t *testing.T, clientCfg, serverCfg Config) (client, server *Conn, cut func()) {
	n := new(memnet.Network)
	handle, _ := accepting()
	client, server = newUnlikePair(t, func(t testing.TB) (net.Conn, net.Conn) {
		l, _ := n.Listen("b:1")
		defer l.Close()
		c, err := n.Host("a").Dial(t.Context(), "tcp", "b:1")
		if err != nil {
			t.Fatal(err)
		}
		s, _ := l.Accept()
		return c, s
	}, clientCfg, serverCfg, handle)
	synctest.Wait() // until both know each other's settings
	return client, server, func() { n.Blackhole("a", "b") }
}

func TestKeepalive(t *testing.T) {
	t.Run("dead peer", inBubble(func(t *testing.T) {
		// The server must not notice first: that would end the client's wait.
		client, server, cut := blackhole(t, Config{}, Config{PingInterval: time.Hour})
		s := mustOpen(t, client)
		time.Sleep(time.Hour)
		if client.Err() != nil || server.Err() != nil {
			t.Fatalf("a living connection ended: %v, %v", client.Err(), server.Err())
		}
		start := time.Now()
		cut()
		_, err := s.Read(make([]byte, 1))
		// At worst a PING was just answered: its 20 s, 10 s of quiet, and the
		// 20 s of the next.
		if d := time.Since(start); d > 50*time.Second {
			t.Errorf("noticed after %v", d)
		}
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() || !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("read: %v", err)
		}
		client.Close()
		<-server.Done()
	}))
	t.Run("dead idle peer", inBubble(func(t *testing.T) {
		client, server, cut := blackhole(t, Config{}, Config{})
		time.Sleep(time.Minute)
		cut()
		start := time.Now()
		<-client.Done()
		if d := time.Since(start); d > 65*time.Second {
			t.Errorf("noticed after %v", d)
		}
		<-server.Done()
	}))
	t.Run("switched off", inBubble(func(t *testing.T) {
		client, server, cut := blackhole(t, Config{PingInterval: -1}, Config{PingInterval: -1})
		cut()
		time.Sleep(time.Hour)
		if client.Err() != nil || server.Err() != nil {
			t.Errorf("ended: %v, %v", client.Err(), server.Err())
		}
	}))
}

// TestKeepaliveIsFrugal counts the PINGs of an hour.
func TestKeepaliveIsFrugal(t *testing.T) {
	for name, tt := range map[string]struct {
		open, busy bool
		min, max   int
	}{
		"busy":        {open: true, busy: true, max: 0},
		"open, quiet": {open: true, min: 60, max: 360},
		"idle":        {min: 30, max: 120},
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			p, c := playClient(t, Config{}, func(s *Stream) { s.Accept(nil); <-s.Context().Done() })
			if tt.open {
				p.connect(1)
				p.wantStatus(1, 200, false)
			}
			pings := 0
			go func() {
				p.conn.SetReadDeadline(time.Time{})
				for {
					f, err := p.fr.ReadFrame()
					if err != nil {
						return
					}
					if f, ok := f.(*http2.PingFrame); ok && !f.IsAck() {
						pings++
						p.fr.WritePing(true, f.Data)
					}
				}
			}()
			for range 720 {
				time.Sleep(5 * time.Second)
				if tt.busy {
					p.fr.WriteData(1, false, []byte("x"))
				}
			}
			synctest.Wait()
			if pings < tt.min || pings > tt.max || c.Err() != nil {
				t.Errorf("%d PINGs, want %d to %d; %v", pings, tt.min, tt.max, c.Err())
			}
		}))
	}
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		n.SetLatency("a", "b", 30*time.Millisecond)
		n.SetLatency("b", "a", 20*time.Millisecond)
		client, _ := newPair(t, func(t testing.TB) (net.Conn, net.Conn) {
			l, _ := n.Listen("b:1")
			defer l.Close()
			c, _ := n.Host("a").Dial(t.Context(), "tcp", "b:1")
			s, _ := l.Accept()
			return c, s
		}, Config{}, echo)
		if d, err := client.Ping(t.Context()); d != 50*time.Millisecond || err != nil {
			t.Errorf("Ping = %v, %v", d, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := client.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ping: %v", err)
		}
		client.Close()
		if _, err := client.Ping(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Ping after Close: %v", err)
		}
	})
}

// TestNotifyAvailableIsNotMissed: whoever asks late is told at once what he would have been told.
func TestNotifyAvailableIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memnet.Pipe()
		p := newPeer(t, b)
		c, err := NewClient(a, Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		notified := 0
		notify := func() { notified++ }
		c.NotifyAvailable(notify)
		synctest.Wait()
		if notified != 0 || c.Settled() {
			t.Errorf("told %d times, Settled() = %v before the peer's SETTINGS", notified, c.Settled())
		}
		c.NotifyAvailable(nil)
		p.fr.WriteSettings()
		synctest.Wait()
		c.NotifyAvailable(notify)
		if notified != 1 || !c.Settled() {
			t.Errorf("told %d times, Settled() = %v after the peer's SETTINGS; want once, true", notified, c.Settled())
		}
		c.Close()
		c.NotifyAvailable(notify)
		if notified < 2 {
			t.Error("not told of the end")
		}
	})
}

// TestPingsAtOnce: each is told of its own answer, however they meet.
func TestPingsAtOnce(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			c, _ := newPair(t, memWire, Config{}, func(*Stream) {})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var pings sync.WaitGroup
			for range 50 {
				pings.Go(func() {
					if _, err := c.Ping(ctx); err != nil {
						t.Error(err)
					}
				})
			}
			pings.Wait()
		})
	}
}

// TestGoAwayReachesAPeerThatTalks: closing a socket with unread bytes resets it,
// which must not cost the peer the GOAWAY.
func TestGoAwayReachesAPeerThatTalks(t *testing.T) {
	for range 20 {
		a, b := tcpWire(t)
		c, err := NewServer(b, Config{}, echo)
		if err != nil {
			t.Fatal(err)
		}
		p := &peer{t: t, fr: http2.NewFramer(a, a)}
		io.WriteString(a, http2.ClientPreface)
		p.fr.WriteSettings()
		p.fr.WriteData(1, false, []byte("on an idle stream"))
		a.Write(make([]byte, 1<<20))
		for told := false; !told; {
			f, err := p.fr.ReadFrame()
			if err != nil {
				t.Fatalf("no GOAWAY: %v", err)
			}
			_, told = f.(*http2.GoAwayFrame)
		}
		a.Close()
		c.Close()
	}
}

func TestOpenWithoutASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playServer(t, Config{PingInterval: -1})
		p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
		p.wantSettingsAck()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Open(ctx, "a:1", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open beyond the peer's limit: %v", err)
		}
		opened := make(chan error)
		go func() {
			_, err := c.Open(t.Context(), "a:1", nil)
			opened <- err
		}()
		synctest.Wait()
		p.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
		if err := <-opened; !errors.Is(err, ErrUnprocessed) {
			t.Errorf("Open that waits when the peer drains: %v", err)
		}
	})
}

func TestStreamIDsRunOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handle, _ := accepting()
		c, _ := newPair(t, memWire, Config{}, handle)
		c.mu.Lock()
		c.nextID = maxStreamID - 2
		c.recount()
		c.mu.Unlock()
		if n := c.Available(); n != 2 {
			t.Errorf("Available() = %d, want 2", n)
		}
		mustOpen(t, c).Close()
		mustOpen(t, c).Close()
		if n := c.Available(); n != 0 || !c.Draining() {
			t.Errorf("Available() = %d, Draining() = %v", n, c.Draining())
		}
		if _, err := c.Open(t.Context(), "a:1", nil); !errors.Is(err, ErrUnprocessed) {
			t.Errorf("Open: %v", err)
		}
	})
}

func TestServerCannotOpen(t *testing.T) {
	_, server := newPair(t, memWire, Config{}, echo)
	if s, err := server.Open(t.Context(), "a:1", nil); err == nil {
		s.Close()
		t.Error("Open succeeds")
	}
}

// TestHandshakeFails: a TLS handshake that was left to NewClient fails there, and the
// connection is closed.
func TestHandshakeFails(t *testing.T) {
	a, b := memnet.Pipe()
	b.Write([]byte("this is not TLS, it is a line of text"))
	b.CloseWrite()
	if _, err := NewClient(TLSClient(a, &tls.Config{ServerName: "test"}), Config{}); err == nil {
		t.Error("NewClient succeeds")
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is left open: %v", err)
	}
	b.Close()
}

func TestErrorsSayWhatHappened(t *testing.T) {
	for want, err := range map[string]error{
		"h2: CONNECT answered with status 503":                               &StatusError{Status: 503},
		"h2: stream 3 reset by the peer (CANCEL)":                            &StreamError{ID: 3, Code: http2.ErrCodeCancel, Remote: true},
		"h2: stream 3 reset locally (CANCEL): context canceled":              &StreamError{ID: 3, Code: http2.ErrCodeCancel, Cause: context.Canceled},
		"h2: connection ended: bad frame (PROTOCOL_ERROR)":                   connError(http2.ErrCodeProtocol, "bad frame"),
		`h2: connection ended by the peer: GOAWAY (INTERNAL_ERROR) "oops"`:   &ConnError{Code: http2.ErrCodeInternal, Remote: true, Reason: "GOAWAY", Debug: []byte("oops")},
		"h2: connection ended by the peer: transport closed: unexpected EOF": transportError(io.EOF),
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}

// TestOnEnd: told once, whether the stream ended before or after it was asked.
func TestOnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handle, accepted := accepting()
		client, _ := newPair(t, memWire, Config{}, handle)
		for _, early := range []bool{true, false} {
			a := mustOpen(t, client)
			b := <-accepted
			told := 0
			if early {
				a.OnEnd(func() { told++ })
				a.OnEnd(func() { told *= 10 })
			}
			a.Write([]byte("12345"))
			a.CloseWrite()
			b.Write([]byte("123"))
			synctest.Wait()
			if told != 0 || a.Cause() != nil {
				t.Fatalf("told %d times of a stream that has not ended, cause %v", told, a.Cause())
			}
			b.CloseWrite()
			synctest.Wait()
			if !early {
				a.OnEnd(func() { told++ })
				a.OnEnd(func() { told *= 10 })
			}
			a.Close()
			b.Close()
			synctest.Wait()
			sent, received := a.Transferred() // though nothing was read
			if told != 10 || a.Cause() != nil || sent != 5 || received != 3 {
				t.Errorf("told %d, want once each and in order; cause %v, %d bytes sent, %d received", told, a.Cause(), sent, received)
			}
		}
	})
}

// TestSlotsAreOfOneMoment: while streams come and go, those that are open and those that may be add up to what the peer allows.
func TestSlotsAreOfOneMoment(t *testing.T) {
	const limit = 100
	handle, accepted := accepting()
	client, _ := newPair(t, memWire, Config{MaxConcurrentStreams: limit}, handle)
	mustOpen(t, client)
	<-accepted
	waitFor(t, client.Settled)

	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			s, err := client.Open(t.Context(), "busy:1", nil)
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
			(<-accepted).Close()
		}
	}()
	for {
		if free, open := client.Slots(); free+open != limit {
			t.Fatalf("%d streams are open, and %d more may be: not %d together", open, free, limit)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
