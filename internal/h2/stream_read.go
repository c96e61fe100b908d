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
	window   int64 // the peer may still send this much, once it has what is due to it
	credit   int64 // was read and not yet given back to the peer
	received int64
	err      error // follows the queue
	closed   error // fails reads at once; what comes is dropped
	eof      bool  // END_STREAM came: io.EOF follows the queue
	opening  bool  // clients: Open waits for the answer
	answered bool  // clients: the answer has come
	doubtful int32 // so much of window the peer has only until it knows our SETTINGS
	deadline deadline

	// A Read that is under way.
	dst     []byte // gets what comes
	got     int    // bytes of dst that came; nothing is queued unless it is full
	busy    bool
	lent    bool // the connection's reader writes into dst without the lock
	leads   bool // it reads from the connection
	follows bool // it waits for those who do

	onDemand bool    // it is a ReadBuffer: dst is buffer's, as soon as there is something for it
	buffer   *Buffer // of a ReadBuffer; nil until then
}

// Read reads what was received, waiting for something if need be.
func (s *Stream) Read(p []byte) (int, error) { return s.ReadUnless(p, nil) }

// ReadUnless is Read, but where that would wait, it asks pause first, and if that is
// true, returns os.ErrDeadlineExceeded. pause is called by the calling goroutine,
// without locks; nil is never.
func (s *Stream) ReadUnless(p []byte, pause func() bool) (int, error) {
	n, due, err := s.read(p, pause)
	s.c.consumed(n)
	s.giveCredit(due)
	return n, err
}

// read is Read but for the credit that is due to the peer.
func (s *Stream) read(p []byte, pause func() bool) (n int, due credit, err error) {
	r := &s.recv
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.begin(p); err != nil {
		return 0, credit{}, err
	}
	defer r.finish()
	n, err = s.receive(pause)
	return n, s.creditDue(n), err
}

// ReadBuffer is Read into a Buffer that the caller has to release. While it waits, it holds none.
func (s *Stream) ReadBuffer() (*Buffer, error) {
	b, due, err := s.readBuffer()
	if err != nil {
		return nil, err
	}
	s.c.consumed(b.n)
	s.giveCredit(due)
	return b, nil
}

// readBuffer is ReadBuffer but for the credit that is due to the peer.
func (s *Stream) readBuffer() (b *Buffer, due credit, err error) {
	r := &s.recv
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.begin(nil); err != nil {
		return nil, credit{}, err
	}
	defer r.finish()
	r.onDemand = true
	n, err := s.receive(nil)
	b = r.buffer
	if err != nil {
		if b != nil {
			b.Release()
		}
		return nil, credit{}, err
	}
	b.Filled(n)
	return b, s.creditDue(n), nil
}

// WriteTo writes what is received to w, until it ends. It holds no buffer while it waits.
func (s *Stream) WriteTo(w io.Writer) (n int64, err error) {
	for {
		b, err := s.ReadBuffer()
		switch {
		case err == io.EOF: //nolint:errorlint // what only wraps it is no clean end
			return n, nil
		case err != nil:
			return n, err
		}
		m, err := b.PassOn(w)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
}

// begin makes p the buffer of the one Read that is under way, after those that came before.
func (r *recvHalf) begin(p []byte) error {
	for r.busy {
		switch {
		case r.closed != nil:
			return r.closed
		case r.deadline.passed():
			return os.ErrDeadlineExceeded
		}
		r.changed.Wait()
	}
	r.busy, r.dst, r.got = true, p, 0
	return nil
}

func (r *recvHalf) finish() {
	r.busy, r.dst, r.got = false, nil, 0
	r.onDemand, r.buffer = false, nil
	r.changed.Broadcast()
}

// demand gives a ReadBuffer its Buffer, now that there is something for it.
func (r *recvHalf) demand() {
	if r.onDemand && r.buffer == nil {
		r.buffer = NewBuffer()
		r.dst = r.buffer.Space()
	}
}

// receive waits until the Read under way has something to return.
func (s *Stream) receive(pause func() bool) (int, error) {
	r := &s.recv
	for paused := false; ; {
		if r.lent {
			s.c.turn.stop(nil)
			r.changed.Wait()
			continue
		}
		n, err := r.take()
		switch {
		case n > 0 || err != nil || len(r.dst) == 0 && !r.onDemand:
			return n, err
		case paused:
			return 0, os.ErrDeadlineExceeded
		}
		paused = s.wait(pause)
	}
}

// take returns what the Read under way may return now; nothing if it has to wait.
func (r *recvHalf) take() (int, error) {
	switch {
	case r.closed != nil:
		return 0, r.closed
	case r.got > 0:
		return r.got, nil
	case r.deadline.passed():
		return 0, os.ErrDeadlineExceeded
	case len(r.dst) == 0 && !r.onDemand:
		return 0, nil
	case r.queue.size > 0:
		r.demand()
		return r.queue.read(r.dst), nil
	case r.eof:
		return 0, io.EOF
	}
	return 0, r.err
}

// settled reports whether Read or Open, whichever waits, need not wait any more.
func (r *recvHalf) settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got > 0 || r.queue.size > 0 || r.eof || r.err != nil || r.closed != nil ||
		r.opening && r.answered || r.deadline.passed()
}

func (r *recvHalf) waits() bool { return r.leads || r.follows }

// ended reports whether nothing more will come. r.mu is held.
func (r *recvHalf) ended() bool { return r.eof || r.err != nil || r.closed != nil }

