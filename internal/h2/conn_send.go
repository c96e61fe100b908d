package h2

import (
	"encoding/binary"
	"runtime"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// maxBatches is how often a goroutine sends what others added meanwhile: one
	// that has little to send must not be held up by those that have much.
	maxBatches = 2

	// directWrite is from which size on DATA is encrypted straight from the writer's buffer.
	directWrite = 32 << 10
)

// flush sends what was gathered, or leaves that to whoever is already sending.
// With yield, other goroutines may first add their frames. c.mu is held, and
// released meanwhile.
func (c *Conn) flush(yield bool) {
	if c.out.err != nil {
		c.out.drop()
	}
	if c.out.flushing || c.out.len() == 0 {
		return
	}
	c.out.flushing = true
	if yield && len(c.streams) > 2 && c.out.len() < 8<<10 {
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	c.send(nil)
}

// send sends what was gathered, and tail after the first batch. What it cannot
// send without blocking, and what others add while it is at it for long, is left
// to another goroutine. c.mu is held, and released meanwhile; c.out.flushing is
// set.
func (c *Conn) send(tail []byte) {
	for range maxBatches {
		all, err := c.sendBatch(tail)
		tail = nil
		switch {
		case err != nil:
			c.sendFailed(err)
			return
		case !all:
			go c.sendBlocked()
			return
		case c.out.len() == 0:
			c.sent()
			return
		}
	}
	go c.sendBlocked()
}

// sendBatch sends what was gathered, and then tail. It reports whether all went
// without blocking. c.mu is held, and released meanwhile.
func (c *Conn) sendBatch(tail []byte) (all bool, err error) {
	batch := c.out.take()
	c.callWriters()
	c.mu.Unlock()
	first, rest := batch.assemble()
	all, err = c.tr.send(first, rest, tail)
	batch.free()
	c.mu.Lock()
	return all, err
}

// sendBlocked waits until the transport has taken the rest, and goes on sending
// until nothing is left.
func (c *Conn) sendBlocked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.finishBatch()
	for err == nil && c.out.len() > 0 {
		var all bool
		if all, err = c.sendBatch(nil); err == nil && !all {
			err = c.finishBatch()
		}
	}
	if err != nil {
		c.sendFailed(err)
		return
	}
	c.sent()
}

// finishBatch waits until the transport has taken the rest of a batch. c.mu is held, and
// released meanwhile.
func (c *Conn) finishBatch() error {
	c.out.blocked = time.Now()
	c.mu.Unlock()
	err := c.tr.finish()
	c.mu.Lock()
	c.out.blocked = time.Time{}
	return err
}

// sent ends sending. c.mu is held.
func (c *Conn) sent() {
	c.out.flushing = false
	c.callWriters()
	c.drained.Broadcast()
	if c.err != nil {
		c.shutTransport()
	}
	c.exited.Broadcast()
}

// sendFailed gives up sending because the transport failed. What the peer sent
// before, such as a GOAWAY, may still be read: that mostly ends the connection,
// and tells why. c.mu is held.
func (c *Conn) sendFailed(err error) {
	c.out.err = err
	c.recount()
	if c.err == nil {
		c.slotFreed.Broadcast() // Open fails
		c.startGrace(closeGrace, func() { c.fail(transportError(err)) })
	}
	c.sent()
}

// callWriters lets those go on that wait, as there is room and the connection's window is open. c.mu is held.
func (c *Conn) callWriters() {
	c.out.line.call(int(min(int64(outboxLimit-c.out.len()), c.window)))
}

// flushAnswer sends what was appended from start on in answer to a frame of the peer's. It
// fails if the peer makes us answer without reading the answers. c.mu is held, and
// released meanwhile.
func (c *Conn) flushAnswer(start int) error {
	c.out.answers += c.out.len() - start
	if c.out.answers > maxAnswers {
		return connError(http2.ErrCodeEnhanceYourCalm, "peer does not read our answers")
	}
	c.flush(false)
	return nil
}

// The append functions add a frame to the outbox; c.mu is held.

func (c *Conn) appendPing(flags http2.Flags, data []byte) {
	c.out.urgent.add(http2.FramePing, flags, 0, data)
}

func (c *Conn) appendReset(id uint32, code http2.ErrCode) {
	c.out.queued.addUint32(http2.FrameRSTStream, id, uint32(code))
}

func (c *Conn) appendSettings(settings []http2.Setting) {
	var p []byte
	for _, s := range settings {
		p = binary.BigEndian.AppendUint16(p, uint16(s.ID))
		p = binary.BigEndian.AppendUint32(p, s.Val)
	}
	c.out.queued.add(http2.FrameSettings, 0, 0, p)
}

// appendHeaders adds a HEADERS frame, and CONTINUATION frames if it is too large.
func (c *Conn) appendHeaders(id uint32, fields []hpack.HeaderField, endStream bool) {
	c.hpackOut.Reset()
	for _, f := range fields {
		_ = c.hpack.WriteField(f) // a bytes.Buffer never fails
	}
	t, flags := http2.FrameHeaders, http2.Flags(0)
	if endStream {
		flags = http2.FlagHeadersEndStream
	}
	for rest := c.hpackOut.Bytes(); ; {
		n := min(len(rest), c.peer.maxFrameSize)
		if n == len(rest) {
			flags |= http2.FlagHeadersEndHeaders
		}
		c.out.urgent.add(t, flags, id, rest[:n])
		if rest = rest[n:]; len(rest) == 0 {
			return
		}
		t, flags = http2.FrameContinuation, 0
	}
}
