package memnet

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// An Addr is an address "host:port". Its network is called tcp.
type Addr string

// Network returns "tcp".
func (Addr) Network() string { return "tcp" }

// String returns the address.
func (a Addr) String() string { return string(a) }

// A Conn is one end of a connection. Its methods may be called concurrently.
// Writes are buffered: up to 256 KiB are taken before the peer has read them.
type Conn struct {
	local, remote Addr
	in, out       *half
	abortive      atomic.Bool // SetLinger(0)
}

var _ net.Conn = (*Conn)(nil)

// Pipe returns the two ends of a connection without latency.
func Pipe() (a, b *Conn) {
	return newPair("pipe:1", "pipe:2", newHalf(nil), newHalf(nil))
}

func newPair(a, b Addr, ab, ba *half) (*Conn, *Conn) {
	return &Conn{local: a, remote: b, in: ba, out: ab}, &Conn{local: b, remote: a, in: ab, out: ba}
}

// Read reads what has arrived, waiting for something if need be.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.opError("read", err)
}

// Write waits until all of p is buffered.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p, true)
	return n, c.opError("write", err)
}

// TryWrite takes as much of p as fits into the buffer now, possibly nothing.
func (c *Conn) TryWrite(p []byte) (int, error) {
	n, err := c.out.write(p, false)
	return n, c.opError("write", err)
}

// Close ends both directions. The peer reads what was written, then io.EOF.
func (c *Conn) Close() error {
	if c.abortive.Load() {
		c.out.abort(syscall.ECONNRESET, net.ErrClosed)
	} else {
		c.out.closeWrite(net.ErrClosed)
	}
	c.in.closeRead(net.ErrClosed)
	return nil
}

// CloseWrite ends the sending direction only.
func (c *Conn) CloseWrite() error {
	c.out.closeWrite(syscall.EPIPE)
	return nil
}

// CloseRead drops what arrived and what still arrives; Read reports io.EOF.
func (c *Conn) CloseRead() error {
	c.in.closeRead(io.EOF)
	return nil
}

// SetLinger with 0 makes Close abort the connection, as on a net.TCPConn: the
// peer's Read fails with ECONNRESET.
func (c *Conn) SetLinger(sec int) error {
	c.abortive.Store(sec == 0)
	return nil
}

// fail breaks the connection for both ends.
func (c *Conn) fail(err error) {
	c.in.abort(err, err)
	c.out.abort(err, err)
}

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the other end.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines. See net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	c.out.setWriteDeadline(t)
	return nil
}

// SetReadDeadline sets when Read gives up. See net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	return nil
}

// SetWriteDeadline sets when Write gives up. See net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.setWriteDeadline(t)
	return nil
}

func (c *Conn) opError(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}
