package hbone

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/h2"
)

// A serverTunnel is one connection of a Server. The goroutine in serve owns it.
type serverTunnel struct {
	server  *Server
	id      uint64
	nc      net.Conn
	state   tls.ConnectionState
	abort   chan struct{} // closed by Server.cut
	cutOnce sync.Once

	mu       sync.Mutex
	conn     *h2.Conn // nil until the handshake is done
	draining bool
	ended    bool
}

func (t *serverTunnel) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with serve
		select {
		case <-t.abort:
			cancel(ErrClosed)
		case <-ctx.Done():
		}
	}()
	nc, state, err := t.handshake(ctx)
	if err != nil {
		t.nc.Close()
		return t.refused(PhaseTLS, err)
	}
	t.state = state
	drainAt, cut := t.server.TLS.Retire(state)
	select {
	case <-cut:
		nc.Close()
		return t.refused(PhaseTLS, ErrRevoked)
	default:
	}
	cfg := t.server.HTTP2.config(t.server.memory, limit(t.server.HandshakeTimeout), t.server.Logger)
	cfg.MaxConcurrentStreams = t.server.MaxStreams
	cfg.StreamEnded = t.server.removeStream
	defer t.end()
	conn, err := h2.NewServer(nc, cfg, func(stream *h2.Stream) {
		if t.beginHandler() {
			defer t.server.running.Done()
			t.server.handle(t, stream)
		}
	})
	if err != nil {
		return t.refused(PhaseHTTP2, err)
	}
	return t.watch(ctx, conn, drainAt, cut)
}

// beginHandler counts a handler as running, unless the tunnel has ended and
// the server may not wait any more.
func (t *serverTunnel) beginHandler() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	t.server.running.Add(1)
	return true
}

func (t *serverTunnel) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
}

// handshake returns the connection to speak HTTP/2 on.
func (t *serverTunnel) handshake(ctx context.Context) (net.Conn, tls.ConnectionState, error) {
	s := t.server
	if isPlaintext(s.TLS) {
		return unwrap(t.nc), tls.ConnectionState{}, nil
	}
	ctx, cancel := withLimit(ctx, s.HandshakeTimeout)
	defer cancel()
	cfg, err := s.config(ctx)
	if err != nil {
		return nil, tls.ConnectionState{}, err
	}
	conn := h2.TLSServer(unwrap(t.nc), cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, tls.ConnectionState{}, ended(ctx, err)
	}
	state := conn.ConnectionState()
	return conn, state, checkState(state)
}

// watch waits for the end, and brings it about when it is time.
func (t *serverTunnel) watch(ctx context.Context, conn *h2.Conn, drainAt time.Time, cut <-chan struct{}) error {
	timer := newTimerAt(drainAt)
	defer timer.Stop()
	if t.opened(conn) {
		go t.drain(ctx)
	}
	for {
		select {
		case <-conn.Done():
			awaitNothingLeft(ctx, conn)
			return t.orderly(conn.Err())
		case <-cut:
			err := t.refused(PhaseStream, ErrRevoked)
			conn.CloseWithError(err)
			return err
		case <-ctx.Done():
			conn.CloseWithError(context.Cause(ctx))
			return context.Cause(ctx)
		case <-timer.C:
			go t.drain(ctx) // ends when conn has, which is when watch does
		}
	}
}

// awaitNothingLeft waits until the peer has taken what was sent before conn ended, and its goroutines are gone.
// When ctx ends, it does not wait for the peer any more.
func awaitNothingLeft(ctx context.Context, conn *h2.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	conn.Wait()
}

// opened publishes conn and reports whether it is to be drained at once.
func (t *serverTunnel) opened(conn *h2.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn = conn
	return t.draining
}

// drain sends GOAWAY, waits for the streams until ctx ends, and closes the
// tunnel. One that is still in its handshake is drained after it.
func (t *serverTunnel) drain(ctx context.Context) {
	t.mu.Lock()
	t.draining = true
	conn := t.conn
	t.mu.Unlock()
	if conn != nil {
		_ = conn.Shutdown(ctx)
	}
}

func (t *serverTunnel) refused(phase Phase, err error) *RefusedError {
	return &RefusedError{RemoteAddr: t.nc.RemoteAddr(), Phase: phase, Err: err}
}

// orderly returns nil for the end that a client or a Shutdown intended.
func (t *serverTunnel) orderly(err error) error {
	if errors.Is(err, net.ErrClosed) || isDisconnect(err) {
		return nil
	}
	return err
}

// newTimerAt returns a timer for t; the zero time never comes.
func newTimerAt(t time.Time) *time.Timer {
	if t.IsZero() {
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		return timer
	}
	return time.NewTimer(time.Until(t))
}
