//go:build unix

package h2

import (
	"os"
	"syscall"
)

// trySyscall writes to a socket without waiting for room. The function it returns is
// not for concurrent use.
func trySyscall(rc syscall.RawConn) func(p []byte) (int, error) {
	var p []byte
	var n int
	var err error
	write := func(fd uintptr) bool {
		for {
			n, err = syscall.Write(int(fd), p)
			if err != syscall.EINTR {
				return true // done: do not wait until the socket is writable
			}
		}
	}
	return func(b []byte) (int, error) {
		p = b
		defer func() { p = nil }()
		if err := rc.Write(write); err != nil {
			return 0, err
		}
		switch {
		case err == syscall.EAGAIN:
			return 0, nil
		case err != nil:
			return 0, os.NewSyscallError("write", err)
		}
		return n, nil
	}
}
