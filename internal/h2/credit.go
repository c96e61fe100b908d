package h2

import "encoding/binary"

// A credit is what a peer is to be given back by a WINDOW_UPDATE; none if it is zero.
//
// Alone, it would cost either end a system call. In a conversation it rides with what is sent next, unless the peer
// would have little left by then. The first that may wait no longer ends the wait of all.
type credit struct {
	bytes int64
	until int64 // it may wait until so much DATA has come on the connection, ever; 0: not at all
}

// mayWait says until when credit may wait, as so much has come and the peer has so much left of a window: until half
// of that has come as well, or not at all if less than half of the window is left.
func mayWait(came, left, window int64) (until int64) {
	if left < window/2 {
		return 0
	}
	return came + left/2
}

// A windowUpdate is a WINDOW_UPDATE frame. Stream 0 is the connection (RFC 9113 §6.9).
type windowUpdate struct {
	id    uint32
	bytes int64
}

// creditDue adds n bytes to the credit that the peer is to get, and returns what to give it now, once that is worth a frame.
// r.mu is held.
func (s *Stream) creditDue(n int) credit {
	r := &s.recv
	r.credit += int64(n)
	window := int64(s.c.cfg.streamWindow())
	if r.credit < window/4 {
		return credit{}
	}
	due := credit{bytes: r.credit, until: mayWait(s.c.inflow.total.Load(), r.window-int64(r.doubtful), window)}
	r.credit = 0
	r.window += due.bytes
	return due
}

// returnCredit lets the peer send n bytes more on this stream, once it is worth
// a frame.
func (s *Stream) returnCredit(n int) {
	if n == 0 {
		return
	}
	s.recv.mu.Lock()
	due := s.creditDue(n)
	s.recv.mu.Unlock()
	s.giveCredit(due)
}

// giveCredit lets the peer send so much more on this stream.
func (s *Stream) giveCredit(due credit) {
	if due.bytes == 0 {
		return
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.over && !s.remoteEnd {
		c.sendCredit(s.id, due, c.talks)
	}
}

// arrived takes a DATA frame's payload from the connection's window, and reports whether the peer kept to it.
func (c *Conn) arrived(n int) bool {
	due, ok := c.inflow.arrived(n)
	c.giveCredit(due)
	return ok
}

// consumed says that n received bytes need no memory any more, and gives the
// peer the credit that is due on the connection.
func (c *Conn) consumed(n int) {
	if n > 0 {
		c.giveCredit(c.inflow.consumed(n))
	}
}

func (c *Conn) giveCredit(due credit) {
	if due.bytes == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	// A tunnel within gives credit by DATA as well, but that is little of what comes in.
	c.talks = c.sentBytes-c.creditedAt >= due.bytes/4
	c.creditedAt = c.sentBytes
	measures := c.inflow.askRoundTrip(c.sentBytes)
	if measures {
		c.appendPing(0, binary.BigEndian.AppendUint64(nil, roundTripPing))
	}
	c.sendCredit(0, due, c.talks && !measures) // a PING that waits would measure how long we are silent
}

// sendCredit sends a WINDOW_UPDATE at once, or lets it ride. c.mu is held, and may be released meanwhile.
func (c *Conn) sendCredit(id uint32, due credit, rides bool) {
	u := windowUpdate{id, due.bytes}
	if !rides || due.until == 0 || c.out.flushing {
		c.out.addUpdate(u)
		c.flush(false)
		return
	}
	c.out.wait(u, due.until)
	c.sendOverdue() // DATA may have come since until was reckoned
}

// sendOverdue sends the credit that waits, if it may wait no longer. c.mu is held, and may be released meanwhile.
func (c *Conn) sendOverdue() {
	if c.overdue() {
		c.out.endWait()
		c.flush(false)
	}
}

func (c *Conn) overdue() bool {
	until := c.out.until.Load()
	return until > 0 && c.inflow.total.Load() >= until
}

// counted counts a DATA frame of n bytes that was taken from the windows.
func (c *Conn) counted(n int) {
	c.inflow.total.Add(int64(n))
	if c.overdue() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sendOverdue()
	}
}
