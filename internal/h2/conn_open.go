package h2

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Open sends a CONNECT and waits for its answer. Only status 200 is success; any
// other is a [*StatusError]. While the peer allows no further stream, Open waits. When
// ctx ends first, the stream is reset and the error is ctx's; after Config.AnswerTimeout, it
// is [ErrAnswerTimeout].
//
// The error is [ErrUnprocessed] if the CONNECT may be repeated on another connection, and a
// [*HeaderError] if that is of no use.
func (c *Conn) Open(ctx context.Context, to string, h http.Header) (*Stream, error) {
	var space fewFields
	fields, err := requestFields(space[:0], to, h)
	if err != nil {
		return nil, err
	}
	s, err := c.request(ctx, to, h, fields)
	if err != nil {
		return nil, err
	}
	return s.awaitAnswer(ctx)
}

// request sends a CONNECT as soon as the peer allows another stream.
func (c *Conn) request(ctx context.Context, to string, h http.Header, fields []hpack.HeaderField) (*Stream, error) {
	asked := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.freeSlots() == 0 {
		if err := c.awaitSlot(ctx); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err := c.checkHeaderSize(fields); err != nil {
		return nil, err
	}
	if int64(len(c.streams)+c.out.ends) >= c.peer.maxStreams {
		c.out.barrier() // the peer must see first that another stream has ended (RFC 9113 §5.1.2)
	}
	s := c.newStream(c.nextID, to, h)
	c.nextID += 2
	c.streams[s.id] = s
	c.recount()
	c.expectAnswer(s, asked)
	c.appendHeaders(s.id, fields, false)
	c.flush(true)
	return s, nil
}

// awaitSlot waits until a stream may be opened. c.mu is held, and released
// meanwhile.
func (c *Conn) awaitSlot(ctx context.Context) error {
	limited := ctx
	if d := c.cfg.AnswerTimeout; d > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	stop := context.AfterFunc(limited, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.slotFreed.Broadcast()
	})
	defer stop()
	c.turn.follow()
	defer c.turn.unfollow()
	for {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case limited.Err() != nil:
			return ErrAnswerTimeout
		case !c.client:
			return fmt.Errorf("h2: a server cannot open streams")
		case c.err != nil:
			return fmt.Errorf("%w: %w", ErrUnprocessed, c.err)
		case c.out.err != nil:
			return fmt.Errorf("%w: %w", ErrUnprocessed, c.out.err)
		case c.leaving():
			return fmt.Errorf("%w: the connection is draining", ErrUnprocessed)
		case c.nextID > maxStreamID:
			return fmt.Errorf("%w: the connection has no stream ids left", ErrUnprocessed)
		case c.freeSlots() > 0:
			return nil
		}
		c.slotFreed.Wait()
	}
}

// checkHeaderSize fails if the peer does not take that many header fields
// (RFC 9113 §6.5.2). c.mu is held.
func (c *Conn) checkHeaderSize(fields []hpack.HeaderField) error {
	if c.peer.maxHeaderList == 0 {
		return nil
	}
	var size uint32
	for _, f := range fields {
		size += f.Size()
	}
	if size > c.peer.maxHeaderList {
		return fmt.Errorf("h2: header of %d bytes, the peer takes %d", size, c.peer.maxHeaderList)
	}
	return nil
}

// awaitAnswer waits for the response to a CONNECT.
func (s *Stream) awaitAnswer(ctx context.Context) (*Stream, error) {
	if err := s.awaitResponse(ctx); err != nil {
		if ctx.Err() != nil {
			s.Reset(http2.ErrCodeCancel, context.Cause(ctx))
		}
		return nil, err
	}
	s.c.mu.Lock()
	code, header := s.status, s.response
	s.taken = code == http.StatusOK
	tell := s.tell()
	s.c.mu.Unlock()
	if code != http.StatusOK {
		s.Close()
		return nil, &StatusError{Status: code, Header: header}
	}
	if tell {
		s.tellEnd()
	}
	return s, nil
}

func (s *Stream) awaitResponse(ctx context.Context) error {
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, s.stirUp)
		defer stop()
	}
	r := &s.recv
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opening = true
	defer func() { r.opening = false }()
	for {
		switch {
		case r.answered:
			return nil
		case r.err != nil:
			return r.err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		s.wait(nil)
	}
}

// answer keeps the response.
func (s *Stream) answer(code int, h http.Header) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.answered, s.status, s.response = true, code, h
	s.c.prepayResets()
}

// wakeOpener lets Open look at the response.
func (s *Stream) wakeOpener() {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	s.recv.answered = true
	s.wake()
}
