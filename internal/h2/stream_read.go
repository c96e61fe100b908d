package h2

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// A recvHalf is the receiving direction of a stream. Its lock is never held
// together with Conn.mu.
type recvHalf struct {
	mu       sync.Mutex
	changed  sync.Cond // anything below
	queue    recvQueue
	window   int64 // the peer may still send this much
	credit   int64 // was read and not yet given back to the peer
	eof      bool  // END_STREAM came: io.EOF follows the queue
	err      error // follows the queue
	closed   error // fails reads at once; what comes is dropped
	answered bool  // clients: Open may look at the answer
	deadline deadline
}

// Read reads what was received, waiting for something if need be.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.recv.read(p)
	if n > 0 {
		s.c.consumed(n)
		s.returnCredit(n)
	}
	return n, err
}

func (r *recvHalf) read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.closed != nil:
			return 0, r.closed
		case r.deadline.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case r.queue.size > 0:
			return r.queue.read(p), nil
		case r.eof:
			return 0, io.EOF
		case r.err != nil:
			return 0, r.err
		}
		r.changed.Wait()
	}
}

// arrived takes the payload of a DATA frame from the window. It reports whether
// the peer kept to it.
func (s *Stream) arrived(n int) bool {
	r := &s.recv
	r.mu.Lock()
	defer r.mu.Unlock()
	r.window -= int64(n)
	return r.window >= 0
}

// deliver queues received bytes, which lie in buf.
func (s *Stream) deliver(b []byte, buf *readBuffer) {
	r := &s.recv
	r.mu.Lock()
	if r.closed == nil {
		r.queue.push(b, buf)
		r.changed.Broadcast()
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	s.c.consumed(len(b))
	s.returnCredit(len(b)) // after CloseRead, the peer may go on
}

// end marks the peer's END_STREAM.
func (r *recvHalf) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.eof = true
	r.changed.Broadcast()
}

// endRecv ends the direction with err: with abrupt at once, dropping what was
// received, else after it. It does not take back an END_STREAM that came before.
func (s *Stream) endRecv(err error, abrupt bool) {
	r := &s.recv
	r.mu.Lock()
	dropped := 0
	if r.err == nil {
		r.err = err
	}
	if abrupt {
		if r.closed == nil || errors.Is(r.closed, io.EOF) {
			r.closed = err
		}
		dropped = r.queue.drop()
		r.deadline.stop()
	}
	r.changed.Broadcast()
	r.mu.Unlock()
	if dropped > 0 {
		s.c.consumed(dropped)
	}
}

// returnCredit lets the peer send n bytes more on this stream, once it is worth
// a frame.
func (s *Stream) returnCredit(n int) {
	if n == 0 {
		return
	}
	r := &s.recv
	r.mu.Lock()
	r.credit += int64(n)
	give := r.credit
	if give < int64(s.c.cfg.streamWindow())/4 {
		r.mu.Unlock()
		return
	}
	r.credit = 0
	r.window += give
	r.mu.Unlock()

	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.over && !s.remoteEnd {
		c.appendWindowUpdate(s.id, give)
		c.flush(false)
	}
}

// consumed says that n received bytes need no memory any more, and gives the
// peer the credit that is due on the connection.
func (c *Conn) consumed(n int) {
	give := c.inflow.consumed(n)
	if give == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.appendWindowUpdate(0, give)
		c.flush(false)
	}
}

// receiver finds the stream that a DATA frame is for. Frames on a stream that
// we reset may have been on their way and are dropped (RFC 9113 §5.1).
func (c *Conn) receiver(id uint32) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[id]
	switch {
	case id == 0: // RFC 9113 §6.1
		return nil, connError(http2.ErrCodeProtocol, "DATA frame without a stream")
	case s == nil && c.idle(id): // RFC 9113 §5.1
		return nil, connError(http2.ErrCodeProtocol, "DATA on idle stream %d", id)
	case s == nil && (c.err != nil || c.forgotten.mayHave(id)):
		return nil, nil
	case s == nil || s.remoteEnd: // RFC 9113 §5.1
		return nil, streamError(id, http2.ErrCodeStreamClosed, "DATA after END_STREAM")
	case c.client && !s.answered:
		return nil, streamError(id, http2.ErrCodeProtocol, "DATA before the answer")
	}
	return s, nil
}

// SetReadDeadline moves the deadline of Read, also after it has passed.
func (s *Stream) SetReadDeadline(t time.Time) error {
	r := &s.recv
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed != nil {
		return r.closed
	}
	r.deadline.set(t, r.wake)
	r.changed.Broadcast()
	return nil
}

func (r *recvHalf) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed.Broadcast()
}
