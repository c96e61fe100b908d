package h2

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/net/http2"
)

// ErrAnswerTimeout is in the chain of an error of [Conn.Open] when the peer did not
// answer within Config.AnswerTimeout. It is an os.ErrDeadlineExceeded.
var ErrAnswerTimeout = fmt.Errorf("the CONNECT was not answered in time: %w", os.ErrDeadlineExceeded)

// An answerClock ends CONNECTs that are not answered. They have one timer together, as
// nearly all are answered long before. Conn.mu guards it.
type answerClock struct {
	timer *time.Timer
	runs  bool
}

func (a *answerClock) set(d time.Duration, f func()) {
	a.runs = true
	if a.timer == nil {
		a.timer = time.AfterFunc(d, f)
	} else {
		a.timer.Reset(d)
	}
}

func (a *answerClock) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}

// expectAnswer says how long the peer has for the answer to a CONNECT that was asked for at a time. c.mu is held.
func (c *Conn) expectAnswer(s *Stream, asked time.Time) {
	d := c.cfg.AnswerTimeout
	if d <= 0 {
		return
	}
	s.answerBy = asked.Sub(c.born) + d
	if !c.answers.runs {
		c.answers.set(max(0, s.answerBy-time.Since(c.born)), c.checkAnswers)
	}
}

// checkAnswers ends the CONNECTs whose time is over.
func (c *Conn) checkAnswers() {
	for _, s := range c.resetOverdue() {
		s.endRecv(s.cause, true)
		c.streamGone(s)
	}
}

// resetOverdue resets the CONNECTs whose time is over, and sets the clock for the next.
func (c *Conn) resetOverdue() []*Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers.runs = false
	var late []*Stream
	now, next := time.Since(c.born), time.Duration(0)
	for _, s := range c.streams {
		switch {
		case s.answered || s.answerBy == 0:
		case s.answerBy <= now:
			late = append(late, s)
		case next == 0 || s.answerBy < next:
			next = s.answerBy
		}
	}
	for _, s := range late {
		c.appendReset(s.id, http2.ErrCodeCancel)
		c.forgotten.add(s.id)
		c.forget(s, &StreamError{ID: s.id, Code: http2.ErrCodeCancel, Cause: ErrAnswerTimeout})
	}
	if next > 0 {
		c.answers.set(next-now, c.checkAnswers)
	}
	c.flush(false)
	return late
}
