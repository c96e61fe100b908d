package h2

import (
	"net"
	"os"
	"sync"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/socket"
)

// A carrier is what a connection runs over, below TLS: a socket, or a stream of
// another connection.
//
// It gathers what is written and sends it without blocking, as far as the
// connection beneath takes it. So many TLS records go out in one system call, and
// a write inside crypto/tls never blocks or times out, which no tls.Conn survives.
//
// Before a read would block, it asks pause whether it is to.
//
// Until hold is called, it passes everything through.
type carrier struct {
	net.Conn                             // beneath
	socket   *socket.Socket              // the same, if it is one
	stream   *Stream                     // the same, if it is one: so tunnels nest without a goroutine in between
	tryWrite func(p []byte) (int, error) // takes what fits; nil if only blocking writes are to be had
	pause    func() bool                 // asked by reads; true ends one with os.ErrDeadlineExceeded
	reading  []byte                      // what the Read under way reads into

	mu       sync.Mutex
	holding  bool
	pending  *buffer // nil when empty
	sent     int     // so much of pending has gone
	blocking bool    // flush is writing pending
}

func newCarrier(raw net.Conn) *carrier {
	c := &carrier{Conn: raw, socket: socket.Of(raw)}
	c.stream, _ = raw.(*Stream)
	if c.socket != nil {
		c.tryWrite = c.socket.TryWrite
	} else if w, ok := raw.(interface{ TryWrite(p []byte) (int, error) }); ok {
		c.tryWrite = w.TryWrite
	}
	return c
}

// hold ends passing through: from now on tryFlush and flush send, and reads ask pause.
func (c *carrier) hold(pause func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding, c.pause = true, pause
}

// Read reads what is at hand; if there is nothing, it waits unless pause says
// otherwise. That ends it as a passed deadline would, after which crypto/tls can
// go on.
func (c *carrier) Read(p []byte) (int, error) {
	switch {
	case c.pause == nil:
		return c.Conn.Read(p)
	case c.socket != nil:
		c.reading = p
		n, err := c.socket.Read(c)
		c.reading = nil
		return n, err
	case c.stream != nil:
		return c.stream.ReadUnless(p, c.pause)
	case c.pause(): // whether it would block is not known
		return 0, os.ErrDeadlineExceeded
	}
	return c.Conn.Read(p)
}

// Space and Idle make a carrier a socket.Destination.

func (c *carrier) Space() []byte { return c.reading }

func (c *carrier) Idle() bool { return c.pause() }

func (c *carrier) Write(p []byte) (int, error) {
	c.mu.Lock()
	if !c.holding {
		c.mu.Unlock()
		return c.Conn.Write(p)
	}
	defer c.mu.Unlock()
	if c.pending == nil {
		c.pending = newBuffer()
	}
	c.pending.b = append(c.pending.b, p...)
	return len(p), nil
}

// tryFlush sends what goes without blocking, and reports whether that was all.
func (c *carrier) tryFlush() (all bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending == nil {
		return true, nil
	}
	if c.tryWrite == nil || c.blocking {
		return false, nil
	}
	for c.sent < len(c.pending.b) {
		n, err := c.tryWrite(c.pending.b[c.sent:])
		if n == 0 || err != nil {
			return false, err
		}
		c.sent += n
	}
	c.release()
	return true, nil
}

// flush sends everything, however long it takes. It is called by one goroutine
// at a time; others may Write meanwhile.
func (c *carrier) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocking = true
	defer func() { c.blocking = false }()
	for c.pending != nil {
		p := c.pending.b[c.sent:]
		c.mu.Unlock()
		n, err := c.Conn.Write(p)
		c.mu.Lock()
		if err != nil {
			return err
		}
		if c.sent += n; c.sent == len(c.pending.b) {
			c.release()
		}
	}
	return nil
}

func (c *carrier) release() {
	c.pending.free()
	c.pending, c.sent = nil, 0
}

// Close sends what still goes, such as TLS's close_notify, and closes the
// connection beneath.
func (c *carrier) Close() error {
	c.tryFlush()
	return c.Conn.Close()
}

// SetWriteDeadline does nothing once the carrier holds: its writes do not
// block. In particular tls.Conn.Close sets one that would spoil the last flush.
func (c *carrier) SetWriteDeadline(t time.Time) error {
	if c.isHolding() {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c *carrier) SetDeadline(t time.Time) error {
	if c.isHolding() {
		return c.SetReadDeadline(t)
	}
	return c.Conn.SetDeadline(t)
}

func (c *carrier) isHolding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.holding
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
