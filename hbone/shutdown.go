package hbone

import (
	"context"
	"slices"
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

// close ends everything: the inner tunnels first, so that their goodbyes still
// have a way out.
func (p *pool) close() {
	p.mu.Lock()
	p.stopLocked()
	tunnels := p.innermostFirst()
	p.mu.Unlock()
	p.cancel(ErrClosed)
	for _, tn := range tunnels {
		_ = tn.conn.Close()
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

func (p *pool) innermostFirst() []*tunnel {
	tunnels := make([]*tunnel, 0, len(p.tunnels))
	for tn := range p.tunnels {
		tunnels = append(tunnels, tn)
	}
	slices.SortFunc(tunnels, func(a, b *tunnel) int { return b.hop - a.hop })
	return tunnels
}
