package hbone

import (
	"errors"
	"sync/atomic"
	"testing"
)

// TestAnswersEndFailures: a CONNECT that is answered ends a row of failures, also on a tunnel that was proved before.
func TestAnswersEndFailures(t *testing.T) {
	p := newPool(&Transport{})
	g := p.group([]byte("key"), 0)
	tn := &tunnel{pool: p, group: g, opened: new(atomic.Uint64)}
	tn.answered()
	for range 3 {
		p.mu.Lock()
		g.failed(errors.New("a further tunnel could not be made"))
		p.mu.Unlock()
		tn.answered()
		if n := g.failures.Load(); n != 0 {
			t.Fatalf("%d failures in a row after an answer", n)
		}
	}
}
