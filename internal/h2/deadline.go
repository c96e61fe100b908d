package h2

import "time"

// A deadline is a point in time with a timer that wakes whoever waits. It can be
// moved at will, also after it passed. The lock of its owner guards it.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

// set moves the deadline; the zero time removes it. wake is called, without
// locks, when it has passed; it must be the same for all calls.
func (d *deadline) set(t time.Time, wake func()) {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at = t
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		return
	}
	// On the monotonic clock, so that the timer and passed agree.
	d.at = time.Now().Add(left)
	if d.timer == nil {
		d.timer = time.AfterFunc(left, wake)
	} else {
		d.timer.Reset(left)
	}
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }
