package hbone

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/internal/h2"
)

// A tunnel is one HTTP/2 connection of a Transport. Its goroutine, watch, ends
// with it and decides when it ends.
//
// Its life: it is young and takes streams; it grows old, and is used only
// while its group has nothing younger with room; it is retired, and takes no
// streams; it has no streams left, and closes.
type tunnel struct {
	id    uint64
	pool  *pool
	group *group
	hops  []Hop // the way to its end, as whoever had it made said
	hop   int   // index of the last
	nth   int   // of its group's
	conn  *h2.Conn
	path  []HopState // of the hops up to this one; the last lacks what a CONNECT adds
	outer *tunnel    // the one that carries it; nil on the first hop
	ages  time.Time  // when it is old; zero is never
	drain time.Time  // when it is retired; zero is never
	cut   <-chan struct{}
	wake  chan struct{} // watch is to look again
	gone  chan struct{} // closed when it has ended

	announced bool           // Trace.TunnelRetired was told; watch's
	opened    *atomic.Uint64 // CONNECTs answered with 200, of all tunnels to hops at this depth
	proved    atomic.Bool    // a CONNECT, or Warm, was answered: the peer took us; set with pool.mu held
	met       atomic.Bool    // what the first answer tells of the backend is known; set with pool.mu held
	rolled    bool           // made to find a backend, and not because streams waited; set before it is in its group

	// Guarded by pool.mu.
	active   int                     // streams, open or reserved
	carriers map[*h2.Stream]struct{} // those of them that carry a tunnel
	lastPick uint64
	idleFrom time.Time
	doubted  bool // a CONNECT was not answered in time, nor a PING since
	retired  RetireReason
	known    Backend // what was told of the backend
	backend  *backend
	crowd    *crowd
}

// room reports whether one more stream fits. What the peer allows counts, and
// that is none while it drains.
func (tn *tunnel) room(now time.Time) bool {
	if tn.retired != "" || tn.doubted || tn.expired(now) {
		return false
	}
	free, open := tn.conn.Slots()
	return free > 0 && tn.active < min(tn.pool.t.maxStreams(), free+open)
}

// expired reports whether tn is to be drained by now.
func (tn *tunnel) expired(now time.Time) bool { return !tn.drain.IsZero() && !now.Before(tn.drain) }

// useless reports whether tn takes no stream although it carries none, or has ended. More tunnels would be no better:
// the peer takes none for now (RFC 9113 §6.5.2), or watch is about to say what follows.
func (tn *tunnel) useless() bool {
	if tn.conn.Err() != nil {
		return true
	}
	return tn.active == 0 && !tn.doubted && !tn.conn.Draining() && tn.conn.Available() <= 0
}

// old reports whether something younger should take over. A tunnel through one
// that has to end is old; through one that is only old itself, it stays until its own time: else
// all that it carries would be replaced at once.
func (tn *tunnel) old(now time.Time) bool {
	return tn.stranded() || !tn.ages.IsZero() && !now.Before(tn.ages)
}

// stranded reports whether a tunnel on the way has to end.
func (tn *tunnel) stranded() bool {
	for t := tn.outer; t != nil; t = t.outer {
		if t.retired != "" && t.retired != RetireAge && t.retired != RetireDuplicate {
			return true
		}
	}
	return false
}

// within reports whether tn runs inside of another tunnel.
func (tn *tunnel) within(other *tunnel) bool {
	for t := tn.outer; t != nil; t = t.outer {
		if t == other {
			return true
		}
	}
	return false
}

// open sends the CONNECT for which a stream was reserved. The reservation ends with the
// stream.
func (tn *tunnel) open(ctx context.Context, authority string, h http.Header, reused bool) (*Conn, error) {
	tn.pool.t.Trace.connecting(tn, authority)
	stream, err := tn.conn.Open(ctx, authority, h)
	if err != nil {
		if errors.Is(err, h2.ErrAnswerTimeout) {
			tn.doubt()
		}
		failure := tn.connectError(authority, tn.ended(ctx, err))
		tn.release()
		tn.pool.t.Trace.connectFailed(tn, authority, failure)
		return nil, failure
	}
	conn := &Conn{stream: stream, tunnel: tn, reused: reused}
	tn.answered()
	tn.pool.t.Trace.connected(tn, conn)
	return conn, nil
}

// ended is the function of that name, for what may have ended a CONNECT.
func (tn *tunnel) ended(ctx context.Context, err error) error {
	if errors.Is(err, h2.ErrAnswerTimeout) {
		return phaseTimeout{limit(tn.pool.t.ConnectTimeout)}
	}
	return ended(ctx, err)
}

