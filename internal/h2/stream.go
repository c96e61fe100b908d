package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A Stream is one CONNECT tunnel. Its methods may be called concurrently.
type Stream struct {
	c         *Conn
	id        uint32
	authority string
	request   http.Header

	recv recvHalf // has its own lock

	// Conn.mu guards what follows.
	send       sendHalf
	status     int
	response   http.Header
	answered   bool           // the response was sent or has come
	remoteEnd  bool           // the peer sent END_STREAM
	readClosed bool           // CloseRead was called
	over       bool           // both directions have ended
	taken      bool           // Open returned it, or Accept was called
	told       bool           // Config.StreamEnded was, or is about to be
	left       departure      // what streamGone is to do
	onEnd      func()         // see OnEnd; not changed once told
	cause      error          // why, if not by END_STREAM both ways
	answerBy   time.Duration  // clients: after Conn.born the answer must have come; 0 if at any time
	context    *streamContext // nil until asked for
}

type streamContext struct {
	context.Context
	cancel context.CancelCauseFunc
}

var _ net.Conn = (*Stream)(nil)

var (
	errUnanswered = errors.New("h2: the CONNECT has not been answered")
	errAnswered   = errors.New("h2: the CONNECT has been answered already")
)

// newStream makes a stream that is not yet known to the connection. c.mu is held.
func (c *Conn) newStream(id uint32, to string, request http.Header) *Stream {
	s := &Stream{c: c, id: id, authority: to, request: request}
	s.recv.changed.L = &s.recv.mu
	s.recv.window = int64(c.cfg.streamWindow())
	if !c.settingsAcked { // the peer may still go by the initial value
		doubtful := max(0, initialWindow-s.recv.window)
		s.recv.doubtful = int32(doubtful)
		s.recv.window += doubtful
	}
	s.send.changed.L = &c.mu
	s.send.window = c.peer.initialWindow
	return s
}

// forget ends a stream: its slot is free. cause is nil if both sides sent END_STREAM.
// c.mu is held; the caller calls streamGone when it has released it.
func (c *Conn) forget(s *Stream, cause error) {
	if s.over {
		return
	}
	delete(c.streams, s.id)
	if c.out.len() > 0 { // the peer may not have been told
		c.out.ends++
	}
	c.recount()
	s.finish(cause)
	c.slotFreed.Broadcast()
	if len(c.streams) == 0 {
		c.drained.Broadcast()
	}
	s.left = departure{tell: s.tell(), drained: c.peerLeft()}
}

// A departure is what follows the end of a stream. Whoever ended it by forget deals with it, and nobody else: it needs no lock.
type departure struct {
	tell    bool // somebody wants to know of the end
	drained bool // it was the last stream of a connection that the peer drains
}

// peerLeft reports whether the peer drains the connection and no stream is left. c.mu is held.
func (c *Conn) peerLeft() bool { return c.peerGoAway != nil && c.err == nil && len(c.streams) == 0 }

// finish ends a stream's sending half and its context. c.mu is held.
func (s *Stream) finish(cause error) {
	s.over, s.cause = true, cause
	s.c.recent.remove(s)
	if s.send.err == nil {
		s.send.err = cause
	}
	s.send.deadline.stop()
	s.send.changed.Broadcast()
	if s.context != nil {
		s.context.cancel(cause)
	}
}

// streamGone does what follows the end of a stream. c.mu is not held.
func (c *Conn) streamGone(s *Stream) {
	if s.left.tell {
		s.tellEnd()
	}
	if f := c.notify; f != nil && (!s.left.tell || c.cfg.StreamEnded == nil) { // set before there were streams
		f()
	}
	if s.left.drained {
		c.peerDrained()
	}
	if !c.client {
		c.turn.call() // another stream may be opened, and one that is gone does not read any more
	}
}

// tell reports whether tellEnd is to be called now that s has ended, which is once, if s
// ever was anybody's. c.mu is held.
func (s *Stream) tell() bool {
	if !s.over || !s.taken || s.told {
		return false
	}
	s.told = true
	return true
}

// tellEnd tells those who want to know of the end of s. c.mu is not held.
func (s *Stream) tellEnd() {
	if f := s.c.cfg.StreamEnded; f != nil {
		f(s)
	}
	if s.onEnd != nil {
		s.onEnd()
	}
}

// OnEnd has f called when both directions of a stream have ended that Open returned or that was
// accepted, after Config.StreamEnded, on the goroutine that ended it; at once if they have
// ended already. f is called once, after those that were given before, without locks held, and must not block.
func (s *Stream) OnEnd(f func()) {
	s.c.mu.Lock()
	told := s.told
	if before := s.onEnd; !told && before != nil {
		s.onEnd = func() { before(); f() }
	} else if !told {
		s.onEnd = f
	}
	s.c.mu.Unlock()
	if told {
		f()
	}
}

