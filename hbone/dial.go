package hbone

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/h2"
)

// makeTunnel makes a tunnel to the last of hops, which is where those of g end: reach it, do the
// handshake, start HTTP/2. If unwanted is set, it is asked about a backend that the
// gateway names, before the handshake. The tunnel keeps hops.
func (p *pool) makeTunnel(g *group, hops []Hop, unwanted func(Backend) bool) (*tunnel, error) {
	began := time.Now()
	tn := &tunnel{
		pool:  p,
		group: g,
		hops:  hops,
		hop:   g.depth,
		wake:  make(chan struct{}, 1),
		gone:  make(chan struct{}),

		carriers: make(map[*h2.Stream]struct{}),
	}
	p.number(tn)
	p.t.Trace.dial(tn)
	if err := tn.make(p.ctx, hops, unwanted); err != nil {
		if !errors.Is(err, ErrDuplicateBackend) {
			p.count(tn.hop, func(s *HopStats) { s.Failures++ })
			p.debug("tunnel failed", tn, "error", err)
		}
		p.t.Trace.failed(tn, err)
		return nil, err
	}
	p.debug("tunnel ready", tn, "took", time.Since(began))
	p.t.Trace.ready(tn, time.Since(began))
	return tn, nil
}

// number counts a tunnel that is about to be made.
func (p *pool) number(tn *tunnel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastID++
	tn.id = p.lastID
	p.countLocked(tn.hop, func(s *HopStats) { s.Dials++ })
	tn.opened = p.opened[tn.hop]
}

func (tn *tunnel) make(ctx context.Context, hops []Hop, unwanted func(Backend) bool) error {
	raw, err := tn.reach(ctx, hops)
	if err != nil {
		return err
	}
	if unwanted != nil && tn.known.Source == BackendHeader && unwanted(tn.known) {
		raw.Close() // before it cost a handshake
		return ErrDuplicateBackend
	}
	nc, err := tn.secure(ctx, hops, raw)
	if err != nil {
		raw.Close()
		return err
	}
	if tn.hop > 0 && tn.known.Source == BackendUnknown {
		tn.known = backendOfCertificate(tn.path[tn.hop].TLS)
	}
	t := tn.pool.t
	cfg := t.HTTP2.config(tn.pool.memory, limit(t.HTTP2Timeout), t.Logger)
	cfg.StreamEnded = tn.streamEnded
	if t.ConnectTimeout >= 0 {
		cfg.AnswerTimeout = limit(t.ConnectTimeout)
	}
	tn.conn, err = h2.NewClient(nc, cfg)
	if err != nil {
		return hopError(hops, tn.hop, PhaseHTTP2, "", err)
	}
	tn.conn.NotifyAvailable(func() { tn.pool.notify(tn) })
	return nil
}

// reach connects to the hop: by TCP to the first, by a stream of the hop
// before to any other.
func (tn *tunnel) reach(ctx context.Context, hops []Hop) (net.Conn, error) {
	if tn.hop == 0 {
		tn.path = []HopState{{Address: hops[0].Address}}
		return tn.pool.t.dialTCP(ctx, hops)
	}
	before := hops[tn.hop-1]
	carrier, err := tn.pool.connect(ctx, hops[:tn.hop], before.TunnelHeader, tn.spread())
	if err != nil {
		return nil, err
	}
	tn.carriedBy(carrier)
	tn.known = backendOfHeader(carrier.Header())
	tn.path = append(carrier.Hops(), HopState{Address: before.Authority})
	return carrier, nil
}

// spread is how many tunnels the latest dial wants there to be.
func (tn *tunnel) spread() int {
	tn.pool.mu.Lock()
	defer tn.pool.mu.Unlock()
	return tn.group.spread
}

func (tn *tunnel) carriedBy(carrier *Conn) {
	tn.pool.mu.Lock()
	defer tn.pool.mu.Unlock()
	tn.outer = carrier.tunnel
	if carrier.stream.Context().Err() == nil { // or else streamEnded may not come any more
		tn.outer.carriers[carrier.stream] = struct{}{}
	}
}

func (t *Transport) dialTCP(ctx context.Context, hops []Hop) (net.Conn, error) {
	ctx, cancel := withLimit(ctx, t.DialTimeout)
	defer cancel()
	dial := t.DialContext
	if dial == nil {
		dial = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
	}
	nc, err := dial(ctx, "tcp", hops[0].Address)
	if err != nil {
		return nil, hopError(hops, 0, PhaseDial, "", ended(ctx, err))
	}
	return nc, nil
}