// streamEnded is called by the engine.
func (tn *tunnel) streamEnded(s *h2.Stream) {
	tn.pool.mu.Lock()
	defer tn.pool.mu.Unlock()
	delete(tn.carriers, s)
	tn.releaseLocked()
}

// doubt keeps new streams away from a tunnel whose peer did not answer a CONNECT, until a PING shows that it
// is alive, and only what it connects to was slow. The keepalive takes longer to find that it is not.
func (tn *tunnel) doubt() {
	p := tn.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if tn.doubted || p.closed {
		return
	}
	tn.doubted = true
	p.tasks.Go(func() {
		_, err := tn.conn.Ping(p.ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		tn.doubted = err != nil
		tn.group.settle()
	})
}

// connectError says in which phase the tunnel turned out not to work. What the
// peer thinks of our certificate, and whether it speaks HTTP/2 at all, shows
// only here.
func (tn *tunnel) connectError(authority string, err error) *HopError {
	err = asOurs(err)
	if hop := (*HopError)(nil); errors.As(err, &hop) {
		return hop // it was cut
	}
	tn.pool.mu.Lock()
	if errors.As(err, new(*StatusError)) {
		tn.proved.Store(true)
	}
	phase := PhaseConnect
	if !tn.proved.Load() && errors.As(err, new(*h2.ConnError)) {
		phase = unprovedPhase(err)
	}
	tn.pool.mu.Unlock()
	return tn.broken().hopError(phase, authority, err)
}

// answered notes that a CONNECT was answered with 200.
func (tn *tunnel) answered() {
	tn.opened.Add(1)
	if tn.proved.Load() && tn.group.failures.Load() == 0 {
		return // as nearly always
	}
	tn.pool.mu.Lock()
	defer tn.pool.mu.Unlock()
	tn.proveLocked()
}

// proveLocked notes that the peer has taken us.
func (tn *tunnel) proveLocked() {
	tn.proved.Store(true)
	tn.group.failures.Store(0)
}

// unprovedPhase says where a tunnel failed whose peer never answered.
func unprovedPhase(err error) Phase {
	if isRemoteAlert(err) {
		return PhaseTLS
	}
	return PhaseHTTP2
}

// broken returns the outermost tunnel on the way that has ended, or tn: an
// inner tunnel fails when the one that carries it does.
func (tn *tunnel) broken() *tunnel {
	found := tn
	for t := tn; t != nil; t = t.outer {
		if t.conn.Err() != nil {
			found = t
		}
	}
	return found
}

func (tn *tunnel) hopError(phase Phase, authority string, err error) *HopError {
	return hopError(tn.hops, tn.hop, phase, authority, err)
}

// release gives back a stream.
func (tn *tunnel) release() {
	tn.pool.mu.Lock()
	defer tn.pool.mu.Unlock()
	tn.releaseLocked()
}

func (tn *tunnel) releaseLocked() {
	tn.active--
	tn.backend.active--
	if tn.active == 0 {
		tn.idleFrom = time.Now()
		tn.look()
	}
	tn.group.settle()
}

// isGoodbye reports whether the peer ended the tunnel in good order.
func isGoodbye(err error) bool {
	conn := (*h2.ConnError)(nil)
	return errors.As(err, &conn) && conn.Remote && conn.Code == http2.ErrCodeNo && errors.Is(err, net.ErrClosed)
}

// look makes watch think again.
func (tn *tunnel) look() {
	select {
	case tn.wake <- struct{}{}:
	default:
	}
}

// add takes a new tunnel into its group and starts its watch.
func (g *group) add(tn *tunnel) {
	p := g.pool
	g.added++
	tn.nth = g.added
	tn.path[tn.hop].Tunnel = tn.id
	tn.idleFrom = time.Now()
	tn.backend = g.backendOf(tn.known)
	tn.backend.tunnels++
	tn.crowd = &crowd{tunnels: 1}
	p.tunnels[tn] = struct{}{}
	g.tunnels = append(g.tunnels, tn)
	if p.closed {
		tn.retireLocked(RetireClosing)
	}
	p.tasks.Go(tn.watch)
}

func (tn *tunnel) retire(why RetireReason) {
	tn.pool.mu.Lock()
	defer tn.pool.mu.Unlock()
	tn.retireLocked(why)
}

// retireLocked takes tn out of its group. Its streams go on.
func (tn *tunnel) retireLocked(why RetireReason) {
	if tn.retired != "" {
		return
	}
	tn.retired = why
	g := tn.group
	g.tunnels = slices.DeleteFunc(g.tunnels, func(other *tunnel) bool { return other == tn })
	g.dropBackend(tn.backend)
	g.leaveCrowd(tn)
	tn.look()
	if len(tn.carriers) > 0 {
		tn.lookWithin()
	}
	g.settle()
}

// lookWithin makes the watches of all tunnels within tn think again.
func (tn *tunnel) lookWithin() {
	for other := range tn.pool.tunnels {
		if other.within(tn) {
			other.look()
		}
	}
}

// watch waits for the end of the tunnel, and brings it about when it is time.
func (tn *tunnel) watch() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next, why, over := tn.pool.review(tn)
		tn.announce(why)
		if over {
			tn.goodbye()
		}
		timer.Stop()
		if next > 0 {
			timer.Reset(next)
		}
		select {
		case <-timer.C:
		case <-tn.wake:
		case <-tn.cut:
			tn.retire(RetireRevoked)
			tn.announce(RetireRevoked)
			tn.conn.CloseWithError(tn.hopError(PhaseStream, "", ErrRevoked))
			tn.finish()
			return
		case <-tn.conn.Done():
			tn.finish()
			awaitNothingLeft(tn.pool.ctx, tn.conn)
			return
		}
	}
}

