package hbone

import (
	"errors"
	"time"
)

const (
	// rollsPerBackend is how many outer streams a search may open for each of the n backends
	// that there would be if it finds one: cheap ones, where the gateway names
	// the backend. If it picks each of them as often, 7n in a row miss the nth with a
	// chance of (1-1/n)^7n < e^-7: fewer than one search in a thousand.
	rollsPerBackend = 7
	maxRolls        = 64

	// laterRolls is how many a search gets after one that found nothing: it is for a
	// backend that came since.
	laterRolls = 9

	// tunnelsPerBackend is how many tunnels there may be for each backend that is wanted: two of them may turn out to
	// lead to one.
	tunnelsPerBackend = 2

	// maxBlindRerolls bounds those that cost a handshake each, and may be
	// mistaken: what looks like the same backend may be another.
	maxBlindRerolls = 1

	firstGrowWait = time.Second
	maxGrowWait   = time.Minute
)

// growIfWanted starts one tunnel in the background: because the path spreads
// over more backends than it has, or because all it has are old. A dial
// triggers it and does not wait for it, so unused paths cost nothing.
func (g *group) growIfWanted(hops []Hop, now time.Time) {
	if g.growth != nil || g.pool.closed || now.Before(g.nextGrow) {
		return
	}
	g.retireOld(now)
	want := g.wantBackends()
	limit := tunnelsPerBackend * want
	if most := g.pool.t.MaxTunnels; most > 0 {
		limit = min(limit, most-g.dials)
	}
	if young, backends := g.young(now); backends >= want || young >= limit {
		return
	}
	g.growth = make(chan struct{})
	hops = cloneHops(hops)
	g.pool.tasks.Go(func() { g.pool.grow(g, hops) })
}

// wantBackends is how many backends there should be a tunnel to.
func (g *group) wantBackends() int {
	if g.depth == 0 {
		return 1
	}
	return g.spread
}

// young counts the tunnels that are not old, and the backends they lead to.
func (g *group) young(now time.Time) (tunnels, backends int) {
	g.census++
	for _, tn := range g.tunnels {
		if tn.old(now) {
			continue
		}
		tunnels++
		if tn.backend.census != g.census {
			tn.backend.census = g.census
			backends++
		}
	}
	return tunnels, backends
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
// budget, and sets when to look for the next.
func (p *pool) grow(g *group, hops []Hop) {
	tn, err := p.search(g, hops)
	p.mu.Lock()
	defer p.mu.Unlock()
	close(g.growth)
	g.growth = nil
	g.made = time.Now()
	if err != nil {
		g.growWait = min(max(2*g.growWait, firstGrowWait), maxGrowWait)
		g.nextGrow = time.Now().Add(g.growWait)
	} else {
		g.growWait = 0
		g.add(tn)
	}
	g.settle()
}

// search makes a tunnel to a backend that has none. Which one it is, the gateway decides
// anew for each outer stream.
func (p *pool) search(g *group, hops []Hop) (*tunnel, error) {
	blind := 0
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
	for rolls := p.rolls(g); ; rolls-- {
		tn, err := p.makeTunnel(g, hops, unwanted)
		if rolls == 1 || !errors.Is(err, ErrDuplicateBackend) {
			return tn, err
		}
	}
}

// rolls is the budget of the next search.
func (p *pool) rolls(g *group) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.growWait > 0 {
		return laterRolls
	}
	_, known := g.young(time.Now())
	return min(rollsPerBackend*(known+1), maxRolls)
}

// leadsTo reports whether a young tunnel of g leads to b, as far as is known.
func (p *pool) leadsTo(g *group, b Backend) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, tn := range g.tunnels {
		if !tn.old(now) && (tn.known == b || tn.shows(b)) {
			return true
		}
	}
	return false
}

// shows reports whether b is what the certificate at the end of tn tells. That may be all that is known of a
// backend before the first CONNECT; the answer to one may have told more of tn since.
func (tn *tunnel) shows(b Backend) bool {
	return b.Source == BackendCertificate && b == backendOfCertificate(tn.path[tn.hop].TLS)
}
