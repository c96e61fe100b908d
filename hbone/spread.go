package hbone

import (
	"errors"
	"slices"
	"time"
)

// How a group finds a tunnel to each of the backends that it is to be spread over. The gateway decides anew for each
// outer stream where that leads, so all there is to do is to roll again. Where the gateway names the backend, that costs
// an outer stream, and search rolls until it finds a new one. Where it does not, each roll is a tunnel of its
// own: the first stream in it shows what its backend looks like, and judge decides whether it is kept.

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

	// blindRollsPerBackend is the same where each roll costs a handshake: 5n in a row miss
	// the nth with a chance of e^-5.
	blindRollsPerBackend = 5

	// tunnelsPerBackend is how many tunnels there may be for each backend that is wanted: two of them may turn out to
	// lead to one.
	tunnelsPerBackend = 2

	firstGrowWait = time.Second
	maxGrowWait   = time.Minute

	// A group that looks for backends makes rollBurst tunnels at once and one more each rollInterval: at most 8 in a
	// minute.
	rollBurst    = 4
	rollInterval = 15 * time.Second
)

// growIfWanted starts one tunnel in the background: because the path spreads
// over more backends than it has, or because all it has are old. A dial
// triggers it and does not wait for it, so unused paths cost nothing.
func (g *group) growIfWanted(hops []Hop, now time.Time) {
	if g.growth != nil || g.pool.closed || now.Before(g.nextGrow) {
		return
	}
	g.retireOld(now)
	if !g.wantsTunnel(now) {
		return
	}
	g.growth = make(chan struct{})
	hops = cloneHops(hops)
	g.pool.tasks.Go(func() { g.pool.grow(g, hops) })
}

func (g *group) wantsTunnel(now time.Time) bool {
	want, young := g.wantBackends(), g.young(now)
	switch {
	case young.looks >= want || !g.mayRoll(young, want):
		return false
	case young.tunnels == 0:
		return true
	case !g.rolls.left(now, tunnelsPerBackend*want):
		return false
	case young.tunnels < want && young.named < young.tunnels:
		return true // what looks like one that is there may be another
	}
	return g.vain < min(blindRollsPerBackend*(young.looks+1), maxRolls)
}

// mayRoll reports whether one more tunnel is within the limits.
func (g *group) mayRoll(young census, want int) bool {
	limit := tunnelsPerBackend * want
	if most := g.pool.t.MaxTunnels; most > 0 {
		limit = min(limit, most-g.dials)
	}
	return young.tunnels < limit
}

// wantBackends is how many backends there should be a tunnel to.
func (g *group) wantBackends() int {
	if g.depth == 0 {
		return 1
	}
	return g.spread
}

// A census counts the tunnels of a group that are not old.
type census struct {
	tunnels int
	named   int // of them, those whose backend is told for certain
	looks   int // that differ; a tunnel that was not met counts as one
	met     int // of the looks, those that were
}

func (g *group) young(now time.Time) (c census) {
	g.census++
	for _, tn := range g.tunnels {
		if tn.old(now) {
			continue
		}
		c.tunnels++
		if tn.known.Source == BackendHeader {
			c.named++
		}
		if tn.crowd.census == g.census {
			continue
		}
		tn.crowd.census = g.census
		c.looks++
		if tn.crowd.met {
			c.met++
		}
	}
	return c
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
		g.rolls.spend()
		tn.rolled = true
		g.add(tn)
	}
	g.settle()
}

// search makes a tunnel, to a backend that has none if the gateway names them.
func (p *pool) search(g *group, hops []Hop) (*tunnel, error) {
	known := func(b Backend) bool { return p.leadsTo(g, b) }
	for rolls := p.searchRolls(g); ; rolls-- {
		tn, err := p.makeTunnel(g, hops, known)
		if rolls == 1 || !errors.Is(err, ErrDuplicateBackend) {
			return tn, err
		}
	}
}

// searchRolls is the budget of the next search.
func (p *pool) searchRolls(g *group) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.growWait > 0 {
		return laterRolls
	}
	return min(rollsPerBackend*(g.young(time.Now()).looks+1), maxRolls)
}

// leadsTo reports whether a young tunnel of g leads to b, as far as is known.
func (p *pool) leadsTo(g *group, b Backend) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	return slices.ContainsFunc(g.tunnels, func(tn *tunnel) bool { return !tn.old(now) && tn.known == b })
}

// judge takes notice of a tunnel that was met just now. One that shows nothing new is kept if it may lead to another
// backend all the same, and more are wanted.
func (g *group) judge(tn *tunnel, now time.Time) {
	g.join(tn)
	young, want := g.young(now), g.wantBackends()
	switch {
	case tn.crowd.tunnels == 1:
		g.vain = 0
	case tn.known.Source == BackendHeader || young.tunnels > want:
		g.vain++
		g.retireTwin(tn, now)
	default:
		g.vain++
	}
	if young.met >= max(want, 2) { // then each look is a backend
		for _, twin := range slices.Clone(g.tunnels) {
			g.retireTwin(twin, now)
		}
	}
}

// retireTwin retires a tunnel that was made to find a backend if another one that looks the same has room.
func (g *group) retireTwin(tn *tunnel, now time.Time) {
	stands := func(other *tunnel) bool {
		return other != tn && other.crowd == tn.crowd && !other.old(now) && other.room(now)
	}
	if tn.rolled && slices.ContainsFunc(g.tunnels, stands) {
		tn.retireLocked(RetireDuplicate)
	}
}

// An allowance paces what costs a handshake each.
type allowance struct {
	start, since time.Time
	credit       time.Duration // rollInterval for each roll
}

// left reports whether there is one left. In the first minute there are as many as a new group needs.
func (a *allowance) left(now time.Time, first int) bool {
	most := rollBurst * rollInterval
	if a.start.IsZero() {
		a.start, a.since = now, now
		a.credit = time.Duration(first) * rollInterval
	}
	if now.Sub(a.start) < time.Minute {
		most = max(most, a.credit)
	}
	a.credit = min(a.credit+now.Sub(a.since), most)
	a.since = now
	return a.credit >= rollInterval
}

func (a *allowance) spend() { a.credit = max(a.credit-rollInterval, 0) }
