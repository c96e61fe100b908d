package h2

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// readSlowly lets the engine wait for 4 s, then reads all DATA up to END_STREAM, the final GOAWAY and
// the end. It returns the number of bytes.
func (p *peer) readSlowly() (n int) {
	p.t.Helper()
	time.Sleep(4 * time.Second)
	for ended, left := false, false; ; {
		f, err := p.next()
		switch f := f.(type) {
		case *http2.DataFrame:
			n += len(f.Data())
			ended = ended || f.StreamEnded()
		case *http2.GoAwayFrame:
			left = true
		case nil:
			if !errors.Is(err, io.EOF) || !ended || !left {
				p.t.Errorf("the connection ended with %v; END_STREAM came: %v, GOAWAY: %v", err, ended, left)
			}
			return n
		}
	}
}

// TestShutdownSendsWhatIsQueued: a stream has not ended before its bytes are on their way.
func TestShutdownSendsWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playWideServer(t)
		s, written := stalledStream(t, p, c)
		p.fr.WriteData(1, true, nil)
		synctest.Wait()
		s.CloseWrite()
		if c.Streams() != 0 {
			t.Fatal("the stream has not ended")
		}
		done := make(chan error)
		go func() { done <- c.Shutdown(t.Context()) }()
		if n := p.readSlowly(); n != written {
			t.Errorf("%d bytes arrived of %d", n, written)
		}
		p.conn.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestLeavingSendsWhatIsQueued is the same when the peer drains the connection.
func TestLeavingSendsWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playWideServer(t)
		s, written := stalledStream(t, p, c)
		p.fr.WriteGoAway(1, http2.ErrCodeNo, nil)
		p.fr.WriteData(1, true, nil)
		synctest.Wait()
		s.CloseWrite()
		if n := p.readSlowly(); n != written {
			t.Errorf("%d bytes arrived of %d", n, written)
		}
	})
}

// TestLeavingOverTCP: closing a socket on which something is unread, or still comes, resets it, and
// what lies in its buffer is lost.
func TestLeavingOverTCP(t *testing.T) {
	const size = 4 << 20
	a, b := tcpWire(t)
	defer a.Close()
	a.(*net.TCPConn).SetReadBuffer(128 << 10)
	c, err := NewServer(b, Config{}, func(s *Stream) {
		s.Accept(nil)
		s.Write(make([]byte, size))
		s.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := &peer{t: t, fr: http2.NewFramer(a, a)}
	p.enc = hpack.NewEncoder(&p.out)
	p.fr.SetMaxReadFrameSize(maxMaxFrameSize)
	io.WriteString(a, http2.ClientPreface)
	p.fr.WriteSettings(
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30},
		http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
	p.fr.WriteSettingsAck()
	p.fr.WriteWindowUpdate(0, 1<<30)
	p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: connBlock(p)})
	p.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
	received := 0
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("after %d bytes: %v", received, err)
			}
			break
		}
		if d, ok := f.(*http2.DataFrame); ok {
			received += len(d.Data())
		}
		p.fr.WritePing(true, [8]byte{9}) // the peer goes on to talk
	}
	if received != size {
		t.Errorf("%d bytes arrived of %d", received, size)
	}
}

func TestShutdownLingersNoLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := playServer(t, Config{}) // the peer never closes
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := c.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// TestCloseOfAStalledConnection: a peer that has not read for long gets no further time.
func TestCloseOfAStalledConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playWideServer(t)
		stalledStream(t, p, c)
		time.Sleep(closeGrace)
		start := time.Now()
		c.Close()
		if d := time.Since(start); d > 0 {
			t.Errorf("Close took %v", d)
		}
	})
}

// TestOpenAfterAFailedWrite: nothing can be sent any more, though the peer's words may still be read.
func TestOpenAfterAFailedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playServer(t, Config{PingInterval: -1})
		p.conn.CloseRead()
		go c.Open(t.Context(), "a:1", nil) // its write fails
		synctest.Wait()
		if !c.Draining() || c.Available() != 0 {
			t.Errorf("Draining() = %v, Available() = %d", c.Draining(), c.Available())
		}
		start := time.Now()
		if _, err := c.Open(t.Context(), "a:1", nil); !errors.Is(err, ErrUnprocessed) || time.Since(start) > 0 {
			t.Errorf("Open: %v after %v", err, time.Since(start))
		}
	})
}

// TestTransportErrorsSayWho tells the peer's doing from ours, through nested connections.
func TestTransportErrorsSayWho(t *testing.T) {
	outer := &ConnError{Code: http2.ErrCodeInternal, Remote: true, Reason: "GOAWAY", Debug: []byte("oops"), Err: io.ErrUnexpectedEOF}
	for name, tt := range map[string]struct {
		err    error
		remote bool
	}{
		"EOF":                            {io.EOF, true},
		"reset":                          {&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		"broken pipe":                    {&net.OpError{Op: "write", Err: syscall.EPIPE}, true},
		"outer stream, reset by peer":    {&StreamError{Code: http2.ErrCodeConnect, Remote: true}, true},
		"outer stream, reset locally":    {&StreamError{Code: http2.ErrCodeCancel}, false},
		"outer connection, ended by it":  {outer, true},
		"outer connection, ended by us":  {&ConnError{Reason: "closed locally", Err: net.ErrClosed}, false},
		"outer connection, our deadline": {&ConnError{Reason: "no sign of life", Err: syscall.ETIMEDOUT}, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := transportError(tt.err)
			if err.Remote != tt.remote {
				t.Errorf("Remote = %v", err.Remote)
			}
			if errors.Is(err, io.EOF) {
				t.Errorf("%v unwraps to io.EOF", err)
			}
			if tt.err != io.EOF && !errors.Is(err, tt.err) {
				t.Errorf("%v loses its cause", err)
			}
		})
	}
}
