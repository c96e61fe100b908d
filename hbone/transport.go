package hbone

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"
)

// A Transport dials streams through HBONE servers. It keeps the tunnels that
// it makes and shares them between streams, on every hop of a path.
//
// The zero value works. A Transport is safe for concurrent use, and must not
// be changed or copied after its first use. It shares tunnels only between
// paths that have the same first address, and on each hop the same local
// identity, accepted peers, authority and tunnel header.
//
// It knows nothing of source addresses or network namespaces: use one
// Transport for each, with its own DialContext.
type Transport struct {
	// DialContext connects to the first hop. If nil, a net.Dialer does, with
	// TCP keepalive after 180 s as ztunnel has it.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	// DialTimeout, TLSTimeout, HTTP2Timeout and ConnectTimeout bound the phases
	// of a hop: DialContext, the handshake, the wait for the peer's HTTP/2
	// settings, and the wait for the answer to a CONNECT. ConnectTimeout also
	// bounds the wait for a free stream, where no more tunnels may be made.
	// If zero, the default of 10 s is used. If negative, there is no limit.
	DialTimeout    time.Duration
	TLSTimeout     time.Duration
	HTTP2Timeout   time.Duration
	ConnectTimeout time.Duration

	// MaxStreamsPerTunnel is how many streams a tunnel carries before another
	// one is made. If the peer allows fewer, that counts; while it allows none, dials
	// wait, as with MaxTunnels.
	// If zero, the default of 100 is used. If negative, only what the peer allows counts.
	MaxStreamsPerTunnel int

	// MaxTunnels bounds the tunnels that may stand in for each other; further
	// dials wait for a free stream, for ConnectTimeout: then they fail with a
	// *SaturatedError. If zero, there is no limit.
	MaxTunnels int

	// IdleTimeout is how long a tunnel is kept after its last stream, or Warm, ended.
	// If zero, the default of 5 min is used. If negative, idle tunnels are kept.
	IdleTimeout time.Duration

	// MaxTunnelAge is when a tunnel is to be replaced, give or take a tenth:
	// new streams go to a younger one as soon as there is one, and streams
	// that it has are left alone, with the tunnels in them. So a load balancer in
	// front of a hop, and backends that appear behind a gateway, get their share.
	// If zero, the default of 30 min is used. If negative, there is no limit.
	MaxTunnelAge time.Duration

	// MaxBackoff bounds the pause after a failed dial, in which dials of the
	// same tunnel fail at once. It starts at 50 ms and doubles.
	// If zero, the default of 1 s is used. If negative, there is no pause.
	MaxBackoff time.Duration

	// HTTP2 tunes the tunnels.
	HTTP2 HTTP2

	// Trace is told what happens. It may be nil.
	Trace *Trace

	// Logger hears of tunnels made and ended, at debug level. If nil, silence.
	Logger *slog.Logger

	start sync.Once
	pool  *pool
}

// Dial opens a stream through all hops of p. Tunnels that are there already
// are used; of those that are missing, one dial serves all who wait for it.
//
// When ctx ends, Dial returns; the stream that it returned is not bound to
// ctx. A tunnel that others may use goes on being made. Errors are
// *ConfigError, *HopError with the hop and phase that failed, or ErrClosed.
func (t *Transport) Dial(ctx context.Context, p Path) (*Conn, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	conn, err := t.tunnels().connect(ctx, p.Hops, p.StreamHeader, p.spread())
	if err != nil {
		return nil, err
	}
	conn.tunnel.meet(conn.Header())
	return conn, nil
}

// Warm makes the tunnels that a Dial of p would use, on every hop, and opens no stream: such a Dial takes one round
// trip from then on. Tunnels that are there are kept, as if they had been used now, and one is asked whether it is
// alive. Call it again within IdleTimeout to keep them longer.
//
// Where p is to be spread, Warm also looks for up to Path.Spread backends, one after the other, and returns when it
// has found them, or would look for more only later. Where the gateway does not name them, it makes as many tunnels, and
// dials find out where those lead. Only the first tunnel must succeed. All limits count,
// and while it runs Warm takes the place of one stream.
//
// When ctx ends, Warm returns, and what it has begun goes on. Errors are those of Dial.
func (t *Transport) Warm(ctx context.Context, p Path) error {
	if err := p.check(); err != nil {
		return err
	}
	return t.tunnels().warm(ctx, p.Hops, p.spread())
}

