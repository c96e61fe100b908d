//go:build !unix

package h2

import "syscall"

// trySyscall is not to be had here: a goroutine does the blocking writes.
func trySyscall(syscall.RawConn) func(p []byte) (int, error) { return nil }
