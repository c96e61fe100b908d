package h2

import (
	"math"
	"time"
)

// A roundTrip is how long one takes to the peer and back while nothing queues: the shortest of late. The
// peer's acknowledgement of SETTINGS measures the first.
type roundTrip struct {
	shortest time.Duration
	measured time.Time // when it was that short; zero: never
	asked    time.Time // when the peer was sent what it has not answered; zero: it has answered
	answered time.Time // when the last answer came
}

const (
	// roundTripPing is what a PING carries that measures.
	roundTripPing = math.MaxUint64

	// measureInterval is how often a busy connection measures.
	measureInterval = 250 * time.Millisecond

	// roundTripLife is for how long a measurement holds, since paths change.
	roundTripLife = time.Minute

	// answerTime is how long an answer may take. The PINGs of a peer that takes longer measure nothing.
	answerTime = 10 * time.Second
)

// stale reports whether nothing of late was as short as the shortest, although the peer answers.
func (t *roundTrip) stale(now time.Time) bool {
	answers := t.asked.IsZero() || now.Sub(t.asked) < answerTime
	return answers && !t.measured.IsZero() && now.Sub(t.measured) >= roundTripLife
}

func (t *roundTrip) ask(now time.Time) { t.asked = now }

// answer takes the peer's answer, and reports whether it was asked. What is nearly as short as the shortest
// confirms that.
func (t *roundTrip) answer(now time.Time) bool {
	if t.asked.IsZero() {
		return false
	}
	took := now.Sub(t.asked)
	if t.measured.IsZero() || t.stale(now) || took <= t.shortest {
		t.shortest, t.measured = took, now
	} else if took <= t.shortest+t.shortest/8 {
		t.measured = now
	}
	t.asked, t.answered = time.Time{}, now
	return true
}
