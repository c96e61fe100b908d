package xds

import (
	"math/rand/v2"
	"time"
)

// backoff is the pause before the next attempt. It doubles from min to max.
type backoff struct {
	min, max time.Duration
	next     time.Duration
}

// pause returns how long to wait before the next attempt: half of the current step, and a random
// part of the other half. So clients that lost one server at the same time come back apart.
func (b *backoff) pause() time.Duration {
	step := max(b.next, b.min)
	b.next = min(2*step, b.max)
	return step/2 + rand.N(step/2+1)
}

func (b *backoff) reset() { b.next = 0 }
