package hbone

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/h2"
)

// A pool holds the tunnels of a Transport, in groups whose members may stand
// in for each other.
//
// One mutex guards all of it, because nothing slow happens under it: dials run
// in goroutines of their own, and whoever needs a tunnel waits on a channel.
type pool struct {
	t      *Transport
	ctx    context.Context // of dials and tunnels; ends with close
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup // dials and tunnels
	memory *h2.Memory

	mu      sync.Mutex
	closed  bool // takes no new dials
	groups  map[string]*group
	tunnels map[*tunnel]struct{} // all that have not ended, also retired ones
	lastID  uint64
	stats   []HopStats       // the counters but for Opened; the rest is found by counting
	opened  []*atomic.Uint64 // counts HopStats.Opened
	drained chan struct{}    // made by shutdown, closed when tunnels is empty
}

func newPool(t *Transport) *pool {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &pool{
		t:       t,
		ctx:     ctx,
		cancel:  cancel,
		groups:  make(map[string]*group),
		tunnels: make(map[*tunnel]struct{}),
		memory:  t.HTTP2.memory(),
	}
}

// A group is all that may carry a stream to one prefix of a path, and those
// who wait for it. It is guarded by pool.mu, and forgotten when it is empty.
type group struct {
	pool    *pool
	key     string
	depth   int       // index of the hop that the tunnels end at
	spread  int       // of the latest dial
	tunnels []*tunnel // that take new streams
	added   int       // tunnels, ever
	waiters []*waiter // first come, first served
	dials   int       // under way for waiters
	made    time.Time // when the last one, or the last growth, was over

	growth   chan struct{} // closed when it is over: one dial is under way for spread, or to replace an old tunnel
	nextGrow time.Time     // not before
	growWait time.Duration // grows while nothing new is found
	rolls    allowance
	vain     int // tunnels since a backend came or went that showed none that was new

	failures atomic.Int32 // dials since a CONNECT was answered; written with pool.mu held
	retryAt  time.Time    // no dial before
	forgetAt time.Time    // when the failures no longer matter
	lastErr  error

	backends map[string]*backend // by ID, of those that tell it for certain
	picks    uint64
	crowds   map[likeness]*crowd // of tunnels that were met
	census   uint64              // how often young has counted them
}

// A waiter gets exactly one grant, unless it leaves first.
type waiter struct {
	hops  []Hop // its caller's: good while it waits
	since time.Time
	added int // tunnels that the group had had when it came
	grant chan grant
}

type grant struct {
	tunnel *tunnel // with a stream reserved
	err    error
}

const (
	// maxAttempts bounds how often a CONNECT is repeated that peers say they
	// never took.
	maxAttempts    = 5
	firstRetryWait = time.Millisecond // before the third; the next ones are four times as long each
	// maxParallelDials bounds the dials of one group at a time. A group that
	// has no tunnel yet dials only one.
	maxParallelDials = 8
	firstBackoff     = 50 * time.Millisecond
)

// connect opens a stream through all of hops. A CONNECT that the peer did not process, as when it raced a GOAWAY, is repeated on another tunnel (RFC 9113
// §8.7).
func (p *pool) connect(ctx context.Context, hops []Hop, header http.Header, spread int) (*Conn, error) {
	for attempt := 1; ; attempt++ {
		tn, reused, err := p.acquire(ctx, hops, spread)
		if errors.Is(err, errOutdated) && attempt < maxAttempts {
			continue
		}
		if err != nil {
			return nil, err
		}
		if reused {
			p.t.Trace.reused(tn)
		}
		conn, err := tn.open(ctx, hops[len(hops)-1].Authority, header, reused)
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, h2.ErrUnprocessed) || attempt == maxAttempts || ctx.Err() != nil {
			return nil, err
		}
		p.count(tn.hop, func(s *HopStats) { s.Retried++ })
		if err := pause(ctx, attempt); err != nil {
			return nil, waitError(ctx, hops)
		}
	}
}

