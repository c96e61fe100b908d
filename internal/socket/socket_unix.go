//go:build unix

package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// A Socket may be read by one goroutine and written by one other at the same time.
type Socket struct {
	conn net.Conn
	raw  syscall.RawConn

	// The arguments and results of attempts, kept so that a call allocates nothing.
	writing struct {
		p       []byte
		n       int
		err     error
		attempt func(fd uintptr) bool
	}
	reading struct {
		dst     Destination
		stopped bool
		n       int
		err     error
		attempt func(fd uintptr) bool
	}
}

func of(conn interface {
	net.Conn
	syscall.Conn
}) *Socket {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	s := &Socket{conn: conn, raw: raw}
	s.writing.attempt = s.tryWrite
	s.reading.attempt = s.tryRead
	return s
}

// TryWrite writes as much of p as goes without waiting, possibly nothing.
func (s *Socket) TryWrite(p []byte) (int, error) {
	w := &s.writing
	w.p = p
	err := s.raw.Write(w.attempt)
	w.p = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(w.err, syscall.EAGAIN):
		return 0, nil
	case w.err != nil:
		return 0, s.opError("write", w.err)
	}
	return w.n, nil
}

func (s *Socket) tryWrite(fd uintptr) bool {
	s.writing.n, s.writing.err = ignoringEINTR(syscall.Write, fd, s.writing.p)
	return true // done: do not wait until the socket is writable
}

// Read reads into dst.
func (s *Socket) Read(dst Destination) (int, error) {
	r := &s.reading
	r.dst, r.stopped = dst, false
	err := s.raw.Read(r.attempt)
	r.dst = nil
	switch {
	case err != nil:
		return 0, err
	case r.stopped:
		return 0, os.ErrDeadlineExceeded
	case r.err != nil:
		return 0, s.opError("read", r.err)
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

func (s *Socket) tryRead(fd uintptr) (done bool) {
	r := &s.reading
	r.n, r.err = ignoringEINTR(syscall.Read, fd, r.dst.Space())
	if !errors.Is(r.err, syscall.EAGAIN) {
		return true
	}
	r.stopped = r.dst.Idle()
	return r.stopped // or wait until the socket is readable
}

func ignoringEINTR(call func(fd int, p []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := call(int(fd), p)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// opError makes the error that the connection's own method would return.
func (s *Socket) opError(op string, err error) error {
	local := s.conn.LocalAddr()
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: s.conn.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}