// A Dialer dials one Path. It is safe for concurrent use.
type Dialer struct {
	transport *Transport
	path      Path
}

// Dialer returns a Dialer for p. The Authority of a hop may be left empty:
// the address that is dialled takes its place, on all such hops.
func (t *Transport) Dialer(p Path) *Dialer { return &Dialer{transport: t, path: p} }

// DialContext opens a stream; the returned net.Conn is a *Conn. It fits
// http.Transport.DialContext, and is a ContextDialer of golang.org/x/net/proxy.
// The network must be "tcp", "tcp4" or "tcp6".
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, net.UnknownNetworkError(network)
	}
	path := d.path
	path.Hops = make([]Hop, len(d.path.Hops))
	for i, hop := range d.path.Hops {
		if hop.Authority == "" {
			hop.Authority = address
		}
		path.Hops[i] = hop
	}
	conn, err := d.transport.Dial(ctx, path)
	if err != nil {
		return nil, err // not conn: a nil *Conn is not a nil net.Conn
	}
	return conn, nil
}

// Shutdown takes no new dials, lets streams finish, and closes each tunnel
// when its last stream ended. When ctx ends first, it closes what is left and
// returns ctx's error.
func (t *Transport) Shutdown(ctx context.Context) error { return t.tunnels().shutdown(ctx) }

// Close ends all tunnels and streams at once and waits until they are gone. It
// may be called more than once.
func (t *Transport) Close() error {
	t.tunnels().close()
	return nil
}

// CloseIdle closes the tunnels that carry no streams, inner ones first.
func (t *Transport) CloseIdle() { t.tunnels().closeIdle() }

// Stats are counts of what a Transport has and did.
type Stats struct {
	Tunnels int        // open now, on all hops
	Streams int        // open now, without those that carry inner tunnels
	Hops    []HopStats // by the depth of the hop, nearest first
}

// HopStats are counts for the hops at one depth.
type HopStats struct {
	Tunnels    int    // open now
	Streams    int    // open now, with those that carry inner tunnels
	Dials      uint64 // tunnels begun
	Handshakes uint64 // TLS handshakes that succeeded on our side
	Failures   uint64 // tunnels that failed before they carried a stream
	Opened     uint64 // CONNECTs answered with 200
	Retried    uint64 // CONNECTs repeated on another tunnel because the peer had not taken them
}

// Handshakes returns how many TLS handshakes succeeded, on all hops.
func (s Stats) Handshakes() uint64 {
	var n uint64
	for _, hop := range s.Hops {
		n += hop.Handshakes
	}
	return n
}

// Stats returns the counts of this moment.
func (t *Transport) Stats() Stats { return t.tunnels().snapshot() }

func (t *Transport) tunnels() *pool {
	t.start.Do(func() { t.pool = newPool(t) })
	return t.pool
}

const defaultPhaseTimeout = 10 * time.Second

func (t *Transport) maxStreams() int {
	if t.MaxStreamsPerTunnel < 0 {
		return 1 << 30 // as many as there are stream IDs (RFC 9113 §5.1.1)
	}
	return orDefault(t.MaxStreamsPerTunnel, 100)
}

func (t *Transport) idleTimeout() time.Duration  { return orDefault(t.IdleTimeout, 5*time.Minute) }
func (t *Transport) maxTunnelAge() time.Duration { return orDefault(t.MaxTunnelAge, 30*time.Minute) }
func (t *Transport) maxBackoff() time.Duration   { return orDefault(t.MaxBackoff, time.Second) }

func orDefault[T int | time.Duration](v, fallback T) T {
	if v == 0 {
		return fallback
	}
	return v
}