// pause is the wait before a CONNECT is repeated: none at first, as after a GOAWAY; then it grows, since a peer may count
// a stream that has ended for a moment longer than we do.
func pause(ctx context.Context, attempt int) error {
	if attempt == 1 {
		return nil
	}
	select {
	case <-time.After(firstRetryWait << (2 * (attempt - 2))):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// acquire returns a tunnel to the last of hops, with a stream reserved in it.
func (p *pool) acquire(ctx context.Context, hops []Hop, spread int) (tn *tunnel, reused bool, err error) {
	if ctx.Err() != nil {
		return nil, false, waitError(ctx, hops)
	}
	var space [512]byte // for most keys, so that finding a group allocates nothing
	key := appendTunnelKey(space[:0], hops, len(hops)-1)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, false, ErrClosed
	}
	g := p.group(key, len(hops)-1)
	g.spread = spread
	now := time.Now()
	if len(g.waiters) == 0 {
		if tn := g.take(now); tn != nil {
			g.growIfWanted(hops, now)
			p.mu.Unlock()
			return tn, true, nil
		}
	}
	w := &waiter{hops: hops, since: now, added: g.added, grant: make(chan grant, 1)}
	g.waiters = append(g.waiters, w)
	g.settle()
	p.mu.Unlock()
	tn, err = p.await(ctx, g, w)
	if err != nil {
		return nil, false, err
	}
	return tn, tn.nth <= w.added, nil
}

// await returns what w is granted. It gives up when ctx ends, or when w has waited for a free stream for too long.
func (p *pool) await(ctx context.Context, g *group, w *waiter) (*tunnel, error) {
	patience := limit(p.t.ConnectTimeout)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case got := <-w.grant:
			return got.tunnel, got.err
		case <-ctx.Done():
			p.leave(g, w)
			return nil, waitError(ctx, w.hops)
		case <-timer.C:
			waited, tunnels := p.saturated(g, w)
			if waited >= patience {
				p.leave(g, w)
				return nil, hopError(w.hops, len(w.hops)-1, PhaseWait, "", &SaturatedError{tunnels, patience})
			}
			timer.Reset(patience - waited)
		}
	}
}

// saturated says how long w has waited for a stream of the tunnels that there are. Tunnels that are being made do not
// take that time: they have limits of their own.
func (p *pool) saturated(g *group, w *waiter) (waited time.Duration, tunnels int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.dials > 0 || g.growth != nil || len(w.grant) > 0 {
		return 0, len(g.tunnels)
	}
	since := w.since
	if g.made.After(since) {
		since = g.made
	}
	return time.Since(since), len(g.tunnels)
}

// waitError is for who did not get as far as to a tunnel.
func waitError(ctx context.Context, hops []Hop) *HopError {
	return hopError(hops, len(hops)-1, PhaseWait, "", ended(ctx, ctx.Err()))
}

// leave takes w out of the queue. A grant that came in the same moment is
// given back.
func (p *pool) leave(g *group, w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.waiters = slices.DeleteFunc(g.waiters, func(other *waiter) bool { return other == w })
	select {
	case got := <-w.grant:
		if got.tunnel != nil {
			got.tunnel.releaseLocked()
		}
	default:
	}
	g.forgetIfEmpty()
}

func (p *pool) group(key []byte, depth int) *group {
	g := p.groups[string(key)]
	if g == nil {
		g = &group{pool: p, key: string(key), depth: depth, backends: make(map[string]*backend), crowds: make(map[likeness]*crowd)}
		p.groups[g.key] = g
	}
	return g
}

// take reserves a stream in the tunnel that is best for it, if one has room.
func (g *group) take(now time.Time) *tunnel {
	tn := g.pick(now)
	if tn == nil {
		return nil
	}
	g.picks++
	tn.active++
	tn.backend.active++
	tn.backend.lastPick = g.picks
	tn.lastPick = g.picks
	return tn
}

// pick prefers young tunnels, then the backend with the least streams, then the
// tunnel with the least; among equals, the one that waited longest.
func (g *group) pick(now time.Time) *tunnel {
	var best *tunnel
	for _, tn := range g.tunnels {
		if tn.room(now) && (best == nil || tn.compare(best, now) < 0) {
			best = tn
		}
	}
	return best
}

