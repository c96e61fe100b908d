// Package socket reads and writes sockets with a look at whether that would block:
//
//	s := socket.Of(conn)          // nil if conn is no socket, or cannot be asked
//	n, err := s.TryWrite(p)       // takes what fits
//	n, err := s.Read(dst)         // before it waits, it tells dst
//
// Deadlines and Close of the connection work as ever. It does nothing that the net package does
// not do as well, but for the asking.
package socket

import "net"

// Of returns the socket of conn. It is nil for what is not a socket, also if
// it embeds one: that may count or change what goes through it.
func Of(conn net.Conn) *Socket {
	switch conn := conn.(type) {
	case *net.TCPConn:
		return of(conn)
	case *net.UnixConn:
		return of(conn)
	}
	return nil
}

// A Destination is what a Read fills. Its methods are called by the goroutine that reads.
type Destination interface {
	// Space is called before each attempt to read, and returns where to. Socket does
	// not use that any more once Idle is called.
	Space() []byte

	// Idle is called when nothing is at hand. If it returns true, Read ends with
	// os.ErrDeadlineExceeded, or else waits.
	Idle() (stop bool)
}
