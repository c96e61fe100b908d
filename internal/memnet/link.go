package memnet

import (
	"context"
	"sync"
	"syscall"
	"time"
)

// A link is the way from one host to another. The nil link is always up and takes
// no time.
type link struct {
	mu      sync.Mutex
	changed sync.Cond
	state   linkState
	latency time.Duration
	conns   map[*Conn]struct{} // dialled over this link
}

type linkState int

const (
	up linkState = iota
	blackhole
	cut
)

// arrival is when a byte arrives that is sent now.
func (l *link) arrival() time.Time {
	if l == nil {
		return time.Time{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.latency <= 0 {
		return time.Time{}
	}
	return time.Now().Add(l.latency)
}

func (l *link) blackholed() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == blackhole
}

// pass takes as long as one segment does. It fails if the link is cut, and
// waits while it is a black hole.
func (l *link) pass(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.changed.Broadcast()
	})
	defer stop()
	var due alarm
	due.set(time.Now().Add(l.latency), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.changed.Broadcast()
	})
	defer due.stop()
	for {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case l.state == cut:
			return syscall.ENETUNREACH
		case l.state == up && due.passed():
			return nil
		}
		l.changed.Wait()
	}
}

// add makes the link know a connection, so that it can be cut or healed.
func (l *link) add(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for old := range l.conns {
		if old.in.closed() {
			delete(l.conns, old)
		}
	}
	l.conns[c] = struct{}{}
}

func (l *link) set(s linkState) {
	l.mu.Lock()
	l.state = s
	l.changed.Broadcast()
	conns := make([]*Conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.in.wake()
		c.out.wake()
	}
}

// cutAll cuts the link and returns the connections that break.
func (l *link) cutAll() []*Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = cut
	l.changed.Broadcast()
	var conns []*Conn
	for c := range l.conns {
		conns = append(conns, c)
	}
	clear(l.conns)
	return conns
}

// closed reports whether the reader of h has gone.
func (h *half) closed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.readErr != nil
}
