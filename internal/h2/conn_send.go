package h2

import (
	"encoding/binary"
	"runtime"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	frameHeaderSize = 9 // RFC 9113 §4.1
	maxSendFrame    = 64 << 10
	tlsRecordSize   = 16 << 10

	// maxBatches is how often a goroutine sends what others added meanwhile: one
	// that has little to send must not be held up by those that have much.
	maxBatches = 2

	// outboxLimit is how much may wait to be sent before writers have to wait.
	outboxLimit = 256 << 10

	// directWrite is from which size on DATA is encrypted straight from the writer's buffer.
	directWrite = 32 << 10
)

// An outbox gathers frames to be sent. Conn.mu guards it.
//
// Whoever adds frames sends them, together with what others add meanwhile; if
// somebody is at it already, adding is enough. So one system call and one TLS
// record carry the frames of many streams, and a lone writer needs no other goroutine.
//
// Small frames that others wait for, such as HEADERS, PING and WINDOW_UPDATE, overtake
// the DATA that is queued. DATA, RST_STREAM and the acknowledgement of SETTINGS keep
// their order.
type outbox struct {
	buf      *buffer
	urgent   int       // so many bytes of buf are not to be overtaken
	answers  int       // so many bytes of buf answer the peer's frames
	ends     int       // so many streams have ended since buf was begun
	flushing bool      // somebody sends
	blocked  time.Time // since when the transport has taken nothing; zero if it takes all
	err      error     // the transport failed
	line     line
	last     dataFrame
}

// A dataFrame is one in an outbox to which more can be added, as long as nothing follows.
type dataFrame struct {
	id         uint32
	start, end int
}

func (o *outbox) len() int {
	if o.buf == nil {
		return 0
	}
	return len(o.buf.b)
}

// room is how much DATA may be added: a whole frame or nothing, lest what little
// room comes free is filled with little frames.
func (o *outbox) room() int {
	if o.len() < outboxLimit {
		return maxSendFrame
	}
	return 0
}

// bytes returns what frames are appended to.
func (o *outbox) bytes() *[]byte {
	if o.buf == nil {
		o.buf = newBuffer()
	}
	return &o.buf.b
}

func (o *outbox) grow(s string) {
	b := o.bytes()
	*b = append(*b, s...)
}

// take returns what was gathered, and starts anew.
func (o *outbox) take() *buffer {
	b := o.buf
	o.buf, o.urgent, o.answers, o.ends, o.last = nil, 0, 0, 0, dataFrame{}
	return b
}

func (o *outbox) drop() {
	if b := o.take(); b != nil {
		b.free()
	}
}

// overtake moves what was appended from start on ahead of the DATA that is queued.
func (o *outbox) overtake(start int) {
	b := o.buf.b
	n := len(b) - start
	if o.urgent < start {
		var space [256]byte // for nearly all
		frame := append(space[:0], b[start:]...)
		copy(b[o.urgent+n:], b[o.urgent:start])
		copy(b[o.urgent:], frame)
		if o.last.end == start {
			o.last.start += n
			o.last.end += n
		}
	}
	o.urgent += n
}

// appendData adds DATA: to the stream's last frame, if nothing came after that and it stays within limit.
// Many small writes that have to wait so become one frame: peers count tiny ones as abuse.
func (o *outbox) appendData(id uint32, p []byte, limit int) {
	b := o.bytes()
	size := len(p)
	if f := o.last; f.id == id && f.end == len(*b) && f.start >= o.urgent && f.end-f.start-frameHeaderSize+size <= limit {
		size += f.end - f.start - frameHeaderSize
		putFrameLength((*b)[f.start:], size)
	} else {
		o.last = dataFrame{id: id, start: len(*b)}
		*b = appendFrameHeader(*b, size, http2.FrameData, 0, id)
	}
	*b = append(*b, p...)
	o.last.end = len(*b)
}

// barrier keeps what is queued from being overtaken by what follows.
func (o *outbox) barrier() { o.urgent = o.len() }

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
	all, err = c.tr.send(batch.b, tail)
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

func (c *Conn) appendFrame(t http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	b := c.out.bytes()
	*b = appendFrameHeader(*b, len(payload), t, flags, id)
	*b = append(*b, payload...)
}

func (c *Conn) appendUint32Frame(t http2.FrameType, id, v uint32) {
	b := c.out.bytes()
	*b = appendFrameHeader(*b, 4, t, 0, id)
	*b = binary.BigEndian.AppendUint32(*b, v)
}

func (c *Conn) appendPing(flags http2.Flags, data []byte) {
	start := c.out.len()
	c.appendFrame(http2.FramePing, flags, 0, data)
	c.out.overtake(start)
}

func (c *Conn) appendReset(id uint32, code http2.ErrCode) {
	c.appendUint32Frame(http2.FrameRSTStream, id, uint32(code))
}

func (c *Conn) appendWindowUpdate(id uint32, n int64) {
	if n > 0 {
		start := c.out.len()
		c.appendUint32Frame(http2.FrameWindowUpdate, id, uint32(n))
		c.out.overtake(start)
	}
}

func (c *Conn) appendSettings(settings []http2.Setting) {
	var p []byte
	for _, s := range settings {
		p = binary.BigEndian.AppendUint16(p, uint16(s.ID))
		p = binary.BigEndian.AppendUint32(p, s.Val)
	}
	c.appendFrame(http2.FrameSettings, 0, 0, p)
}

func (c *Conn) appendGoAway(last uint32, code http2.ErrCode, debug string) {
	p := binary.BigEndian.AppendUint32(nil, last)
	p = binary.BigEndian.AppendUint32(p, uint32(code))
	c.appendFrame(http2.FrameGoAway, 0, 0, append(p, debug...))
}

// appendHeaders adds a HEADERS frame, and CONTINUATION frames if it is too large.
func (c *Conn) appendHeaders(id uint32, fields []hpack.HeaderField, endStream bool) {
	start := c.out.len()
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
		c.appendFrame(t, flags, id, rest[:n])
		if rest = rest[n:]; len(rest) == 0 {
			break
		}
		t, flags = http2.FrameContinuation, 0
	}
	c.out.overtake(start)
}

func appendFrameHeader(b []byte, n int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	b = append(b, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	return binary.BigEndian.AppendUint32(b, id)
}

func putFrameLength(header []byte, n int) {
	header[0], header[1], header[2] = byte(n>>16), byte(n>>8), byte(n)
}
