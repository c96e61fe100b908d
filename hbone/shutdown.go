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

// closeIdle waits for each tunnel that it closes, as that may make the one
// that carried it idle.
func (p *pool) closeIdle() {
	p.mu.Lock()
	tunnels := p.innermostFirst()
	p.mu.Unlock()
	for _, tn := range tunnels {
		if p.retireIfIdle(tn) {
			<-tn.gone
		}
	}
}

func (p *pool) retireIfIdle(tn *tunnel) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tn.active > 0 {
		return false
	}
	tn.retireLocked(RetireIdle)
	return true
}

func (p *pool) innermostFirst() []*tunnel {
	tunnels := make([]*tunnel, 0, len(p.tunnels))
	for tn := range p.tunnels {
		tunnels = append(tunnels, tn)
	}
	slices.SortFunc(tunnels, func(a, b *tunnel) int { return b.hop - a.hop })
	return tunnels
}
