package h2

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// A TLSConn is a TLS connection over a carrier: once a [Conn] uses it,
// its records are gathered and sent without ever blocking inside crypto/tls,
// whose connections do not survive a write that timed out.
type TLSConn struct {
	*tls.Conn
	out *carrier
}

// TLSClient is tls.Client over a carrier.
// For bulk transfer, cfg should set DynamicRecordSizingDisabled.
func TLSClient(raw net.Conn, cfg *tls.Config) *TLSConn {
	out := newCarrier(raw)
	return &TLSConn{tls.Client(out, cfg), out}
}

// TLSServer is tls.Server over a carrier.
func TLSServer(raw net.Conn, cfg *tls.Config) *TLSConn {
	out := newCarrier(raw)
	return &TLSConn{tls.Server(out, cfg), out}
}

// NetConn returns the connection that TLS runs over.
func (c *TLSConn) NetConn() net.Conn { return c.out.Conn }

// handshake completes the TLS handshake before records are held back.
func (c *TLSConn) handshake(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return c.HandshakeContext(ctx)
}

// A transport sends frames over a connection without blocking, as far as the
// connection allows.
type transport struct {
	net.Conn  // encrypts, if there is TLS; else out
	out       *carrier
	stoppable bool // reads can be interrupted
}

func newTransport(nc net.Conn, handshakeTimeout time.Duration) (transport, error) {
	t := transport{}
	switch nc := nc.(type) {
	case *TLSConn:
		if err := nc.handshake(handshakeTimeout); err != nil {
			return t, err
		}
		t = transport{Conn: nc.Conn, out: nc.out}
	default:
		out := newCarrier(nc)
		t = transport{Conn: out, out: out}
	}
	t.stoppable = t.SetReadDeadline(time.Time{}) == nil
	return t, nil
}

// flushChunk is how much of a batch is encrypted before it is sent: the system call
// then finds it in the cache, and the peer starts to work early.
const flushChunk = 64 << 10

// send sends the pieces, and reports whether all went without blocking. If
// not, finish sends the rest.
func (t transport) send(first, rest, tail []byte) (all bool, err error) {
	if len(first) <= tlsRecordSize && len(rest)+len(tail) == 0 { // there is nothing to gather
		_, err := t.Write(first)
		return !t.out.behind.Load(), err
	}
	for _, b := range [...][]byte{first, rest, tail} {
		for len(b) > 0 {
			n := min(len(b), flushChunk)
			t.out.gather()
			if _, err := t.Write(b[:n]); err != nil {
				return false, err
			}
			if b = b[n:]; len(b) > 0 {
				if _, err := t.out.tryFlush(); err != nil {
					return false, err
				}
			}
		}
	}
	return t.out.tryFlush()
}

// closeWrite ends the sending direction, and reports whether the connection can do that.
func (t transport) closeWrite() (told bool) {
	type closeWriter interface{ CloseWrite() error }
	if c, ok := t.Conn.(*tls.Conn); ok {
		told = c.CloseWrite() == nil // close_notify
		t.out.tryFlush()
	}
	if c, ok := t.out.Conn.(closeWriter); ok {
		told = c.CloseWrite() == nil || told
	}
	return told
}

func (t transport) finish() error { return t.out.flush() }

// interrupt makes reads fail with os.ErrDeadlineExceeded, or work again. A tls.Conn
// goes on where a read that timed out has left it.
func (t transport) interrupt(on bool) {
	var at time.Time
	if on {
		at = time.Unix(1, 0)
	}
	_ = t.SetReadDeadline(at) // it fails if the connection is closed, and then reads do, too
}