// keepAlive is ztunnel's.
var keepAlive = net.KeepAliveConfig{
	Enable:   true,
	Idle:     180 * time.Second,
	Interval: 180 * time.Second,
	Count:    9,
}

// secure does the TLS handshake and notes what it came to.
func (tn *tunnel) secure(ctx context.Context, hops []Hop, raw net.Conn) (net.Conn, error) {
	creds := hops[tn.hop].TLS
	var state tls.ConnectionState
	nc := unwrap(raw)
	if !isPlaintext(creds) {
		ctx, cancel := withLimit(ctx, tn.pool.t.TLSTimeout)
		defer cancel()
		conn, err := handshake(ctx, creds, nc)
		if err != nil {
			return nil, tlsError(hops, tn.hop, ended(ctx, err))
		}
		tn.pool.count(tn.hop, func(s *HopStats) { s.Handshakes++ })
		state, nc = conn.ConnectionState(), conn
		tn.pool.t.Trace.tls(tn, state)
	}
	tn.path[tn.hop].TLS = state
	tn.setLifetime(creds, state)
	if err := tn.unfit(time.Now()); err != nil {
		return nil, hopError(hops, tn.hop, PhaseTLS, "", err)
	}
	return nc, nil
}

// unfit says why a tunnel is not even to begin, if it is not.
func (tn *tunnel) unfit(now time.Time) error {
	select {
	case <-tn.cut:
		return ErrRevoked
	default:
	}
	switch {
	case string(appendTunnelKey(nil, tn.hops, tn.hop)) != tn.group.key:
		return errOutdated
	case tn.outer != nil && tn.outer.expired(now): // another one will carry the next
		return errOutdated
	case tn.expired(now):
		return ErrExpired
	}
	return nil
}

func handshake(ctx context.Context, creds Credentials, nc net.Conn) (*h2.TLSConn, error) {
	cfg, err := clientConfig(ctx, creds)
	if err != nil {
		return nil, err
	}
	conn := h2.TLSClient(nc, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return conn, checkState(conn.ConnectionState())
}

func tlsError(hops []Hop, hop int, err error) error {
	if config := (*ConfigError)(nil); errors.As(err, &config) {
		return &ConfigError{Hop: hop, Field: config.Field, Err: config.Err}
	}
	return hopError(hops, hop, PhaseTLS, "", err)
}

// setLifetime says when the tunnel ends. It does not outlive the right to use
// the one that carries it.
func (tn *tunnel) setLifetime(creds Credentials, state tls.ConnectionState) {
	tn.drain, tn.cut = creds.Retire(state)
	if tn.outer != nil && !tn.outer.drain.IsZero() && (tn.drain.IsZero() || tn.outer.drain.Before(tn.drain)) {
		tn.drain = tn.outer.drain
	}
	if age := tn.pool.t.maxTunnelAge(); age > 0 {
		tn.ages = time.Now().Add(age - age/10 + time.Duration(rand.Int64N(int64(age)/5+1)))
	}
}

// hopError makes the error for a hop.
func hopError(hops []Hop, hop int, phase Phase, authority string, err error) *HopError {
	return &HopError{Hop: hop, Address: hopAddress(hops, hop), Authority: authority, Phase: phase, Err: err}
}

// hopAddress is what leads to a hop.
func hopAddress(hops []Hop, hop int) string {
	if hop == 0 {
		return hops[0].Address
	}
	return hops[hop-1].Authority
}

// limit turns the convention of the timeout fields (zero: the default;
// negative: none) into a duration.
func limit(d time.Duration) time.Duration {
	switch {
	case d == 0:
		return defaultPhaseTimeout
	case d < 0:
		return time.Duration(1<<63 - 1)
	}
	return d
}

// withLimit bounds a phase.
func withLimit(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d < 0 {
		return context.WithCancel(ctx)
	}
	d = limit(d)
	return context.WithTimeoutCause(ctx, d, phaseTimeout{d})
}

// ended replaces an error that only says that ctx ended by the reason: a time
// limit of ours, or the caller's.
func ended(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, ctx.Err()) || errors.As(cause, new(phaseTimeout)) || errors.Is(cause, ErrClosed):
		return cause
	}
	return fmt.Errorf("%w: %w", ctx.Err(), cause)
}

func (p *pool) debug(msg string, tn *tunnel, args ...any) {
	if p.t.Logger == nil {
		return
	}
	tunnel := tn.info()
	args = append(args, "tunnel", tunnel.ID, "hop", tunnel.Hop, "address", tunnel.Address)
	p.t.Logger.Debug(msg, args...)
}
