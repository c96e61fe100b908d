package h2

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

const (
	frameHeaderSize = 9 // RFC 9113 §4.1
	maxSendFrame    = 64 << 10
	tlsRecordSize   = 16 << 10

	// outboxLimit is how much may wait to be sent before writers have to wait.
	outboxLimit = 256 << 10
)

// An outbox gathers frames to be sent. Conn.mu guards it.
//
// Whoever adds frames sends them, together with what others add meanwhile; if
// somebody is at it already, adding is enough. So one system call and one TLS
// record carry the frames of many streams, and a lone writer needs no other goroutine.
//
// Small frames that others wait for, such as HEADERS, PING and WINDOW_UPDATE, are urgent: they overtake
// the DATA that is queued. DATA, RST_STREAM and the acknowledgement of SETTINGS keep
// their order.
type outbox struct {
	batch
	answers  int            // so many bytes of the batch answer the peer's frames
	ends     int            // so many streams have ended of which the peer may hear by the batch
	waiting  []windowUpdate // go with the next batch
	until    atomic.Int64   // they may wait until so much DATA has come, ever; 0: none waits. Read without Conn.mu
	flushing bool           // somebody sends
	blocked  time.Time      // since when the transport has taken nothing; zero if it takes all
	err      error          // the transport failed
	line     line
	last     dataFrame
}

// A batch is what is sent at once.
type batch struct {
	urgent, queued lane
}

// A lane holds frames that keep their order.
type lane struct {
	buf *buffer // nil: none
}

func (l *lane) len() int {
	if l.buf == nil {
		return 0
	}
	return len(l.buf.b)
}

// bytes returns what frames are appended to.
func (l *lane) bytes() *[]byte {
	if l.buf == nil {
		l.buf = newBuffer()
	}
	return &l.buf.b
}

func (l *lane) free() {
	if l.buf != nil {
		l.buf.free()
		l.buf = nil
	}
}

func (b *batch) len() int { return b.urgent.len() + b.queued.len() }

// assemble returns the batch in its order, in two pieces. The first one is a whole number of TLS records, unless it is all.
func (b *batch) assemble() (first, rest []byte) {
	switch {
	case b.queued.len() == 0:
		return *b.urgent.bytes(), nil
	case b.urgent.len() == 0:
		return *b.queued.bytes(), nil
	}
	urgent, queued := b.urgent.bytes(), *b.queued.bytes()
	n := min(len(queued), tlsRecordSize-len(*urgent)%tlsRecordSize)
	*urgent = append(*urgent, queued[:n]...)
	return *urgent, queued[n:]
}

func (b *batch) free() {
	b.urgent.free()
	b.queued.free()
}

// A dataFrame is one in an outbox to which more can be added, as long as nothing follows.
type dataFrame struct {
	id         uint32
	start, end int // in the queued lane
}

// room is how much DATA may be added: a whole frame or nothing, lest what little
// room comes free is filled with little frames.
func (o *outbox) room() int {
	if o.len() < outboxLimit {
		return maxSendFrame
	}
	return 0
}

// take returns what was gathered, and starts anew.
func (o *outbox) take() batch {
	o.endWait()
	b := o.batch
	o.batch, o.answers, o.ends, o.last = batch{}, 0, 0, dataFrame{}
	return b
}

func (o *outbox) addUpdate(u windowUpdate) {
	o.urgent.addUint32(http2.FrameWindowUpdate, u.id, uint32(u.bytes))
}

// wait keeps u for the next batch, but not until more DATA has come.
func (o *outbox) wait(u windowUpdate, until int64) {
	o.waiting = append(o.waiting, u)
	if first := o.until.Load(); first == 0 || until < first {
		o.until.Store(until)
	}
}

// endWait adds what waits.
func (o *outbox) endWait() {
	if len(o.waiting) == 0 {
		return
	}
	for _, u := range o.waiting {
		o.addUpdate(u)
	}
	o.waiting = o.waiting[:0]
	o.until.Store(0)
}

func (o *outbox) drop() {
	b := o.take()
	b.free()
}

// appendData adds DATA: to the stream's last frame, if nothing came after that and it stays within limit.
// Many small writes that have to wait so become one frame: peers count tiny ones as abuse.
func (o *outbox) appendData(id uint32, p []byte, limit int) {
	b := o.queued.bytes()
	size := len(p)
	if f := o.last; f.id == id && f.end == len(*b) && f.end-f.start-frameHeaderSize+size <= limit {
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
func (o *outbox) barrier() {
	switch {
	case o.queued.len() == 0:
		return
	case o.urgent.len() == 0:
		o.urgent, o.queued = o.queued, o.urgent
	default:
		urgent := o.urgent.bytes()
		*urgent = append(*urgent, *o.queued.bytes()...)
		o.queued.free()
	}
	o.last = dataFrame{}
}

// add adds a frame.
func (l *lane) add(t http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	b := l.bytes()
	*b = appendFrameHeader(*b, len(payload), t, flags, id)
	*b = append(*b, payload...)
}

// addUint32 adds a frame whose payload is a number.
func (l *lane) addUint32(t http2.FrameType, id, v uint32) {
	b := l.bytes()
	*b = appendFrameHeader(*b, 4, t, 0, id)
	*b = binary.BigEndian.AppendUint32(*b, v)
}

func (l *lane) addGoAway(last uint32, code http2.ErrCode, debug string) {
	p := binary.BigEndian.AppendUint32(nil, last)
	p = binary.BigEndian.AppendUint32(p, uint32(code))
	l.add(http2.FrameGoAway, 0, 0, append(p, debug...))
}

func appendFrameHeader(b []byte, n int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	b = append(b, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	return binary.BigEndian.AppendUint32(b, id)
}

func putFrameLength(header []byte, n int) {
	header[0], header[1], header[2] = byte(n>>16), byte(n>>8), byte(n)
}
