package memnet

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

const bufferSize = 256 << 10

// A half is one direction of a connection: bytes on their way.
type half struct {
	link *link // nil: no latency, never cut

	mu       sync.Mutex
	changed  sync.Cond // anything below
	segments []segment
	size     int
	finished bool      // the writer has ended; EOF follows the segments
	finAt    time.Time // when the end arrives
	readErr  error     // set: reads fail at once
	writeErr error     // set: writes fail at once

	readDeadline, writeDeadline, arrival alarm
}

type segment struct {
	b  []byte
	at time.Time // when it arrives
}

func newHalf(l *link) *half {
	h := &half{link: l}
	h.changed.L = &h.mu
	return h
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.readErr != nil:
			return 0, h.readErr
		case h.readDeadline.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		}
		if h.deliverable() {
			if h.size == 0 {
				return 0, io.EOF
			}
			return h.take(p), nil
		}
		h.changed.Wait()
	}
}

// deliverable reports whether something has arrived. If it is still on its way, it
// sets an alarm for its arrival.
func (h *half) deliverable() bool {
	var at time.Time
	switch {
	case h.size > 0:
		at = h.segments[0].at
	case h.finished:
		at = h.finAt
	default:
		return false
	}
	if h.link.blackholed() {
		return false
	}
	if !at.After(time.Now()) {
		return true
	}
	h.arrival.set(at, h.wake)
	return false
}

// take moves what has arrived into p.
func (h *half) take(p []byte) (n int) {
	now := time.Now()
	for n < len(p) && len(h.segments) > 0 && !h.segments[0].at.After(now) {
		s := &h.segments[0]
		m := copy(p[n:], s.b)
		n += m
		if s.b = s.b[m:]; len(s.b) == 0 {
			h.segments[0] = segment{}
			h.segments = h.segments[1:]
		}
	}
	h.size -= n
	h.changed.Broadcast()
	return n
}

func (h *half) write(p []byte, block bool) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.writeErr != nil:
			return n, h.writeErr
		case h.writeDeadline.passed():
			return n, os.ErrDeadlineExceeded
		}
		m := min(len(p), bufferSize-h.size)
		h.put(p[:m])
		n += m
		if p = p[m:]; len(p) == 0 || !block {
			return n, nil
		}
		h.changed.Wait()
	}
}

func (h *half) put(p []byte) {
	if len(p) == 0 {
		return
	}
	at := h.link.arrival()
	if last := len(h.segments) - 1; last >= 0 && h.segments[last].at.Equal(at) {
		h.segments[last].b = append(h.segments[last].b, p...)
	} else {
		h.segments = append(h.segments, segment{append([]byte(nil), p...), at})
	}
	h.size += len(p)
	h.changed.Broadcast()
}

// closeWrite ends the direction cleanly; later writes fail with err.
func (h *half) closeWrite(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.finished {
		h.finished, h.finAt = true, h.link.arrival()
	}
	if h.writeErr == nil || !errors.Is(err, syscall.EPIPE) {
		h.writeErr = err
	}
	h.changed.Broadcast()
}

// closeRead ends the reader's interest; later reads fail with err, writes of the
// peer with EPIPE.
func (h *half) closeRead(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.segments, h.size = nil, 0
	if h.readErr == nil || errors.Is(h.readErr, io.EOF) {
		h.readErr = err
	}
	if h.writeErr == nil {
		h.writeErr = syscall.EPIPE
	}
	h.readDeadline.stop()
	h.arrival.stop()
	h.changed.Broadcast()
}

// abort drops what is on its way and fails both sides.
func (h *half) abort(readErr, writeErr error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.segments, h.size = nil, 0
	if h.readErr == nil {
		h.readErr = readErr
	}
	if h.writeErr == nil {
		h.writeErr = writeErr
	}
	h.changed.Broadcast()
}

func (h *half) setReadDeadline(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readDeadline.set(t, h.wake)
	h.changed.Broadcast()
}

func (h *half) setWriteDeadline(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writeDeadline.set(t, h.wake)
	h.changed.Broadcast()
}

func (h *half) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed.Broadcast()
}

// An alarm is a point in time with a timer that wakes whoever waits for it.
type alarm struct {
	at    time.Time
	timer *time.Timer
}

// set moves the alarm; the zero time turns it off.
func (a *alarm) set(t time.Time, wake func()) {
	a.stop()
	a.at = t
	if t.IsZero() {
		return
	}
	if d := time.Until(t); d > 0 {
		a.at = time.Now().Add(d) // on the monotonic clock, like the timer
		a.timer = time.AfterFunc(d, wake)
	}
}

func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}

func (a *alarm) passed() bool { return !a.at.IsZero() && !time.Now().Before(a.at) }
