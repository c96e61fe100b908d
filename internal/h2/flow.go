package h2

import (
	"math"
	"sync"
)

const (
	initialWindow = 65535         // RFC 9113 §6.9.2
	maxWindow     = math.MaxInt32 // RFC 9113 §6.9.1
)

// grow adds a WINDOW_UPDATE's or a setting's increment to a window of ours, which may be
// negative (RFC 9113 §6.9.2). It reports whether the result is legal.
func grow(window *int64, n int64) bool {
	*window += n
	return *window <= maxWindow
}

// A connInflow is the credit that the peer has for the whole connection. The
// credit it holds plus what was received and not read never exceeds limit.
type connInflow struct {
	mu     sync.Mutex
	limit  int64
	window int64 // the peer may still send this much
	queued int64 // received, not read
}

// arrived takes the payload of a DATA frame from the window. It reports whether
// the peer kept to it.
func (f *connInflow) arrived(n int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.window -= int64(n)
	f.queued += int64(n)
	return f.window >= 0
}

// consumed says that n bytes need no memory any more. It returns the
// WINDOW_UPDATE that is due, or 0. One is due when a quarter of the limit can be
// given, or as much as the peer has left: so no peer waits for credit that is there.
func (f *connInflow) consumed(n int) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queued -= int64(n)
	return f.refill()
}

func (f *connInflow) refill() int64 {
	n := f.limit - f.queued - f.window
	if n <= 0 || n < f.limit/4 && n < f.window {
		return 0
	}
	f.window += n
	return n
}
