package h2

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
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

// A connInflow is the credit that the peer has for the whole connection.
//
// Besides what was received and is not read, the peer has a working window, which lasts for two round trips at the
// highest rate of late. More would make nothing faster, and wait on the way in front of what other streams get. A connection on
// which nothing comes has just the initial one.
// Window and unread bytes together are what the connection may come to hold. They
// never exceed limit, and what of them is beyond the initial window, which a peer has in any
// case, is taken from the Memory that connections share.
type connInflow struct {
	mu     sync.Mutex
	memory *Memory // nil: unlimited
	limit  int64
	window int64        // the peer may still send this much
	queued int64        // received, not read
	held   int64        // taken from memory
	closed bool         // nothing more is received
	total  atomic.Int64 // DATA that has come, ever; it is counted after it was taken from the windows

	working     int64     // what window is topped up to
	step        int64     // what comes in a millisecond
	came        int64     // received since working was set
	updated     time.Time // when that was
	rate        peakRate
	trip        roundTrip
	remeasuring bool      // the round trip is to be measured anew: until then the working window is the least that there is
	drained     time.Time // since when no more is on its way; zero: it is
}

const (
	minWorkingWindow = 256 << 10
	maxWorkingWindow = 16 << 20

	// workingRest is for how long the working window lasts beyond the round trips, since whoever reads may
	// have to wait for a processor.
	workingRest = 4 * time.Millisecond

	// maxWorkingTime is for how long it lasts at most, and while no round trip is known.
	maxWorkingTime = time.Second
)

// arrived takes the payload of a DATA frame from the window. It reports whether the peer kept to it, and returns the
// credit that is due: bytes that nobody reads must not use up that of those that somebody does.
func (f *connInflow) arrived(n int) (due credit, ok bool) {
	f.mu.Lock()
	if ok = int64(n) <= f.window; ok {
		f.window -= int64(n)
		f.queued += int64(n)
		f.came += int64(n)
		due = f.refill()
	}
	f.mu.Unlock()
	return due, ok
}

// consumed says that n bytes need no memory any more. It returns the
// credit that is due.
func (f *connInflow) consumed(n int) credit {
	f.mu.Lock()
	f.queued -= int64(n)
	due := f.refill()
	f.settle()
	f.mu.Unlock()
	return due
}

// refill tops the window up. An update is due when a step can be given, or as much as the peer has
// left: so no peer waits for credit that is there. A step is what comes in a millisecond, but between an eighth and a quarter of
// the working window: small steps let small writes go ahead early, large ones cost less.
func (f *connInflow) refill() credit {
	if f.closed {
		return credit{}
	}
	working := min(f.workingWindow(), f.limit)
	n := min(working-f.window, f.limit-f.queued-f.window, f.held+f.memory.available()-f.beyond())
	step := min(max(f.step, working/8), working/4)
	if n <= 0 || n < step && n < f.window {
		return credit{}
	}
	if need := f.beyond() + n - f.held; need > 0 {
		f.held += f.memory.take(need)
		n = max(0, min(n, f.held-f.beyond()))
	}
	due := credit{bytes: n, until: mayWait(f.total.Load(), f.window, working)}
	f.window += n
	f.adapt(time.Now())
	return due
}

func (f *connInflow) workingWindow() int64 {
	if f.remeasuring {
		return minWorkingWindow
	}
	return max(f.working, minWorkingWindow)
}

// adapt sets the working window by the rate of late, which only whole round trips show: credit comes in bursts, and so
// does what it lets go.
func (f *connInflow) adapt(now time.Time) {
	if f.remeasuring && f.drained.IsZero() {
		f.drained = now
	}
	if f.remeasuring = f.trip.stale(now); !f.remeasuring {
		f.drained = time.Time{}
	}
	took := now.Sub(f.updated)
	if f.remeasuring || took < f.trip.shortest+workingRest/2 {
		return
	}
	rate := f.rate.note(float64(f.came)/took.Seconds(), now, f.trip.shortest)
	f.working = int64(min(max(rate*f.workingTime().Seconds()*f.rate.gain(), minWorkingWindow), maxWorkingWindow))
	f.step = int64(rate / 1000)
	f.came, f.updated = 0, now
}

