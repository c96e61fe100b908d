package h2

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
)

// The limits against floods must not hit peers that are merely busy. In these tests
// no time passes, so whatever is not prepaid must fit into a budget's burst.

func TestShortStreamsAreNoRapidReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := playClient(t, Config{}, func(s *Stream) {
			s.Accept(nil)
			io.Copy(io.Discard, s)
		})
		for i := range 5000 {
			id := uint32(2*i + 1)
			p.connect(id)
			p.wantStatus(id, 200, false)
			p.fr.WriteData(id, true, []byte("done"))
			p.fr.WriteRSTStream(id, http2.ErrCodeCancel) // as our own Close does
			synctest.Wait()
		}
		p.wantAlive()
	})
}

func TestRejectedStreamsAreNoRapidReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newPair(t, memWire, Config{}, func(s *Stream) { s.Reject(http.StatusServiceUnavailable, nil) })
		for range 5000 {
			if _, err := c.Open(t.Context(), "a:1", nil); !isStatus(err, http.StatusServiceUnavailable) {
				t.Fatal(err)
			}
		}
	})
}

func isStatus(err error, status int) bool {
	se, ok := errors.AsType[*StatusError](err)
	return ok && se.Status == status
}

// TestManyLateFrames closes more streams within a round trip than anyone would remember.
func TestManyLateFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 3000
		p, c := playServer(t, Config{})
		for i := range streams {
			id := uint32(2*i + 1)
			opened := make(chan *Stream)
			go func() { opened <- mustOpen(t, c) }()
			p.wantHeaders(id, false)
			p.answer(id, 200, false)
			(<-opened).Close()
			p.wantData(id, "", true)
			p.wantReset(id, http2.ErrCodeCancel)
		}
		for i := range streams {
			p.fr.WriteData(uint32(2*i+1), true, []byte("crossed the reset"))
		}
		p.wantAlive() // and nothing was answered
	})
}

// TestSmallReadsAreNoFlood uploads to a peer that returns credit every 4 KiB, as Go's
// server does when its handler reads as little at a time.
func TestSmallReadsAreNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 64 << 20
		p, _ := playClient(t, Config{}, func(s *Stream) {
			s.Accept(nil)
			s.Write(make([]byte, size))
			s.CloseWrite()
		})
		p.connect(1)
		p.wantStatus(1, 200, false)
		received, unread := 0, 0
		for {
			f := want[*http2.DataFrame](p)
			if f.StreamEnded() {
				break
			}
			received += len(f.Data())
			for unread += len(f.Data()); unread >= 4<<10; unread -= 4 << 10 {
				p.fr.WriteWindowUpdate(0, 4<<10)
				p.fr.WriteWindowUpdate(1, 4<<10)
			}
		}
		if received != size {
			t.Errorf("received %d bytes, want %d", received, size)
		}
	})
}

// TestOurBacklogIsNotThePeersFault queues a lot that the peer did not provoke while it
// reads nothing.
func TestOurBacklogIsNotThePeersFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playRawServer(t, Config{PingInterval: -1})
		p.handshake(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000})
		h := http.Header{"Big": {strings.Repeat("x", 8000)}}
		for range 200 {
			go c.Open(t.Context(), "a:1", h)
		}
		synctest.Wait()
		p.fr.WritePing(false, [8]byte{})
		synctest.Wait()
		if err := c.Err(); err != nil {
			t.Error(err)
		}
	})
}