// wait waits until something may have changed, as leader or follower of those who read the
// connection. It reports whether pause ended that. r.mu is held, and released meanwhile.
func (s *Stream) wait(pause func() bool) (paused bool) {
	r := &s.recv
	if s.c.turn.leadOrFollow(s) {
		r.leads = true
		r.mu.Unlock()
		paused, more := s.c.lead(s, pause)
		r.mu.Lock()
		r.leads = false
		// What is at hand will not make the transport readable again: somebody must process it now.
		s.c.turn.leave(more || r.ended())
		return paused
	}
	r.follows = true
	if pause != nil {
		r.mu.Unlock()
		paused = pause()
		r.mu.Lock()
	}
	if r.follows && !paused {
		r.changed.Wait()
	}
	s.unfollow()
	return paused
}

func (s *Stream) unfollow() {
	if s.recv.follows {
		s.recv.follows = false
		s.c.turn.unfollow()
	}
}

// wake ends the wait of a follower. r.mu is held.
func (s *Stream) wake() {
	s.unfollow()
	s.recv.changed.Broadcast()
}

// stir ends the wait of a follower or a leader. r.mu is held.
func (s *Stream) stir() {
	s.wake()
	if s.recv.leads {
		s.c.turn.stop(s)
	}
}

// stirUp is stir for timers.
func (s *Stream) stirUp() {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	s.stir()
}

// arrived takes a DATA frame of n bytes from the window. It reports whether
// the peer kept to it, and whether a Read waits for the payload. That is delivered as well, as by
// deliver, if the whole of it is given, and not empty.
func (s *Stream) arrived(n int, whole []byte, buf *readBuffer) (ok, awaited, unannounced bool) {
	r := &s.recv
	r.mu.Lock()
	r.window -= int64(n)
	ok, awaited = r.window >= 0, r.follows
	dropped := 0
	if ok && len(whole) > 0 {
		unannounced, dropped = s.store(whole, buf)
	}
	r.mu.Unlock()
	s.drop(dropped)
	return ok, awaited, unannounced
}

// lend gives the reader up to most bytes of the buffer of a waiting Read, to read
// straight into; nil if none waits, or has no room. Until giveBack, that Read does
// not return.
func (s *Stream) lend(most int) []byte {
	r := &s.recv
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.waits() || !s.c.tr.stoppable || r.closed != nil || r.queue.size > 0 {
		return nil
	}
	r.demand()
	if r.got == len(r.dst) {
		return nil
	}
	r.lent = true
	return r.dst[r.got:min(len(r.dst), r.got+most)]
}

// giveBack ends a lend: n bytes were read. It reports what deliver does.
func (s *Stream) giveBack(n int) (unannounced bool) {
	r := &s.recv
	r.mu.Lock()
	r.lent = false
	r.received += int64(n)
	if r.closed != nil {
		s.wake()
		r.mu.Unlock()
		s.drop(n)
		return false
	}
	defer r.mu.Unlock()
	r.got += n
	return s.received()
}

// received wakes the Read under way, unless more may come for it: then it reports that
// it has something, but is yet to be woken. r.mu is held.
func (s *Stream) received() (unannounced bool) {
	r := &s.recv
	if r.follows && r.got < len(r.dst) {
		return r.got > 0
	}
	s.wake()
	return false
}

// deliver takes received bytes, which lie in buf. It reports whether a Read waits that has
// some of them and may get more, but is yet to be woken.
func (s *Stream) deliver(b []byte, buf *readBuffer) (unannounced bool) {
	s.recv.mu.Lock()
	unannounced, dropped := s.store(b, buf)
	s.recv.mu.Unlock()
	s.drop(dropped)
	return unannounced
}

// store is deliver with r.mu held. It returns how many bytes nobody will read: after CloseRead, the peer may go on.
func (s *Stream) store(b []byte, buf *readBuffer) (unannounced bool, dropped int) {
	r := &s.recv
	r.received += int64(len(b))
	if r.closed != nil {
		return false, len(b)
	}
	if r.queue.size == 0 && !r.lent {
		if r.waits() {
			r.demand()
		}
		n := copy(r.dst[r.got:], b)
		r.got += n
		b = b[n:]
	}
	if len(b) > 0 {
		r.queue.push(b, buf)
	}
	return s.received(), 0
}

// drop accounts for bytes that nobody will read.
func (s *Stream) drop(n int) {
	if n > 0 {
		s.c.consumed(n)
		s.returnCredit(n)
	}
}

// end marks the peer's END_STREAM.
func (s *Stream) end() {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	s.recv.eof = true
	s.wake()
}

// endRecv ends the direction with err: with abrupt at once, dropping what was
// received, else after it. It does not take back an END_STREAM that came before.
func (s *Stream) endRecv(err error, abrupt bool) (dropped int) {
	r := &s.recv
	r.mu.Lock()
	if r.err == nil {
		r.err = err
	}
	if abrupt {
		if r.closed == nil || errors.Is(r.closed, io.EOF) {
			r.closed = err
		}
		dropped = r.queue.drop() + r.got
		r.got = 0
		r.deadline.stop()
	}
	s.stir()
	r.mu.Unlock()
	if dropped > 0 {
		s.c.consumed(dropped)
	}
	return dropped
}

// receiver finds the stream that a DATA frame is for. Frames on a stream that
// we reset may have been on their way and are dropped (RFC 9113 §5.1).
func (c *Conn) receiver(id uint32) (*Stream, error) {
	if s := c.recent.find(id); s != nil {
		return s, nil
	}
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
	c.recent.add(s)
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
	r.deadline.set(t, s.stirUp)
	s.stir()
	return nil
}
