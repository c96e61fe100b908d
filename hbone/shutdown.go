package hbone

import (
	"context"
	"slices"
	"sync"
)

// shutdown retires all tunnels; each closes when its last stream ended, the
// inner ones first, as they are streams of the outer.
func (p *pool) shutdown(ctx context.Context) error {
	drained := p.retireAll()
	select {
	case <-drained:
	case <-ctx.Done():
		p.close()
		return ctx.Err()
	}
	p.close()
	return nil
}

// retireAll returns a channel that is closed when no tunnel is left.
func (p *pool) retireAll() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopLocked()
	for tn := range p.tunnels {
		tn.retireLocked(RetireClosing)
	}
	drained := make(chan struct{})
	if len(p.tunnels) == 0 {
		close(drained)
		return drained
	}
	if p.drained == nil {
		p.drained = make(chan struct{})
	}
	return p.drained
}

func (p *pool) stopLocked() {
	p.closed = true
	for _, g := range p.groups {
		g.failWaiters(ErrClosed)
	}
}

// close ends everything: the tunnels to one hop side by side, and the inner ones before those that carry them, so that
// their goodbyes still have a way out.
func (p *pool) close() {
	p.mu.Lock()
	p.stopLocked()
	hops := p.byHop()
	p.mu.Unlock()
	p.cancel(ErrClosed)
	for _, tunnels := range slices.Backward(hops) {
		var closing sync.WaitGroup
		for _, tn := range tunnels {
			closing.Go(func() { _ = tn.conn.Close() })
		}
		closing.Wait()
	}
	p.tasks.Wait()
}

// closeIdle waits for the tunnels to one hop before it looks at those to the hop before: their end may make the
// ones that carried them idle.
func (p *pool) closeIdle() {
	for hop := p.hops() - 1; hop >= 0; hop-- {
		for _, tn := range p.retireIdle(hop) {
			<-tn.gone
		}
	}
}

// hops is how many hops there were on a path, at most.
func (p *pool) hops() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.stats)
}

func (p *pool) retireIdle(hop int) []*tunnel {
	p.mu.Lock()
	defer p.mu.Unlock()
	var idle []*tunnel
	for tn := range p.tunnels {
		if tn.hop == hop && tn.active == 0 {
			tn.retireLocked(RetireIdle)
			idle = append(idle, tn)
		}
	}
	return idle
}

// byHop returns all tunnels by the depth of the hop that they end at. p.mu is held.
func (p *pool) byHop() [][]*tunnel {
	hops := make([][]*tunnel, len(p.stats))
	for tn := range p.tunnels {
		hops[tn.hop] = append(hops[tn.hop], tn)
	}
	return hops
}