// workingTime is for how long the working window lasts. Two round trips let a peer that sends ever faster
// do so: TCP doubles its rate in one.
func (f *connInflow) workingTime() time.Duration {
	if f.trip.measured.IsZero() {
		return maxWorkingTime
	}
	return min(2*f.trip.shortest+workingRest, maxWorkingTime)
}

// askRoundTrip reports whether a PING that measures the round trip is to be sent now, with a WINDOW_UPDATE, after so many bytes
// of DATA.
func (f *connInflow) askRoundTrip(sent int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	due := f.working > minWorkingWindow && now.Sub(f.trip.answered) >= measureInterval
	if f.remeasuring {
		due = !f.drained.IsZero() && now.Sub(f.drained) >= f.trip.shortest
	}
	if !due || !f.trip.asked.IsZero() || f.trip.measured.IsZero() {
		return false
	}
	f.trip.ask(now, sent)
	return true
}

// roundTripBegins notes that the peer was sent our first SETTINGS, which it must acknowledge at once.
func (f *connInflow) roundTripBegins() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trip.ask(time.Now(), 0)
}

// roundTripEnds takes the answer, and reports whether the peer was asked for one.
func (f *connInflow) roundTripEnds(sent int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.trip.asked
	if f.remeasuring && (f.drained.IsZero() || asked.Before(f.drained)) {
		f.trip.asked = time.Time{} // it went through what queued
	} else if f.trip.answer(time.Now(), sent) {
		f.remeasuring, f.drained = false, time.Time{}
	}
	return !asked.IsZero()
}

// beyond is how much of what the connection may come to hold is beyond the initial window;
// negative if it is less.
func (f *connInflow) beyond() int64 {
	if f.closed {
		return f.queued - initialWindow
	}
	return f.window + f.queued - initialWindow
}

// settle gives back what is not needed any more, once it is worth it.
func (f *connInflow) settle() {
	excess := f.held - max(f.beyond(), 0)
	if excess >= memoryGrain || f.closed {
		f.held -= excess
		f.memory.give(excess)
	}
}

// close ends the window. What is queued keeps its memory until it is consumed.
func (f *connInflow) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.settle()
}

// A Memory bounds what connections that share it may come to hold: the bytes that were received and not
// read, and those that peers may still send. When it runs out, a connection
// still has the initial window, of 64 KiB; so the sum over n connections never exceeds the limit by more than
// n times that. Then streams that nobody reads can stall the others of their connection.
type Memory struct {
	limit int64
	used  atomic.Int64
}

const (
	// memoryGrain is what is worth giving back.
	memoryGrain = 64 << 10

	// memoryShare bounds what a connection may take at once, to that part of what is
	// left: so those that come first do not get everything.
	memoryShare = 16
)

// NewMemory returns a Memory of so many bytes.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// available is the most that take would give now.
func (m *Memory) available() int64 {
	if m == nil {
		return maxWindow
	}
	return max(0, (m.limit-m.used.Load())/memoryShare)
}

// take returns how much of n may be held.
func (m *Memory) take(n int64) int64 {
	if m == nil {
		return n
	}
	for {
		used := m.used.Load()
		n = min(n, (m.limit-used)/memoryShare)
		if n <= 0 {
			return 0
		}
		if m.used.CompareAndSwap(used, used+n) {
			return n
		}
	}
}

func (m *Memory) give(n int64) {
	if m != nil {
		m.used.Add(-n)
	}
}

// Used returns how much is held, of which peers may not have sent all.
func (m *Memory) Used() int64 { return m.used.Load() }
