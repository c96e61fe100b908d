package h2

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/socket"
)

// A carrier is what a connection runs over, below TLS: a socket, or a stream of
// another connection.
//
// It sends what is written without blocking, as far as the connection beneath takes it, and keeps
// the rest: a write inside crypto/tls never blocks or times out, which no tls.Conn
// survives. When told to gather, it keeps all, so that many TLS records go out in one system call.
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

	mu        sync.Mutex
	holding   bool
	gathering bool        // until the next flush
	pending   *buffer     // nil when empty
	sent      int         // so much of pending has gone
	blocking  bool        // flush is writing pending
	behind    atomic.Bool // there is something pending
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

// hold ends passing through: from now on writes do not block, and reads ask pause.
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
	n := 0
	if c.pending == nil && !c.gathering {
		var err error
		if n, err = c.send(p); n == len(p) || err != nil {
			return n, err
		}
	}
	c.keep(p[n:])
	return len(p), nil
}

// send sends as much of p as goes without blocking. c.mu is held.
func (c *carrier) send(p []byte) (sent int, err error) {
	if c.tryWrite == nil {
		return 0, nil
	}
	for sent < len(p) {
		n, err := c.tryWrite(p[sent:])
		if n == 0 || err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

// keep keeps p until it can be sent. c.mu is held.
func (c *carrier) keep(p []byte) {
	if c.pending == nil {
		c.pending = newBuffer()
		c.behind.Store(true)
	}
	c.pending.b = append(c.pending.b, p...)
}

// gather has all kept that is written until the next flush.
func (c *carrier) gather() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathering = true
}

// tryFlush sends what goes without blocking, and reports whether that was all.
func (c *carrier) tryFlush() (all bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathering = false
	switch {
	case c.pending == nil:
		return true, nil
	case c.blocking:
		return false, nil
	}
	n, err := c.send(c.pending.b[c.sent:])
	if c.sent += n; err != nil || c.sent < len(c.pending.b) {
		return false, err
	}
	c.release()
	return true, nil
}

// flush sends everything, however long it takes. It is called by one goroutine
// at a time; others may Write meanwhile.
func (c *carrier) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocking, c.gathering = true, false
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
	c.behind.Store(false)
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
