package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

const (
	// closeGrace is how long a dying connection may take to send its last frames.
	closeGrace = 500 * time.Millisecond

	// lingerTime is how long a connection that is not needed any more waits for
	// its peer to take what was sent and to close it.
	lingerTime = 5 * time.Second
)

// A goAway is what a GOAWAY frame said (RFC 9113 §6.8).
type goAway struct {
	lastID uint32
	code   http2.ErrCode
	debug  []byte
}

// transportError makes the error for a transport that failed. A peer that just closes it
// has not ended the streams, so that is never io.EOF.
func transportError(err error) *ConnError {
	if errors.Is(err, io.EOF) {
		return &ConnError{Remote: true, Reason: "transport closed", Err: io.ErrUnexpectedEOF}
	}
	return &ConnError{Remote: causedByPeer(err), Reason: "transport failed", Err: err}
}

// causedByPeer reports whether the other end of a transport made it fail, as far as
// the error of a socket, of TLS, or of a connection of ours beneath tells.
func causedByPeer(err error) bool {
	if ce, ok := errors.AsType[*ConnError](err); ok {
		return ce.Remote
	}
	if oe, ok := errors.AsType[*net.OpError](err); ok && oe.Op == "remote error" { // a TLS alert
		return true
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
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
	c.answers.stop()
	c.stopKeepalive()
	c.sayGoodbye(err)
	streams := c.streams
	c.streams = nil
	var tell []*Stream
	for _, s := range streams {
		s.finish(err)
		if s.tell() {
			tell = append(tell, s)
		}
	}
	c.recount()
	c.slotFreed.Broadcast()
	c.drained.Broadcast()
	c.startGrace(c.grace(), c.cut)
	c.flush(false)
	if !c.out.flushing {
		c.shutTransport()
	}
	c.mu.Unlock()

	for _, s := range streams {
		s.endRecv(err, abrupt)
	}
	for _, s := range tell {
		s.tellEnd()
	}
	c.inflow.close()
	c.turn.fix()
	close(c.done)
	c.available()
}

// startGrace runs f when the dying connection has had time enough. c.mu is held.
func (c *Conn) startGrace(d time.Duration, f func()) {
	if c.graceTimer != nil {
		c.graceTimer.Stop()
	}
	c.graceTimer = time.AfterFunc(d, f)
}

// grace is how long a connection that ends now may take. What the transport has
// been blocked for counts already. c.mu is held.
func (c *Conn) grace() time.Duration {
	switch {
	case c.lingering:
		return c.patience
	case c.out.blocked.IsZero():
		return closeGrace
	}
	return closeGrace - time.Since(c.out.blocked)
}

// cut ends the transport without regard to what is being sent or received.
func (c *Conn) cut() { c.tr.out.Conn.Close() }

// linger lets the reader go on after the connection's end, for d or until the peer closes it: a socket
// that is closed while something is unread, or still comes, is reset, and what the
// peer has not yet read is lost.
func (c *Conn) linger(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.lingering, c.patience = true, d
	}
}

// leave ends a connection that is not needed any more, and waits in the background
// until the peer has taken what was sent.
func (c *Conn) leave(err error, abrupt bool) {
	c.linger(lingerTime)
	c.end(err, abrupt)
}

// explain adds to the end of a transport what the peer's GOAWAY said about it.
// c.mu is held.
func (c *Conn) explain(err error) error {
	var ce *ConnError
	if c.peerGoAway == nil || !errors.As(err, &ce) || ce.Code != http2.ErrCodeNo || ce.Err == nil || errors.Is(err, net.ErrClosed) {
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
	c.out.queued.addGoAway(min(c.lastID, c.sentGoAway), code, reason)
}

// shutTransport closes the transport, or only its sending direction while the
// connection lingers. c.mu is held, and released meanwhile.
func (c *Conn) shutTransport() {
	if c.transportShut {
		return
	}
	if c.lingering {
		c.mu.Unlock()
		told := c.tr.closeWrite()
		c.mu.Lock()
		if told || c.transportShut {
			return
		}
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
	if c.lingering && c.patience > closeGrace && !c.transportShut {
		c.patience = closeGrace
		c.startGrace(c.patience, c.cut)
	}
	c.mu.Unlock()
	c.awaitExit()
}

// Wait waits until the connection has ended and nothing is left of it: Done comes before the last of what was
// sent has been taken. Close cuts that short.
func (c *Conn) Wait() { c.awaitExit() }

// awaitExit waits for the connection's goroutines.
func (c *Conn) awaitExit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.reading || c.out.flushing || !c.transportShut {
		c.exited.Wait()
	}
}

// Shutdown takes no new streams, tells the peer so (RFC 9113 §6.8), waits for
// the open ones and for their bytes to be sent, and closes the connection. When ctx ends
// first, the open streams are cut, and ctx's error is returned.
func (c *Conn) Shutdown(ctx context.Context) error {
	if err := c.drain(ctx); err != nil {
		c.CloseWithError(&ConnError{Reason: "shut down", Err: fmt.Errorf("%w: %w", net.ErrClosed, err)})
		return err
	}
	c.leave(&ConnError{Reason: "shut down", Err: net.ErrClosed}, true)
	stop := context.AfterFunc(ctx, c.cut)
	defer stop()
	c.awaitExit()
	return nil
}

// drain tells the peer to open no streams, and waits for the open ones to end and for
// what was written on them to be sent.
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
	c.turn.follow()
	defer c.turn.unfollow()
	for c.err == nil && (len(c.streams) > 0 || c.out.flushing) {
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
	c.recount()
	c.out.urgent.addGoAway(last, http2.ErrCodeNo, "")
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
	c.out.urgent.addGoAway(c.lastID, http2.ErrCodeNo, "")
	c.flush(false)
}

// handleGoAway processes the peer's GOAWAY: streams that it did not process fail with
// ErrUnprocessed, the others go on.
func (c *Conn) handleGoAway(g *goAway) error {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil //nolint:nilerr // that the connection ended before is no fault of this frame
	}
	if old := c.peerGoAway; old != nil && g.lastID > old.lastID { // RFC 9113 §6.8
		c.mu.Unlock()
		return connError(http2.ErrCodeProtocol, "GOAWAY raises the last stream id from %d to %d", old.lastID, g.lastID)
	}
	c.peerGoAway = g
	c.recount()
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
		c.streamGone(s)
	}
	c.available()
	c.peerDrained()
	return nil
}

func (c *Conn) unprocessed(id uint32) error {
	return &StreamError{ID: id, Code: http2.ErrCodeRefusedStream, Remote: true, Cause: ErrUnprocessed}
}

// peerDrained ends a connection that the peer drains, if no stream is left:
// nothing can be done with it any more.
func (c *Conn) peerDrained() {
	c.mu.Lock()
	g, left := c.peerGoAway, c.peerLeft()
	c.mu.Unlock()
	if !left {
		return
	}
	c.leave(&ConnError{Code: g.code, Remote: true, Reason: "GOAWAY", Debug: g.debug, Err: net.ErrClosed}, false)
}
