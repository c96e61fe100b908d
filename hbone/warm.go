package hbone

import (
	"context"
	"errors"
	"time"
)

// warm makes or keeps the tunnels that connect would use. One that turns out to have ended is replaced.
func (p *pool) warm(ctx context.Context, hops []Hop, spread int) error {
	for attempt := 1; ; attempt++ {
		tn, reused, err := p.acquire(ctx, hops, spread)
		again := errors.Is(err, errOutdated)
		if err == nil {
			err = tn.warm(ctx, hops, spread)
			again = err != nil && reused && tn.conn.Err() != nil
		}
		if !again || attempt == maxAttempts || ctx.Err() != nil {
			return err
		}
	}
}

// warm gives back the stream that is reserved in tn when the others of its group are there, too.
func (tn *tunnel) warm(ctx context.Context, hops []Hop, spread int) error {
	defer tn.release()
	if err := tn.confirm(ctx); err != nil {
		return err
	}
	tn.pool.t.Trace.warmed(tn)
	return tn.group.warm(ctx, hops, spread)
}

// confirm waits for a sign of life. The peer has taken us when there is one: what it thinks of our certificate does not
// show before.
func (tn *tunnel) confirm(ctx context.Context) error {
	ctx, cancel := withLimit(ctx, tn.pool.t.HTTP2Timeout)
	defer cancel()
	if _, err := tn.conn.Ping(ctx); err != nil {
		err = ended(ctx, err)
		if tn.conn.Err() != nil {
			return tn.connectError("", err)
		}
		if errors.As(err, new(phaseTimeout)) {
			tn.doubt()
		}
		return tn.hopError(PhaseHTTP2, "", err)
	}
	tn.pool.mu.Lock()
	defer tn.pool.mu.Unlock()
	tn.proveLocked()
	return nil
}

// warm does what as many dials as may be needed would have done in the background, one after the other.
func (g *group) warm(ctx context.Context, hops []Hop, spread int) error {
	for range tunnelsPerBackend * spread {
		growth := g.growOrKeep(hops)
		if growth == nil {
			return nil
		}
		select {
		case <-growth:
		case <-ctx.Done():
			return waitError(ctx, hops)
		}
	}
	return nil
}

// growOrKeep returns the growth that is under way, if more tunnels are wanted. If not, it keeps those that are there.
func (g *group) growOrKeep(hops []Hop) <-chan struct{} {
	g.pool.mu.Lock()
	defer g.pool.mu.Unlock()
	g.growIfWanted(hops, time.Now())
	if g.growth == nil {
		g.keep()
	}
	return g.growth
}

// keep lets the tunnels count as used now: one for each backend, and no more of them than are wanted.
func (g *group) keep() {
	now, want := time.Now(), g.wantBackends()
	kept := make(map[*backend]bool, want)
	for _, tn := range g.tunnels {
		if len(kept) < want && !kept[tn.backend] && tn.room(now) && !tn.old(now) {
			tn.idleFrom = now
			kept[tn.backend] = true
		}
	}
}