// Cause says why the stream ended, as Context does: nil if both directions ended with END_STREAM, or we
// read all that we wanted, and while the stream has not ended.
func (s *Stream) Cause() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.remoteEnd && s.send.ended {
		return nil
	}
	return s.cause
}

// Transferred returns how many bytes of DATA were sent, or will be, and how many were received, whether or not they
// were read.
func (s *Stream) Transferred() (sent, received int64) {
	s.c.mu.Lock()
	sent = s.send.sent
	s.c.mu.Unlock()
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return sent, s.recv.received
}

// idle reports whether a stream was never opened (RFC 9113 §5.1). c.mu is held.
func (c *Conn) idle(id uint32) bool {
	if id%2 == 0 {
		return true
	}
	if c.client {
		return id >= c.nextID
	}
	return id > c.lastID
}

// Accept answers the CONNECT with status 200. Servers only.
func (s *Stream) Accept(h http.Header) error {
	var space fewFields
	fields, err := responseFields(space[:0], http.StatusOK, h)
	if err != nil {
		return err
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.sendAnswer(fields, false); err != nil {
		return err
	}
	s.status, s.response, s.taken = http.StatusOK, h, true
	c.flush(true)
	return nil
}

// Reject answers the CONNECT with a status other than 200 and ends the stream.
// Servers only.
func (s *Stream) Reject(code int, h http.Header) error {
	if code == http.StatusOK {
		return fmt.Errorf("h2: Reject with status %d", code)
	}
	c := s.c
	c.mu.Lock()
	if err := s.refuse(code, h); err != nil {
		c.mu.Unlock()
		return err
	}
	c.forget(s, net.ErrClosed)
	c.flush(true)
	c.mu.Unlock()

	s.endRecv(net.ErrClosed, true)
	c.streamGone(s)
	return nil
}

// refuse queues a response that ends the stream. c.mu is held.
func (s *Stream) refuse(code int, h http.Header) error {
	var space fewFields
	fields, err := responseFields(space[:0], code, h)
	if err != nil {
		return err
	}
	if err := s.sendAnswer(fields, true); err != nil {
		return err
	}
	s.status, s.response = code, h
	s.send.ended = true
	s.stopPeer(http2.ErrCodeNo) // RFC 9113 §8.1
	return nil
}

// sendAnswer queues a response. c.mu is held.
func (s *Stream) sendAnswer(fields []hpack.HeaderField, endStream bool) error {
	c := s.c
	switch {
	case c.client || s.answered:
		return errAnswered
	case s.send.err != nil:
		return s.send.err
	}
	if err := c.checkHeaderSize(fields); err != nil {
		return err
	}
	s.answered = true
	c.prepayResets()
	c.appendHeaders(s.id, fields, endStream)
	return nil
}

// stopPeer resets the stream if the peer has not ended its direction. c.mu is held.
func (s *Stream) stopPeer(code http2.ErrCode) {
	if !s.remoteEnd {
		s.c.appendReset(s.id, code)
		s.c.forgotten.add(s.id)
	}
}

// stopCode tells a peer that we need no more: a server may say NO_ERROR after
// its answer is complete (RFC 9113 §8.1), a client says CANCEL.
func (c *Conn) stopCode() http2.ErrCode {
	if c.client {
		return http2.ErrCodeCancel
	}
	return http2.ErrCodeNo
}

// Close ends both directions. What was written is still delivered, followed by
// END_STREAM; if the peer has not ended its own direction, it is told to stop by
// a RST_STREAM. A server's unanswered stream is rejected with status 500.
func (s *Stream) Close() error {
	// Before the peer is told: its END_STREAM must not make Read say io.EOF.
	s.endRecv(net.ErrClosed, true)
	c := s.c
	c.mu.Lock()
	if s.over {
		s.send.err = net.ErrClosed
		c.mu.Unlock()
		return nil
	}
	s.endSending()
	c.forget(s, net.ErrClosed)
	c.flush(true)
	c.mu.Unlock()
	c.streamGone(s)
	return nil
}

// endSending queues the end of both directions, in the peer's eyes. c.mu is held.
func (s *Stream) endSending() {
	c := s.c
	if c.client || s.answered {
		s.endStream()
		s.stopPeer(c.stopCode())
	} else if s.refuse(http.StatusInternalServerError, nil) != nil {
		c.appendReset(s.id, http2.ErrCodeInternal) // the peer takes no header at all
		c.forgotten.add(s.id)
	}
}

// CloseWrite ends the sending direction with END_STREAM (RFC 9113 §8.5).
// Reading goes on.
func (s *Stream) CloseWrite() error {
	c := s.c
	c.mu.Lock()
	switch {
	case s.send.ended:
		c.mu.Unlock()
		return nil
	case s.send.err != nil:
		defer c.mu.Unlock()
		return s.send.err
	case !s.answered:
		c.mu.Unlock()
		return errUnanswered
	}
	s.endStream()
	if s.readClosed {
		s.stopPeer(c.stopCode())
	}
	if s.remoteEnd || s.readClosed {
		c.forget(s, nil)
	}
	over := s.over
	c.flush(true)
	c.mu.Unlock()
	if over {
		c.streamGone(s)
	}
	return nil
}

// endStream queues END_STREAM. c.mu is held.
func (s *Stream) endStream() {
	if !s.send.ended {
		s.send.ended = true
		s.c.out.queued.add(http2.FrameData, http2.FlagDataEndStream, s.id, nil)
		s.send.changed.Broadcast()
	}
}

// CloseRead drops what was received and what still comes; Read reports io.EOF.
// Writing goes on. HTTP/2 cannot stop one direction alone: the peer is told to
// stop, by a RST_STREAM, only once the sending direction has ended as well.
func (s *Stream) CloseRead() error {
	s.returnCredit(s.endRecv(io.EOF, true))
	c := s.c
	c.mu.Lock()
	s.readClosed = true
	stop := !s.over && s.send.ended
	if stop {
		s.stopPeer(c.stopCode())
		c.forget(s, nil)
		c.flush(false)
	}
	c.mu.Unlock()
	if stop {
		c.streamGone(s)
	}
	return nil
}

// Reset aborts both directions with a RST_STREAM. Local operations fail with a
// [*StreamError] that unwraps to cause.
func (s *Stream) Reset(code http2.ErrCode, cause error) {
	err := &StreamError{ID: s.id, Code: code, Cause: cause}
	c := s.c
	c.mu.Lock()
	over := s.over
	if !over {
		c.appendReset(s.id, code)
		if !s.remoteEnd {
			c.forgotten.add(s.id)
		}
		c.forget(s, err)
	}
	c.mu.Unlock()
	// After the sending half has failed: a reader that is woken and closes the stream must not make
	// the abort look like a clean end.
	s.endRecv(err, true)
	if over {
		return
	}
	c.mu.Lock()
	c.flush(false)
	c.mu.Unlock()
	c.streamGone(s)
}

// remoteEnded processes the peer's END_STREAM. What came before stays readable.
func (s *Stream) remoteEnded() {
	c := s.c
	c.mu.Lock()
	s.remoteEnd = true
	c.recent.remove(s)
	over := s.send.ended && !s.over
	if over {
		c.forget(s, nil)
	}
	c.mu.Unlock()
	// After the stream is known to be ended: a reader that sees io.EOF and closes
	// the stream must not reset it.
	s.end()
	if over {
		c.streamGone(s)
	}
}

func (s *Stream) hasRemoteEnd() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.remoteEnd
}