// announce tells once that tn was retired, if it is. Only watch calls it.
func (tn *tunnel) announce(why RetireReason) {
	if why != "" && !tn.announced {
		tn.announced = true
		tn.pool.t.Trace.retired(tn, why)
	}
}

// review does what is due for tn. It returns when to look again, why tn was
// retired if it is, and whether its time is over.
func (p *pool) review(tn *tunnel) (next time.Duration, why RetireReason, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	idle := tn.idleTimeout()
	if tn.expired(now) {
		tn.retireLocked(RetireDrain)
	}
	if tn.active == 0 && idle > 0 && now.Sub(tn.idleFrom) >= idle {
		tn.retireLocked(RetireIdle)
	}
	if tn.retired != "" {
		return 0, tn.retired, tn.active == 0
	}
	if !tn.drain.IsZero() {
		next = tn.drain.Sub(now)
	}
	if left := idle - now.Sub(tn.idleFrom); tn.active == 0 && idle > 0 && (next == 0 || left < next) {
		next = left
	}
	return next, "", false
}

// strandedTimeout is how long an unused tunnel is kept that is in the way of a peer that drains the one that carries
// it. A path in use has a tunnel by another way before that.
const strandedTimeout = time.Second

// idleTimeout returns how long tn may be unused; at any length if that is negative.
func (tn *tunnel) idleTimeout() time.Duration {
	idle := tn.pool.t.idleTimeout()
	if tn.stranded() && (idle < 0 || idle > strandedTimeout) {
		return strandedTimeout
	}
	return idle
}

// goodbye tells the peer of a tunnel without streams, and closes it.
func (tn *tunnel) goodbye() {
	ctx, cancel := context.WithTimeout(tn.pool.ctx, time.Second)
	defer cancel()
	_ = tn.conn.Shutdown(ctx) // it ends either way
}

// finish forgets a tunnel that has ended. One that never carried a stream
// counts as a dial that failed.
func (tn *tunnel) finish() {
	err := tn.conn.Err()
	p := tn.pool
	p.mu.Lock()
	unwanted := tn.retired != "" && tn.retired != RetireGoAway || p.closed
	if !tn.proved.Load() && !unwanted && !isGoodbye(err) {
		p.countLocked(tn.hop, func(s *HopStats) { s.Failures++ })
		tn.group.failed(tn.hopError(unprovedPhase(err), "", err))
	}
	if p.closed {
		tn.retireLocked(RetireClosing)
	}
	tn.retireLocked(RetireGoAway)
	why := tn.retired
	delete(p.tunnels, tn)
	if len(p.tunnels) == 0 && p.drained != nil {
		close(p.drained)
		p.drained = nil
	}
	p.mu.Unlock()
	tn.announce(why)
	p.debug("tunnel closed", tn, "error", err)
	p.t.Trace.closed(tn, err)
	close(tn.gone)
}

func (tn *tunnel) info() TunnelInfo {
	tn.pool.mu.Lock()
	defer tn.pool.mu.Unlock()
	return TunnelInfo{ID: tn.id, Hop: tn.hop, Address: hopAddress(tn.hops, tn.hop), Backend: tn.known}
}

// backendKnown returns what was told of the backend.
func (tn *tunnel) backendKnown() Backend {
	tn.pool.mu.Lock()
	defer tn.pool.mu.Unlock()
	return tn.known
}

// notify is called by the engine when a tunnel may have room again, or has
// none any more because the peer drains it.
func (p *pool) notify(tn *tunnel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tn.conn.Err() != nil {
		return // finish comes next
	}
	if tn.backend != nil && tn.conn.Draining() { // backend: it is in its group
		tn.retireLocked(RetireGoAway)
	}
	tn.group.settle()
}
