//go:build unix

package h2

import (
	"io"
	"net"
	"os"
	"syscall"
)

// trySyscalls write to a socket without waiting for room, and read from it with
// a look at whether that would block. Neither function is for concurrent use with itself.
func trySyscalls(conn interface {
	net.Conn
	syscall.Conn
}) (write func([]byte) (int, error), read func([]byte, func() bool) (int, error)) {
	rc, err := conn.SyscallConn()
	if err != nil {
		return nil, nil
	}
	return tryWrite(conn, rc), tryRead(conn, rc)
}

func tryWrite(conn net.Conn, rc syscall.RawConn) func(p []byte) (int, error) {
	// Kept, so that a call allocates nothing.
	var p []byte
	var n int
	var err error
	once := func(fd uintptr) bool {
		n, err = ignoringEINTR(syscall.Write, fd, p)
		return true // done: do not wait until the socket is writable
	}
	return func(b []byte) (int, error) {
		p = b
		defer func() { p = nil }()
		if err := rc.Write(once); err != nil {
			return 0, err
		}
		switch {
		case err == syscall.EAGAIN:
			return 0, nil
		case err != nil:
			return 0, opError("write", conn, err)
		}
		return n, nil
	}
}

func tryRead(conn net.Conn, rc syscall.RawConn) func(p []byte, pause func() bool) (int, error) {
	var p []byte
	var pause func() bool
	var paused bool
	var n int
	var err error
	attempt := func(fd uintptr) bool {
		n, err = ignoringEINTR(syscall.Read, fd, p)
		if err != syscall.EAGAIN {
			return true
		}
		paused = pause()
		return paused // or wait until the socket is readable
	}
	return func(b []byte, ask func() bool) (int, error) {
		p, pause, paused = b, ask, false
		defer func() { p, pause = nil, nil }()
		if err := rc.Read(attempt); err != nil {
			return 0, err
		}
		switch {
		case paused:
			return 0, os.ErrDeadlineExceeded
		case err != nil:
			return 0, opError("read", conn, err)
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func ignoringEINTR(call func(fd int, p []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := call(int(fd), p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// opError makes the error that the connection's own method would return.
func opError(op string, conn net.Conn, err error) error {
	return &net.OpError{Op: op, Net: conn.LocalAddr().Network(), Source: conn.LocalAddr(), Addr: conn.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}
