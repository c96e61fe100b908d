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
	sent     int64     // bytes of DATA until then
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

	// littleSent is how much we may send meanwhile. More could queue on its way.
	littleSent = 64 << 10
)

// stale reports whether nothing of late was as short as the shortest, although the peer answers.
func (t *roundTrip) stale(now time.Time) bool {
	answers := t.asked.IsZero() || now.Sub(t.asked) < answerTime
	return answers && !t.measured.IsZero() && now.Sub(t.measured) >= roundTripLife
}

// ask notes that the peer is sent what it must answer at once, after so many bytes of DATA.
func (t *roundTrip) ask(now time.Time, sent int64) { t.asked, t.sent = now, sent }

// answer takes the peer's answer, and reports whether it was asked. What is nearly as short as the shortest
// confirms that; so does what is longer, if it is our own DATA that it may have waited behind.
func (t *roundTrip) answer(now time.Time, sent int64) bool {
	if t.asked.IsZero() {
		return false
	}
	took := now.Sub(t.asked)
	switch {
	case t.measured.IsZero(), took <= t.shortest, t.stale(now) && sent-t.sent <= littleSent:
		t.shortest, t.measured = took, now
	case t.stale(now), took <= t.shortest+t.shortest/8:
		t.measured = now
	}
	t.asked, t.answered = time.Time{}, now
	return true
}

// A peakRate is the highest rate of late, in bytes a second: what the path carries if nothing holds it up, such as a window
// of ours.
type peakRate struct {
	best, before float64   // in this period, in the one before
	began        time.Time // this period
	notes        int       // measurements, ever
}

// gain is by how much more than the rate asks for is to be given now. It is more than one at times, since a path whose other direction is
// congested as well may carry more, and nobody would notice.
func (p *peakRate) gain() float64 {
	if p.notes%8 < 3 {
		return 1.25
	}
	return 1
}

// note adds a measured rate, and returns the highest.
func (p *peakRate) note(rate float64, now time.Time, roundTrip time.Duration) float64 {
	period := max(10*roundTrip, time.Second)
	switch age := now.Sub(p.began); {
	case age >= 2*period:
		p.before, p.best, p.began = 0, 0, now
	case age >= period:
		p.before, p.best, p.began = p.best, 0, now
	}
	p.notes++
	p.best = max(p.best, rate)
	return max(p.best, p.before)
}
