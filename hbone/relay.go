package hbone

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/h2"
	"github.com/eastwest-mesh/eastwest/internal/socket"
)

// RelayStats count the bytes that a Relay moved.
type RelayStats struct {
	AToB int64 // read from a and written to b
	BToA int64
}

// Relay copies between a and b, both ways, until both directions have ended,
// and closes both. As one side ends, so does the other:
//
//   - A clean end (io.EOF: a FIN, END_STREAM) is passed on by CloseWrite, and
//     the opposite direction goes on. A side that has no CloseWrite is closed
//     whole.
//   - An abort (a failing Read: a RST, RST_STREAM, a broken tunnel) aborts the
//     other side: by RST_STREAM on a *Conn, by RST on TCP.
//   - A side that takes no more data (a failing Write) may still send, until
//     it ends.
//   - A stream of ours whose both directions have ended has nobody behind it: the other side gets what was
//     sent, and has a minute to end.
//   - The end of ctx aborts both. It must not be a Request's Context: that ends
//     with the stream, before the last bytes that came on it are passed on.
//
// The error is the first of these that was not clean, and nil after two clean
// ends. There is no time limit: cancel ctx to end a relay that is idle.
func Relay(ctx context.Context, a, b net.Conn) (RelayStats, error) {
	r := &relay{}
	stop := context.AfterFunc(ctx, func() {
		r.fail(context.Cause(ctx))
		abort(a, context.Cause(ctx))
		abort(b, context.Cause(ctx))
	})
	defer stop()
	defer a.Close()
	defer b.Close()
	r.watch(a, b)
	r.watch(b, a)
	var stats RelayStats
	done := make(chan struct{})
	go func() {
		defer close(done)
		stats.BToA = r.pump(a, b)
	}()
	stats.AToB = r.pump(b, a)
	<-done
	return stats, r.cause()
}

// aborter is a connection that can end in a way that its peer cannot take for
// a clean end.
type aborter interface{ Abort(cause error) }

type relay struct {
	whole atomic.Bool // a side was closed for want of a CloseWrite
	gone  atomic.Bool // a side has nobody behind it any more

	mu  sync.Mutex
	err error
}

func (r *relay) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

func (r *relay) cause() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// pump moves one direction until src ends or dst takes no more.
func (r *relay) pump(dst, src net.Conn) int64 {
	n, readErr, writeErr := transfer(dst, src)
	if readErr != nil && r.whole.Load() && isClosed(readErr) {
		readErr = nil // by us: the clean end of the other direction
	}
	if errors.Is(readErr, os.ErrDeadlineExceeded) && r.gone.Load() {
		readErr = nil // by us: it had time enough
	}
	switch {
	case readErr != nil:
		r.fail(readErr)
		abort(dst, readErr)
	case writeErr != nil:
		r.fail(writeErr)
		closeRead(src)
	default:
		r.closeWrite(dst)
	}
	return n
}

// watch lets other linger when both directions of c have ended, if it is a stream of ours. That may show only after
// its END_STREAM was passed on, when nothing is read from it any more: a RST_STREAM follows.
func (r *relay) watch(c, other net.Conn) {
	if conn, ok := c.(*Conn); ok {
		conn.stream.OnEnd(func() { r.linger(other) })
	}
}

func (r *relay) closeWrite(c net.Conn) {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		r.whole.Store(true)
		c.Close()
		return
	}
	if err := half.CloseWrite(); err != nil {
		r.fail(err)
	}
}

// lingerTime is how long a side whose peer is gone may take to read what was sent to it and to end.
const lingerTime = time.Minute

// linger bounds the time of a side whose peer is gone. It is not closed at once: TCP would drop what is
// still on its way as soon as the application says anything.
func (r *relay) linger(c net.Conn) {
	r.gone.Store(true)
	_ = c.SetReadDeadline(time.Now().Add(lingerTime))
}

// isClosed reports whether a connection was closed at this end.
func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

func closeRead(c net.Conn) {
	if half, ok := c.(interface{ CloseRead() error }); ok {
		_ = half.CloseRead() // a courtesy: nobody reads c any more
	}
}

// abort ends c so that its peer sees a failure, if c knows how to.
func abort(c net.Conn, cause error) {
	switch c := c.(type) {
	case aborter:
		c.Abort(cause)
		return
	case interface{ SetLinger(sec int) error }: // such as *net.TCPConn
		_ = c.SetLinger(0) // RST instead of FIN
	case interface{ NetConn() net.Conn }: // such as *tls.Conn: no close_notify
		abort(c.NetConn(), cause)
	}
	c.Close()
}

// transfer copies until src ends cleanly (no error), src fails or dst does.
func transfer(dst, src net.Conn) (n int64, readErr, writeErr error) {
	if isTCP(dst) && isTCP(src) {
		return splice(dst, src)
	}
	read := sourceOf(src)
	for {
		b, err := read()
		switch {
		case err == io.EOF: //nolint:errorlint // what only wraps it, such as the cause of an abort, is no clean end
			return n, nil, nil
		case err != nil:
			return n, err, nil
		}
		put, err := b.PassOn(dst)
		n += int64(put)
		if err != nil {
			return n, nil, err
		}
	}
}

// A source reads from one side of a relay. It holds no buffer while it waits, where
// that side lets it. What it returns has to be released.
type source func() (*h2.Buffer, error)

func sourceOf(c net.Conn) source {
	if stream, ok := c.(*Conn); ok {
		return stream.readBuffer
	}
	if s := socket.Of(c); s != nil {
		return (&socketSource{socket: s}).read
	}
	return func() (*h2.Buffer, error) { return readInto(h2.NewBuffer(), c) }
}

// readInto reads from what cannot be asked whether that would block. It makes do
// with n > 0 and err, as an io.Reader may return both: the error comes again.
func readInto(b *h2.Buffer, r io.Reader) (*h2.Buffer, error) {
	n, err := r.Read(b.Space())
	if n == 0 && err != nil {
		b.Release()
		return nil, err
	}
	b.Filled(n)
	return b, nil
}

// A socketSource takes a buffer for each attempt to read, and gives it back if nothing is there.
type socketSource struct {
	socket *socket.Socket
	buffer *h2.Buffer
}

func (s *socketSource) read() (*h2.Buffer, error) {
	n, err := s.socket.Read(s)
	b := s.buffer
	s.buffer = nil
	if err != nil {
		if b != nil {
			b.Release()
		}
		return nil, err
	}
	b.Filled(n)
	return b, nil
}

// Space and Idle make it a socket.Destination.

func (s *socketSource) Space() []byte {
	s.buffer = h2.NewBuffer()
	return s.buffer.Space()
}

func (s *socketSource) Idle() bool {
	s.buffer.Release()
	s.buffer = nil
	return false
}

func isTCP(c net.Conn) bool {
	_, ok := c.(*net.TCPConn)
	return ok
}

// splice lets the kernel copy, where it can. It does not say which side
// failed, but only a write fails with EPIPE.
func splice(dst, src net.Conn) (n int64, readErr, writeErr error) {
	n, err := io.Copy(dst, src)
	if errors.Is(err, syscall.EPIPE) {
		return n, nil, err
	}
	return n, err, nil
}
