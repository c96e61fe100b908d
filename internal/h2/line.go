package h2

import (
	"cmp"
	"slices"
)

// A line is where streams wait for room in the outbox, or for the connection's window. Conn.mu guards it.
//
// Its order is that of start-time fair queueing (Goyal, Vin and Cheng, 1996): the clock counts bytes, and a
// stream's next turn comes as many of them after its last as it sent then. So those that send much get equal shares,
// and one that sends little goes ahead of them.
type line struct {
	now     int64     // nobody waits for an earlier turn
	start   int64     // the first turn of a stream, if that is later
	streams []*Stream // the first to go first
	called  int       // so many of them have been called, and have neither gone nor waited again
}

// A place is a stream's in the line of its connection.
type place struct {
	turn    int64 // not before this
	order   int64 // in the line
	waiting bool  // it is in the line
	called  bool  // it may go
}

const (
	// lineSlack is how far a stream that does not wait may go on ahead of those that do: to call one costs a
	// switch of goroutines.
	lineSlack = 1 << 20

	// smallWrite is below which size a Write waits for that, too, no longer than it must.
	smallWrite = 8 << 10
)

func (l *line) turnOf(s *Stream) int64 {
	if turn := s.send.place.turn; turn > 0 {
		return max(turn, l.now)
	}
	return max(l.start, l.now)
}

// sent moves the clock on, as s, which is not in the line, sends n bytes: up to its turn, but not past those who wait.
func (l *line) sent(s *Stream, n int) {
	turn := l.turnOf(s)
	s.send.place.turn = turn + int64(n)
	if len(l.streams) > 0 {
		turn = min(turn, l.streams[0].send.place.order)
	}
	l.now = max(l.now, turn)
	l.moveStart(n)
}

// moveStart moves the first turns on, as n bytes are sent, by a share of them: the clock itself stands still while one
// new stream after another waits for it, and those that have sent much would never have a turn. Nor need a new stream
// come later than all that wait, even if it goes ahead of them.
func (l *line) moveStart(n int) {
	waiting := len(l.streams)
	if waiting == 0 {
		l.start = l.now
		return
	}
	l.start = min(max(l.start, l.now)+int64(n/(waiting+1)), l.streams[waiting-1].send.place.order+lineSlack)
}

// mayGo reports whether s may go on although others wait.
func (l *line) mayGo(s *Stream) bool {
	return len(l.streams) == 0 || s.send.place.called || l.streams[0] == s || l.turnOf(s) < l.streams[0].send.place.order+lineSlack
}

// wait puts s in the line, to send so much. If it was called in vain, it keeps its place.
func (l *line) wait(s *Stream, size int) {
	p := &s.send.place
	if p.called {
		p.called = false
		l.called--
	}
	if p.waiting {
		return
	}
	p.waiting, p.turn = true, l.turnOf(s)
	p.order = p.turn
	if size < smallWrite {
		p.order -= lineSlack
	}
	i, _ := slices.BinarySearchFunc(l.streams, p.order+1, func(s *Stream, order int64) int {
		return cmp.Compare(s.send.place.order, order)
	})
	l.streams = slices.Insert(l.streams, i, s)
}

// leave takes s out of the line, if it is there.
func (l *line) leave(s *Stream) {
	p := &s.send.place
	if !p.waiting {
		return
	}
	if p.called {
		l.called--
	}
	p.waiting, p.called = false, false
	if i := slices.Index(l.streams, s); i >= 0 {
		l.streams = slices.Delete(l.streams, i, i+1)
	}
}

// call calls the first in the line, as many as can send whole frames in so much room, and one for the rest of it.
func (l *line) call(room int) {
	for _, s := range l.streams {
		if room <= l.called*maxSendFrame {
			return
		}
		if !s.send.place.called {
			s.send.place.called = true
			l.called++
			s.send.changed.Broadcast()
		}
	}
}
