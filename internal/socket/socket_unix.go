//go:build unix

package socket

import (
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
		errno   syscall.Errno // 0: none
		attempt func(fd uintptr) bool
	}
	reading struct {
		dst     Destination
		stopped bool
		n       int
		errno   syscall.Errno // 0: none
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
	case w.errno == syscall.EAGAIN:
		return 0, nil
	case w.errno != 0:
		return 0, s.opError("write", w.errno)
	}
	return w.n, nil
}

func (s *Socket) tryWrite(fd uintptr) bool {
	s.writing.n, s.writing.errno = ignoringEINTR(syscall.Write, fd, s.writing.p)
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
	case r.errno != 0:
		return 0, s.opError("read", r.errno)
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

func (s *Socket) tryRead(fd uintptr) (done bool) {
	r := &s.reading
	r.n, r.errno = ignoringEINTR(syscall.Read, fd, r.dst.Space())
	if r.errno != syscall.EAGAIN {
		return true
	}
	r.stopped = r.dst.Idle()
	return r.stopped // or wait until the socket is readable
}

func ignoringEINTR(call func(fd int, p []byte) (int, error), fd uintptr, p []byte) (n int, errno syscall.Errno) {
	for {
		n, err := call(int(fd), p)
		if errno, _ = err.(syscall.Errno); errno != syscall.EINTR { //nolint:errorlint // system calls return nothing else
			return n, errno
		}
	}
}

// opError makes the error that the connection's own method would return.
func (s *Socket) opError(op string, errno syscall.Errno) error {
	local := s.conn.LocalAddr()
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: s.conn.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}
