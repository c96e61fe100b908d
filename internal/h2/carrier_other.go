//go:build !unix

package h2

import "syscall"

// trySyscalls are not to be had here: a goroutine does the blocking writes, and
// every read may block.
func trySyscalls(syscall.Conn) (write func([]byte) (int, error), read func([]byte, func() bool) (int, error)) {
	return nil, nil
}
