package hbone

import (
	"errors"
	"time"
)

const (
	// maxRerolls bounds the outer streams that one try to find a new backend
	// may open and drop: cheap ones, where the gateway names the backend.
	maxRerolls = 8
	// maxBlindRerolls bounds those that cost a handshake each, and may be
	// mistaken: what looks like the same backend may be another.
	maxBlindRerolls = 1

	firstGrowWait = time.Second
	maxGrowWait   = time.Minute
)

// growIfWanted starts one tunnel in the background: because the path spreads
// over more backends than it has, or because all it has are old. A dial
// triggers it and does not wait for it, so unused paths cost nothing.
func (g *group) growIfWanted() {
	now := time.Now()
	if g.growing || g.pool.closed || now.Before(g.nextGrow) {
		return
	}
	g.retireOld(now)
	want := 1
	if g.depth() > 0 {
		want = g.spread
	}
	limit := 2 * want // where two of them turned out to lead to one backend
	if most := g.pool.t.MaxTunnels; most > 0 {
		limit = min(limit, most-g.dials)
	}
	if young, backends := g.young(now); backends >= want || young >= limit {
		return
	}
	g.growing = true
	g.pool.tasks.Add(1)
	go g.pool.grow(g)
}

// young counts the tunnels that are not old, and the backends they lead to.
func (g *group) young(now time.Time) (tunnels, backends int) {
	seen := make(map[*backend]bool, len(g.tunnels))
	for _, tn := range g.tunnels {
		if !tn.old(now) {
			tunnels++
			seen[tn.backend] = true
		}
	}
	return tunnels, len(seen)
}

// retireOld retires old tunnels as far as younger ones can replace them.
func (g *group) retireOld(now time.Time) {
	young := false
	var old []*tunnel
	for _, tn := range g.tunnels {
		if tn.old(now) {
			old = append(old, tn)
		} else {
			young = young || tn.room(now)
		}
	}
	if !young {
		return
	}
	for _, tn := range old {
		tn.retireLocked(RetireAge)
	}
}

// grow makes one tunnel, to a new backend if it can be found within the
// budget. Which backend it is, the gateway decides anew for each outer stream.
func (p *pool) grow(g *group) {
	defer p.tasks.Done()
	rolls, blind := 0, 0
	unwanted := func(b Backend) bool {
		if !p.leadsTo(g, b) {
			return false
		}
		if b.Source == BackendHeader {
			return true
		}
		blind++
		return blind <= maxBlindRerolls
	}
	tn, err := p.makeTunnel(g, unwanted)
	for errors.Is(err, errUnwanted) && rolls < maxRerolls {
		rolls++
		tn, err = p.makeTunnel(g, unwanted)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	g.growing = false
	if err != nil {
		g.growWait = min(max(2*g.growWait, firstGrowWait), maxGrowWait)
		g.nextGrow = time.Now().Add(g.growWait)
	} else {
		g.growWait = 0
		g.add(tn)
	}
	g.settle()
}

// leadsTo reports whether a young tunnel of g leads to b, as far as is known.
func (p *pool) leadsTo(g *group, b Backend) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, tn := range g.tunnels {
		if !tn.old(now) && tn.known == b {
			return true
		}
	}
	return false
}
