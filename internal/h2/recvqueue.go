package h2

import (
	"sync"
	"sync/atomic"
)

const (
	readBufferSize = 16 << 10
	packSize       = 4 << 10 // pieces below it are copied and packed
)

// A readBuffer is what a connection reads into. Streams keep parts of it by
// reference; it returns to its pool when nobody refers to it.
type readBuffer struct {
	b    [readBufferSize]byte
	refs atomic.Int32
}

var readBufferPool = sync.Pool{New: func() any { return new(readBuffer) }}

func newReadBuffer() *readBuffer {
	b := readBufferPool.Get().(*readBuffer)
	b.refs.Store(1)
	return b
}

func (b *readBuffer) retain() { b.refs.Add(1) }

func (b *readBuffer) release() {
	if b.refs.Add(-1) == 0 {
		readBufferPool.Put(b)
	}
}

// shared reports whether somebody else refers to the buffer.
func (b *readBuffer) shared() bool { return b.refs.Load() > 1 }

// A pack holds small pieces of one stream.
type pack [packSize]byte

var packPool = sync.Pool{New: func() any { return new(pack) }}

// A recvQueue holds the bytes that a stream received and nobody has read. Small
// pieces are copied and packed, so that a byte does not pin a whole readBuffer:
// memory is at most about five times the bytes.
type recvQueue struct {
	pieces []piece // of a fewPieces, unless there were more; nil while the queue is empty
	head   int     // pieces before it are read
	size   int
}

// fewPieces is the room that most queues need. It is pooled, so that an empty queue holds nothing.
type fewPieces [8]piece

var piecesPool = sync.Pool{New: func() any { return new(fewPieces) }}

// A piece lies in a shared readBuffer or in a pack of its own.
type piece struct {
	b      []byte
	shared *readBuffer
	pack   *pack
}

// push appends b, which lies in buf.
func (q *recvQueue) push(b []byte, buf *readBuffer) {
	q.size += len(b)
	if q.pieces == nil {
		q.pieces = piecesPool.Get().(*fewPieces)[:0]
	}
	if len(b) >= packSize {
		buf.retain()
		q.pieces = append(q.pieces, piece{b: b, shared: buf})
		return
	}
	if n := len(q.pieces); n > q.head {
		last := &q.pieces[n-1]
		if last.pack != nil && cap(last.b)-len(last.b) >= len(b) {
			last.b = append(last.b, b...)
			return
		}
	}
	p := packPool.Get().(*pack)
	q.pieces = append(q.pieces, piece{b: append(p[:0], b...), pack: p})
}

// read moves bytes into p.
func (q *recvQueue) read(p []byte) (n int) {
	for n < len(p) && q.head < len(q.pieces) {
		first := &q.pieces[q.head]
		m := copy(p[n:], first.b)
		n += m
		if first.b = first.b[m:]; len(first.b) == 0 {
			q.pop()
		}
	}
	q.size -= n
	return n
}

func (q *recvQueue) pop() {
	first := &q.pieces[q.head]
	if first.shared != nil {
		first.shared.release()
	} else {
		packPool.Put(first.pack)
	}
	*first = piece{}
	q.head++
	switch {
	case q.head == len(q.pieces):
		if cap(q.pieces) == len(fewPieces{}) {
			piecesPool.Put((*fewPieces)(q.pieces[:cap(q.pieces)]))
		}
		q.pieces, q.head = nil, 0
	case q.head >= 64 && q.head > len(q.pieces)/2:
		// A queue that never runs empty must not grow for ever.
		n := copy(q.pieces, q.pieces[q.head:])
		clear(q.pieces[n:])
		q.pieces, q.head = q.pieces[:n], 0
	}
}

// drop forgets everything and returns how much that was.
func (q *recvQueue) drop() int {
	n := q.size
	for q.head < len(q.pieces) {
		q.pop()
	}
	*q = recvQueue{}
	return n
}
