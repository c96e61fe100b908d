package h2

import (
	"context"
	"encoding/binary"
	"syscall"
	"time"
)

// idleFactor is how much rarer the keepalive asks while no stream is open.
const idleFactor = 3

// startKeepalive starts to watch whether the peer is alive. Anything that comes
// from it shows that; a PING asks for it. c.mu is held.
func (c *Conn) startKeepalive() {
	if d := c.cfg.pingInterval(); d > 0 {
		c.keepalive = time.AfterFunc(d, c.checkAlive)
	}
}

func (c *Conn) stopKeepalive() {
	if c.keepalive != nil {
		c.keepalive.Stop()
	}
}

// checkAlive runs whenever the keepalive's timer fires: after an interval without a PING,
// or when the answer to one is overdue.
func (c *Conn) checkAlive() {
	if c.keepaliveExpired() {
		c.fail(&ConnError{
			Reason: "no sign of life from the peer for " + c.cfg.pingTimeout().String() + " after a PING",
			Err:    syscall.ETIMEDOUT,
		})
	}
}

func (c *Conn) keepaliveExpired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	alive := c.received.Swap(false)
	switch {
	case c.err != nil:
		return false
	case alive:
		c.pingSent, c.quietTicks = false, 0
	case c.pingSent:
		return true
	default:
		c.quietTicks++
	}
	if len(c.streams) == 0 && c.quietTicks < idleFactor || c.quietTicks == 0 {
		c.keepalive.Reset(c.cfg.pingInterval())
		return false
	}
	c.pingSent = true
	c.appendPing(0, make([]byte, 8))
	c.keepalive.Reset(c.cfg.pingTimeout())
	c.flush(false)
	return false
}

// A pingTracker knows the PINGs of [Conn.Ping] that are not answered. The keepalive's own carry 0, those that
// measure a round trip roundTripPing.
type pingTracker struct {
	last    uint64
	waiting map[uint64]chan struct{}
}

// Ping measures a round trip to the peer.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	id, answered, err := c.sendPing()
	if err != nil {
		return 0, err
	}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.pings.waiting, id)
	}()
	c.turn.follow()
	defer c.turn.unfollow()
	select {
	case <-answered:
		return time.Since(start), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-c.done:
		return 0, c.Err()
	}
}

func (c *Conn) sendPing() (id uint64, answered <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	p := &c.pings
	p.last++
	id = p.last // flush lets others in
	ch := make(chan struct{})
	if p.waiting == nil {
		p.waiting = make(map[uint64]chan struct{})
	}
	p.waiting[id] = ch
	c.appendPing(0, binary.BigEndian.AppendUint64(nil, id))
	c.flush(false)
	return id, ch, nil
}

// pingAnswered reports whether the peer was asked for this answer.
func (c *Conn) pingAnswered(data [8]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := binary.BigEndian.Uint64(data[:])
	if id == roundTripPing {
		return c.inflow.roundTripEnds(c.sentBytes)
	}
	if ch := c.pings.waiting[id]; ch != nil {
		close(ch)
		delete(c.pings.waiting, id)
		return true
	}
	return id == 0 && c.pingSent
}