func (tn *tunnel) compare(other *tunnel, now time.Time) int {
	return cmp.Or(
		compareBool(tn.old(now), other.old(now)),
		cmp.Compare(tn.backend.active, other.backend.active),
		cmp.Compare(tn.backend.lastPick, other.backend.lastPick),
		cmp.Compare(tn.active, other.active),
		cmp.Compare(tn.lastPick, other.lastPick),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// settle serves the waiters that can be served, and dials for the others. It
// is called whenever a tunnel came, went, or has room again.
func (g *group) settle() {
	for len(g.waiters) > 0 {
		tn := g.take(time.Now())
		if tn == nil {
			break
		}
		g.waiters[0].grant <- grant{tunnel: tn}
		g.waiters = g.waiters[1:]
	}
	if len(g.waiters) > 0 {
		g.dial()
	}
	g.forgetIfEmpty()
}

// dial starts what dials the waiters need, by the way and with the credentials of the one that came last: those of
// others with the same key may be out of date.
func (g *group) dial() {
	p := g.pool
	if p.closed {
		g.failWaiters(ErrClosed)
		return
	}
	if g.dials == 0 && time.Now().Before(g.retryAt) {
		g.failWaiters(g.backoffError())
		return
	}
	for g.dials < g.wantDials() && g.mayAdd() {
		g.dials++
		hops := cloneHops(g.waiters[len(g.waiters)-1].hops)
		p.tasks.Go(func() { p.dial(g, hops) })
	}
}

// wantDials says how many dials the waiters are worth. A peer that shows
// nothing yet gets one connection, and how much that carries is not known
// before its settings came.
func (g *group) wantDials() int {
	if len(g.tunnels) == 0 {
		return 1
	}
	for _, tn := range g.tunnels {
		if !tn.doubted && !tn.conn.Settled() || tn.useless() {
			return 0
		}
	}
	streams := g.pool.t.maxStreams()
	return min((len(g.waiters)+streams-1)/streams, maxParallelDials)
}

func (g *group) mayAdd() bool {
	tunnels := len(g.tunnels) + g.dials
	if g.growth != nil {
		tunnels++
	}
	limit := g.pool.t.MaxTunnels
	return limit <= 0 || tunnels < limit
}

// dial makes a tunnel for the waiters of g. The last dial to fail fails them
// all: they waited for the same thing.
func (p *pool) dial(g *group, hops []Hop) {
	tn, err := p.makeTunnel(g, hops, nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	g.dials--
	g.made = time.Now()
	if err != nil {
		g.failed(err)
		if g.dials == 0 {
			g.failWaiters(err)
		}
	} else {
		g.add(tn)
	}
	g.settle()
}

// failed starts or prolongs the pause in which nothing is dialled. A mistake
// in the configuration costs nothing to find again, and what was outdated goes another way at once.
func (g *group) failed(err error) {
	limit := g.pool.t.maxBackoff()
	if limit < 0 || errors.As(err, new(*ConfigError)) || errors.Is(err, errOutdated) {
		return
	}
	pause := min(firstBackoff<<min(g.failures.Load(), 20), limit)
	pause -= time.Duration(rand.Int64N(int64(pause)/4 + 1)) // so that clients do not march in step
	g.failures.Add(1)
	g.retryAt = time.Now().Add(pause)
	g.lastErr = err
	g.forgetAt = g.retryAt.Add(limit)
	time.AfterFunc(pause+limit, func() {
		g.pool.mu.Lock()
		defer g.pool.mu.Unlock()
		g.forgetIfEmpty()
	})
}

func (g *group) backoffError() error {
	backoff := &BackoffError{Until: g.retryAt, Last: g.lastErr}
	if hop := (*HopError)(nil); errors.As(g.lastErr, &hop) {
		again := *hop
		backoff.Last = hop.Err
		again.Err = backoff
		return &again
	}
	return backoff
}

func (g *group) failWaiters(err error) {
	for _, w := range g.waiters {
		w.grant <- grant{err: err}
	}
	g.waiters = nil
}

// forgetIfEmpty keeps a pool small whose paths come and go.
func (g *group) forgetIfEmpty() {
	busy := len(g.tunnels) > 0 || len(g.waiters) > 0 || g.dials > 0 || g.growth != nil
	if busy || time.Now().Before(g.forgetAt) {
		return
	}
	if g.pool.groups[g.key] == g {
		delete(g.pool.groups, g.key)
	}
}

// count changes the counters of a depth.
func (p *pool) count(hop int, change func(*HopStats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.countLocked(hop, change)
}

func (p *pool) countLocked(hop int, change func(*HopStats)) {
	for len(p.stats) <= hop {
		p.stats = append(p.stats, HopStats{})
		p.opened = append(p.opened, new(atomic.Uint64))
	}
	change(&p.stats[hop])
}

func (p *pool) snapshot() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{Tunnels: len(p.tunnels), Hops: slices.Clone(p.stats)}
	for i := range s.Hops {
		s.Hops[i].Opened = p.opened[i].Load()
	}
	for tn := range p.tunnels {
		s.Hops[tn.hop].Tunnels++
		s.Hops[tn.hop].Streams += tn.active
		s.Streams += tn.active - len(tn.carriers)
	}
	return s
}
