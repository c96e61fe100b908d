//go:build !unix

package socket

import (
	"errors"
	"net"
	"syscall"
)

// A Socket is not to be had here.
type Socket struct{}

func of(interface {
	net.Conn
	syscall.Conn
}) *Socket {
	return nil
}

// TryWrite is not to be had here.
func (s *Socket) TryWrite([]byte) (int, error) { return 0, errors.ErrUnsupported }

// Read is not to be had here.
func (s *Socket) Read(Destination) (int, error) { return 0, errors.ErrUnsupported }
