package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/net/http2"
)

// closeGrace is how long a dying connection may take to send its last frames.
const closeGrace = 500 * time.Millisecond

// A goAway is what a GOAWAY frame said (RFC 9113 §6.8).
type goAway struct {
	lastID uint32
	code   http2.ErrCode
	debug  []byte
}

// transportError makes the error for a transport that failed. A peer that just closes it
// has not ended the streams, so that is never io.EOF.
func transportError(err error) *ConnError {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &ConnError{Remote: true, Reason: "transport closed", Err: io.ErrUnexpectedEOF}
	}
	return &ConnError{Reason: "transport failed", Err: err}
}

// fail ends the connection because it broke: streams deliver what they received, then
// fail with err.
func (c *Conn) fail(err error) { c.end(err, false) }

// end ends the connection: all streams fail with err, with abrupt at once, and the peer
// is told by a GOAWAY. It does not wait. Only the first call counts.
func (c *Conn) end(err error, abrupt bool) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = c.explain(err)
	err = c.err
	c.log.Debug("h2 connection ended", slog.Any("error", err))
	c.handshakeTimer.Stop()
	c.stopKeepalive()
	c.sayGoodbye(err)
	streams := c.streams
	c.streams = nil
	for _, s := range streams {
		s.finish(err)
	}
	c.out.writers = nil
	c.slotFreed.Broadcast()
	c.drained.Broadcast()
	c.startGrace(func() { c.tr.out.Conn.Close() })
	c.flush(false)
	if !c.out.flushing {
		c.shutTransport()
	}
	c.mu.Unlock()

	for _, s := range streams {
		s.endRecv(err, abrupt)
	}
	close(c.done)
	c.available()
}

// startGrace runs f when the dying connection has had time enough. c.mu is held.
func (c *Conn) startGrace(f func()) {
	if c.graceTimer != nil {
		c.graceTimer.Stop()
	}
	c.graceTimer = time.AfterFunc(closeGrace, f)
}

// explain adds to the end of a transport what the peer's GOAWAY said about it.
// c.mu is held.
func (c *Conn) explain(err error) error {
	var ce *ConnError
	if c.peerGoAway == nil || !errors.As(err, &ce) || ce.Code != http2.ErrCodeNo || ce.Err == nil {
		return err
	}
	return &ConnError{
		Code:   c.peerGoAway.code,
		Remote: true,
		Reason: ce.Reason + " after GOAWAY",
		Debug:  c.peerGoAway.debug,
		Err:    ce.Err,
	}
}

// sayGoodbye queues the GOAWAY that goes with err (RFC 9113 §5.4.1). c.mu is held.
func (c *Conn) sayGoodbye(err error) {
	code, reason := http2.ErrCodeNo, ""
	var ce *ConnError
	if errors.As(err, &ce) && !ce.Remote {
		code, reason = ce.Code, ce.Reason
	}
	c.appendGoAway(min(c.lastID, c.sentGoAway), code, reason)
}

// shutTransport closes the transport, or only its sending direction while the
// connection lingers. c.mu is held, and released meanwhile.
func (c *Conn) shutTransport() {
	if c.transportShut {
		return
	}
	if c.lingering {
		c.mu.Unlock()
		c.tr.closeWrite()
		c.mu.Lock()
		return
	}
	c.transportShut = true
	c.mu.Unlock()
	c.tr.Close()
	c.mu.Lock()
	c.graceTimer.Stop()
	c.exited.Broadcast()
}

// Close ends the connection at once. All its streams fail with an error that
// unwraps to net.ErrClosed. It waits for the connection's goroutines; running
// handlers are not waited for.
func (c *Conn) Close() error {
	c.CloseWithError(&ConnError{Reason: "closed locally", Err: net.ErrClosed})
	return nil
}

// CloseWithError is Close, but the streams fail with err.
func (c *Conn) CloseWithError(err error) {
	c.end(err, true)
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.reading || c.out.flushing || !c.transportShut {
		c.exited.Wait()
	}
}

// Shutdown takes no new streams, tells the peer so (RFC 9113 §6.8), waits for
// the open ones, and closes the connection. When ctx ends first, the open
// streams are cut, and ctx's error is returned.
func (c *Conn) Shutdown(ctx context.Context) error {
	if err := c.drain(ctx); err != nil {
		c.CloseWithError(&ConnError{Reason: "shut down", Err: fmt.Errorf("%w: %w", net.ErrClosed, err)})
		return err
	}
	return c.Close()
}

// drain tells the peer to open no streams and waits for the open ones to end.
func (c *Conn) drain(ctx context.Context) error {
	if c.startDraining() && !c.client {
		// First allow all streams, then, a round trip later, only those that came until
		// then: so no request that is on its way is lost (RFC 9113 §6.8).
		if _, err := c.Ping(ctx); err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		c.finalGoAway()
	}
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.drained.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.streams) > 0 {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.drained.Wait()
	}
	return nil
}

// startDraining sends the first GOAWAY, and reports whether it was the first.
func (c *Conn) startDraining() bool {
	c.mu.Lock()
	if c.draining || c.err != nil {
		c.mu.Unlock()
		return false
	}
	c.draining = true
	last := uint32(maxStreamID)
	if c.client {
		last = 0 // servers open no streams
	}
	c.appendGoAway(last, http2.ErrCodeNo, "")
	c.slotFreed.Broadcast()
	c.flush(false)
	c.mu.Unlock()
	c.available()
	return true
}

// finalGoAway refuses the streams that the peer opens from now on.
func (c *Conn) finalGoAway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.sentGoAway = c.lastID
	c.appendGoAway(c.lastID, http2.ErrCodeNo, "")
	c.flush(false)
}

// handleGoAway processes the peer's GOAWAY: streams that it did not process fail with
// ErrUnprocessed, the others go on.
func (c *Conn) handleGoAway(g *goAway) error {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil
	}
	if old := c.peerGoAway; old != nil && g.lastID > old.lastID { // RFC 9113 §6.8
		c.mu.Unlock()
		return connError(http2.ErrCodeProtocol, "GOAWAY raises the last stream id from %d to %d", old.lastID, g.lastID)
	}
	c.peerGoAway = g
	var lost []*Stream
	for id, s := range c.streams {
		if c.client && id > g.lastID {
			lost = append(lost, s)
		}
	}
	for _, s := range lost {
		c.forget(s, c.unprocessed(s.id))
	}
	c.slotFreed.Broadcast()
	c.mu.Unlock()

	for _, s := range lost {
		s.endRecv(c.unprocessed(s.id), false)
	}
	c.streamGone()
	return nil
}

func (c *Conn) unprocessed(id uint32) error {
	return &StreamError{ID: id, Code: http2.ErrCodeRefusedStream, Remote: true, Cause: ErrUnprocessed}
}

// peerDrained ends a connection that the peer drains, after its last stream:
// nothing can be done with it any more.
func (c *Conn) peerDrained() {
	c.mu.Lock()
	g := c.peerGoAway
	c.mu.Unlock()
	c.fail(&ConnError{Code: g.code, Remote: true, Reason: "GOAWAY", Debug: g.debug, Err: net.ErrClosed})
}
