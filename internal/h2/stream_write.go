package h2

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// A sendHalf is the sending direction of a stream. Conn.mu guards it.
type sendHalf struct {
	changed  sync.Cond // anything below
	window   int64     // we may send this much; negative after SETTINGS shrank it
	sent     int64
	busy     bool // a Write is under way
	place    place
	ended    bool  // END_STREAM is sent
	err      error // the stream is over
	deadline deadline
}

// Write waits until all of p is taken over to be sent: flow control lets
// it go, but the peer need not have received it. After a passed deadline, the bytes
// that it did not take over were not sent, and the stream goes on.
func (s *Stream) Write(p []byte) (int, error) { return s.write(p, true) }

// TryWrite takes over as much of p as goes without blocking, possibly nothing.
func (s *Stream) TryWrite(p []byte) (int, error) { return s.write(p, false) }

func (s *Stream) write(p []byte, block bool) (n int, err error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for s.send.busy && block && s.sendErr() == nil {
		s.send.changed.Wait()
	}
	if err := s.sendErr(); err != nil || s.send.busy {
		return 0, err
	}
	s.send.busy = true
	for len(p) > 0 && err == nil {
		if m := c.grant(s, len(p)); m > 0 {
			c.sendData(s, p[:m])
			n += m
			p = p[m:]
		} else if block {
			c.awaitGrant(s, len(p))
		} else {
			break
		}
		err = s.sendErr()
	}
	if len(p) == 0 {
		err = nil
	}
	s.send.busy = false
	s.send.changed.Broadcast()
	c.out.line.leave(s)
	c.callWriters() // it may have left room
	c.flush(true)
	return n, err
}

// sendErr says why nothing may be sent. c.mu is held.
func (s *Stream) sendErr() error {
	switch {
	case s.send.err != nil:
		return s.send.err
	case s.send.ended:
		return syscall.EPIPE
	case !s.answered:
		return errUnanswered
	case s.send.deadline.passed():
		return os.ErrDeadlineExceeded
	}
	return nil
}

// grant returns how much of want may be sent now: both windows (RFC 9113
// §5.2.1), the size of a frame and the room in the outbox allow it, and others do not come first. c.mu is held.
func (c *Conn) grant(s *Stream, want int) int {
	if !c.out.line.mayGo(s) {
		return 0
	}
	n := min(int64(want), s.send.window, c.window)
	return max(0, min(int(n), c.peer.maxFrameSize, c.out.room()))
}

// awaitGrant waits until some of size may be sent, or anything else about the stream has changed. c.mu is
// held, and released meanwhile.
func (c *Conn) awaitGrant(s *Stream, size int) {
	c.flush(false)
	if c.grant(s, 1) > 0 || s.sendErr() != nil {
		return
	}
	if s.send.window > 0 {
		c.out.line.wait(s, size)
	} else {
		c.out.line.leave(s)
	}
	c.callWriters()
	if s.send.place.called {
		return
	}
	c.turn.follow()
	s.send.changed.Wait()
	c.turn.unfollow()
}

// sendData adds a DATA frame to the outbox. A large one is sent at once, if nobody
// else is sending: then most of it need not be copied. c.mu is held, and may be released meanwhile.
func (c *Conn) sendData(s *Stream, p []byte) {
	c.out.line.leave(s)
	c.out.line.sent(s, len(p))
	s.send.window -= int64(len(p))
	s.send.sent += int64(len(p))
	c.window -= int64(len(p))
	c.sentBytes += int64(len(p))
	c.updates = min(c.updates+updatesPerFrame+len(p)/bytesPerUpdate, maxUpdates)
	if len(p) < directWrite || c.out.flushing || c.out.err != nil {
		c.out.appendData(s.id, p, min(c.peer.maxFrameSize, maxSendFrame))
		return
	}
	c.out.endWait()
	b := c.out.queued.bytes()
	*b = appendFrameHeader(*b, len(p), http2.FrameData, 0, s.id)
	// Up to the end of a TLS record.
	n := min(len(p), tlsRecordSize-c.out.len()%tlsRecordSize)
	*b = append(*b, p[:n]...)
	c.out.flushing = true
	c.send(p[n:])
}

// SetWriteDeadline moves the deadline of Write, also after it has passed.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.over && s.send.err != nil {
		return s.send.err
	}
	s.send.deadline.set(t, s.wakeWriter)
	s.send.changed.Broadcast()
	return nil
}

func (s *Stream) wakeWriter() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.send.changed.Broadcast()
}
