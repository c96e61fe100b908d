package memnet

import (
	"net"
	"sync"
	"syscall"
)

// backlog is how many connections wait to be accepted.
const backlog = 1024

// A Listener accepts connections.
type Listener struct {
	net  *Network
	addr Addr

	mu      sync.Mutex
	changed sync.Cond
	queue   []*Conn
	closed  bool
}

var _ net.Listener = (*Listener)(nil)

func newListener(n *Network, addr Addr) *Listener {
	l := &Listener{net: n, addr: addr}
	l.changed.L = &l.mu
	return l
}

// Accept waits for the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 {
		if l.closed {
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
		}
		l.changed.Wait()
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	return c, nil
}

// Close ends the listener. Connections that were not accepted are reset.
func (l *Listener) Close() error {
	l.net.mu.Lock()
	if l.net.listeners[l.addr] == l {
		delete(l.net.listeners, l.addr)
	}
	l.net.mu.Unlock()

	l.mu.Lock()
	queue := l.queue
	l.queue, l.closed = nil, true
	l.changed.Broadcast()
	l.mu.Unlock()
	for _, c := range queue {
		c.fail(syscall.ECONNRESET)
	}
	return nil
}

// Addr returns the address that the listener was made for.
func (l *Listener) Addr() net.Addr { return l.addr }

// deliver queues a connection and reports whether there was room.
func (l *Listener) deliver(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) >= backlog {
		return false
	}
	l.queue = append(l.queue, c)
	l.changed.Signal()
	return true
}
