package h2

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// A tryWriter can be written to without blocking: it takes what fits.
// A [Stream] is one, so that tunnels nest without a goroutine in between.
type tryWriter interface {
	TryWrite(p []byte) (int, error)
}

// A coalescer gathers what is written and sends it without blocking, as far as
// the connection beneath takes it. Under TLS it puts many records into one system
// call, and keeps writes inside crypto/tls from ever blocking or timing out,
// which no tls.Conn survives.
//
// Until hold is called, it passes everything through.
type coalescer struct {
	net.Conn // beneath
	try      func(p []byte) (int, error)

	mu       sync.Mutex
	holding  bool
	pending  *buffer // nil when empty
	sent     int     // so much of pending has gone
	blocking bool    // flush is writing pending
}

func newCoalescer(raw net.Conn) *coalescer {
	b := &coalescer{Conn: raw}
	switch raw := raw.(type) {
	case tryWriter:
		b.try = raw.TryWrite
	case syscall.Conn:
		if rc, err := raw.SyscallConn(); err == nil {
			b.try = trySyscall(rc)
		}
	}
	return b
}

// hold ends passing through: from now on tryFlush and flush send.
func (b *coalescer) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holding = true
}

func (b *coalescer) Write(p []byte) (int, error) {
	b.mu.Lock()
	if !b.holding {
		b.mu.Unlock()
		return b.Conn.Write(p)
	}
	defer b.mu.Unlock()
	if b.pending == nil {
		b.pending = newBuffer()
	}
	b.pending.b = append(b.pending.b, p...)
	return len(p), nil
}

// tryFlush sends what goes without blocking, and reports whether that was all.
func (b *coalescer) tryFlush() (all bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending == nil {
		return true, nil
	}
	if b.try == nil || b.blocking {
		return false, nil
	}
	for b.sent < len(b.pending.b) {
		n, err := b.try(b.pending.b[b.sent:])
		if n == 0 || err != nil {
			return false, err
		}
		b.sent += n
	}
	b.release()
	return true, nil
}

// flush sends everything, however long it takes. It is called by one goroutine
// at a time; others may Write meanwhile.
func (b *coalescer) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blocking = true
	defer func() { b.blocking = false }()
	for b.pending != nil {
		p := b.pending.b[b.sent:]
		b.mu.Unlock()
		n, err := b.Conn.Write(p)
		b.mu.Lock()
		if err != nil {
			return err
		}
		if b.sent += n; b.sent == len(b.pending.b) {
			b.release()
		}
	}
	return nil
}

func (b *coalescer) release() {
	b.pending.free()
	b.pending, b.sent = nil, 0
}

// Close sends what still goes, such as TLS's close_notify, and closes the
// connection beneath.
func (b *coalescer) Close() error {
	b.tryFlush()
	return b.Conn.Close()
}

// SetWriteDeadline does nothing once the coalescer holds: its writes do not
// block. In particular tls.Conn.Close sets one that would spoil the last flush.
func (b *coalescer) SetWriteDeadline(t time.Time) error {
	if b.isHolding() {
		return nil
	}
	return b.Conn.SetWriteDeadline(t)
}

func (b *coalescer) SetDeadline(t time.Time) error {
	if b.isHolding() {
		return b.SetReadDeadline(t)
	}
	return b.Conn.SetDeadline(t)
}

func (b *coalescer) isHolding() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.holding
}

// A buffer gathers bytes to be sent. Buffers are pooled, so that an idle
// connection holds none.
type buffer struct{ b []byte }

var bufferPool = sync.Pool{New: func() any { return new(buffer) }}

func newBuffer() *buffer { return bufferPool.Get().(*buffer) }

// maxPooledBuffer keeps a rare giant from staying in the pool.
const maxPooledBuffer = 1 << 20

func (b *buffer) free() {
	if cap(b.b) > maxPooledBuffer {
		return
	}
	b.b = b.b[:0]
	bufferPool.Put(b)
}