// Authority returns the :authority of the CONNECT.
func (s *Stream) Authority() string { return s.authority }

// RequestHeader returns the CONNECT's header fields. They must not be changed.
func (s *Stream) RequestHeader() http.Header { return s.request }

// ResponseHeader returns the answer's header fields. They must not be changed.
func (s *Stream) ResponseHeader() http.Header {
	if s.c.client {
		return s.response // it was there before Open returned s
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.response
}

// Context is done when both directions of the stream, or its connection, have
// ended. [context.Cause] says why; context.Canceled after a clean end.
func (s *Stream) Context() context.Context {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.context == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		s.context = &streamContext{ctx, cancel}
		if s.over {
			cancel(s.cause)
		}
	}
	return s.context
}

// Conn returns the connection that carries the stream.
func (s *Stream) Conn() *Conn { return s.c }

// LocalAddr returns our address of the connection that carries the stream.
func (s *Stream) LocalAddr() net.Addr { return s.c.LocalAddr() }

// RemoteAddr returns the peer's address of that connection.
func (s *Stream) RemoteAddr() net.Addr { return s.c.RemoteAddr() }

// SetDeadline sets both deadlines.
func (s *Stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	_ = s.SetWriteDeadline(t)
	return nil
}

// recentIDs is a set of streams that remembers the last few exactly. Of older ones
// it knows only that they may be in it.
type recentIDs struct {
	ids   [256]uint32
	next  int
	older uint32 // the highest that had to make room
}

func (r *recentIDs) add(id uint32) {
	if !r.mayHave(id) {
		r.older = max(r.older, r.ids[r.next])
		r.ids[r.next] = id
		r.next = (r.next + 1) % len(r.ids)
	}
}

func (r *recentIDs) mayHave(id uint32) bool {
	return id <= r.older || slices.Contains(r.ids[:], id)
}
