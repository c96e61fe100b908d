package h2

import (
	"sync"
	"time"
)

// A turn is the right to read from a connection. One goroutine has it at a time:
// either the connection's background reader, or a stream's own Read or Open, which
// then leads. A leader needs no other goroutine to hand it its data, and has it
// decrypted into its own buffer. On its way it does for the connection and all
// its other streams what the background reader would do.
//
// Whoever waits for something that only reading brings must lead, or follow:
// while anybody follows, somebody reads. A leader that has what it wants gives the turn
// to the background reader if anybody follows. If not, nobody has it for a while, as the leader
// mostly comes back for more; a connection that nobody has read for two absences
// is the background reader's again.
type turn struct {
	interrupt func(on bool) // makes a read in progress end, and those that follow until it is off

	mu          sync.Mutex
	taken       bool
	leader      *Stream // nil: the background reader, if the turn is taken
	followers   int
	called      bool      // the background reader may go on: it has the turn
	parked      sync.Cond // for called
	fixed       bool      // for good: the background reader keeps it
	interrupted bool
	absence     *time.Timer // runs while the turn is, or lately was, free
	watching    bool        // absence runs
	leads       uint64      // how often a stream has taken the turn
	seen        uint64      // leads when absence last ended
}

// maxAbsence is how long nobody may read before the background reader looks, unless the stream was busy of late. A stream
// that is read all the time comes back sooner, and must not pay for a look.
const maxAbsence = 2 * time.Millisecond

// A stream that is read busyLeads times between two looks is looked after every busyAbsence only: a timer wakes
// another processor, for longer than such a stream needs for several round trips.
const (
	busyLeads   = 16
	busyAbsence = 2 * maxAbsence
)

func (t *turn) init(interrupt func(on bool)) {
	t.interrupt = interrupt
	t.parked.L = &t.mu
	t.taken = true // by the background reader
	t.called = true
}

// leadOrFollow gives the turn to s if it is free, or else counts s as a follower.
func (t *turn) leadOrFollow(s *Stream) (leads bool) {
	t.mu.Lock()
	if leads = !t.taken && !t.fixed; leads {
		t.taken, t.leader = true, s
		t.leads++
	} else {
		t.addFollower()
	}
	t.mu.Unlock()
	return leads
}

// follow counts somebody who waits for what reading brings.
func (t *turn) follow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addFollower()
}

func (t *turn) addFollower() {
	t.followers++
	if !t.taken {
		t.callBackground()
	}
}

// unfollow takes back a follow, or a leadOrFollow that did not lead.
func (t *turn) unfollow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.followers--
}

// call makes somebody read, if nobody does.
func (t *turn) call() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.taken {
		t.callBackground()
	}
}

// fix leaves the turn to the background reader for good, as soon as it is given back.
func (t *turn) fix() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fixed = true
	if !t.taken {
		t.callBackground()
	}
}

func (t *turn) callBackground() {
	t.taken, t.leader, t.called = true, nil, true
	t.parked.Signal()
}

// awaitCall is the background reader's wait for the turn.
func (t *turn) awaitCall() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.called {
		t.parked.Wait()
	}
	t.called = false
}

// leave gives the turn back. Whoever will not come back says goodbye.
func (t *turn) leave(goodbye bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.goOnLocked()
	if t.followers > 0 || t.fixed || goodbye {
		t.callBackground()
		return
	}
	t.taken, t.leader = false, nil
	if !t.watching {
		t.watch(maxAbsence)
	}
}

// unneeded reports whether the background reader may leave its turn to a stream.
func (t *turn) unneeded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.followers == 0 && !t.fixed
}

// stop interrupts whoever reads; if s is not nil, only if that is s.
func (t *turn) stop(s *Stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken && (s == nil || t.leader == s) && !t.interrupted {
		t.interrupted = true
		t.interrupt(true)
	}
}

// goOn ends an interruption, and reports whether there was one.
func (t *turn) goOn() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.goOnLocked()
}

func (t *turn) goOnLocked() bool {
	if !t.interrupted {
		return false
	}
	t.interrupted = false
	t.interrupt(false)
	return true
}

// watch starts to look after an absence. t.mu is held.
func (t *turn) watch(absence time.Duration) {
	t.watching, t.seen = true, t.leads
	if t.absence == nil {
		t.absence = time.AfterFunc(absence, t.look)
	} else {
		t.absence.Reset(absence)
	}
}

// look calls the background reader if the turn is free and nobody took it lately.
func (t *turn) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.taken && t.seen == t.leads:
		t.watching = false
		t.callBackground()
	case t.taken && t.seen == t.leads:
		t.watching = false // leave begins anew
	case t.leads-t.seen >= busyLeads:
		t.watch(busyAbsence)
	default:
		t.watch(maxAbsence)
	}
}
