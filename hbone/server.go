package hbone

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/h2"
)

// A Server accepts tunnels and hands each CONNECT in them to a Handler. It is
// safe for concurrent use, and must not be changed or copied after its first
// use.
type Server struct {
	// TLS says who we are and which clients we accept. It is required. Config
	// is called for every connection, so certificates and accepted peers may
	// change at any time.
	TLS Credentials

	// Handler answers each CONNECT, in a goroutine of its own: by
	// Request.Accept or Request.Reject. A request that it leaves unanswered
	// gets status 500. If nil, all get 404. A CONNECT whose authority is not
	// host:port gets 400 without it.
	Handler func(*Request)

	// MaxStreams is how many streams a tunnel may have; more are refused, and
	// a client takes them elsewhere. If zero, the default of 200 is used.
	MaxStreams int

	// MaxConnections is how many connections there may be at a time, from being
	// accepted to their end; the tunnels of ServeConn count. One more is closed
	// at once, before its handshake, and Refused is told: ErrTooManyConnections.
	// It bounds what all clients together cost, and does not tell them apart.
	// If zero, the default of 10,000 is used. If negative, there is no limit.
	MaxConnections int

	// HandshakeTimeout bounds the TLS handshake, and then the wait for the
	// client's HTTP/2 preface and settings.
	// If zero, the default of 10 s is used. If negative, there is no limit.
	HandshakeTimeout time.Duration

	// SessionTickets lets clients resume TLS sessions. The credentials must
	// then verify in VerifyConnection, which is called on resumption too, and
	// return the same configuration each time, as it holds the tickets' keys.
	SessionTickets bool

	// HTTP2 tunes the tunnels.
	HTTP2 HTTP2

	// Refused is told of each connection that came to no tunnel (one too many, no
	// or a bad client certificate, a client that gave up, no HTTP/2), and of each
	// tunnel that was cut because its credentials were revoked. It may be nil, is
	// called from several goroutines, and must return soon.
	Refused func(*RefusedError)

	// Logger hears of tunnels that failed, at debug level. If nil, silence.
	Logger *slog.Logger

	mu        sync.Mutex
	closing   bool
	nextID    uint64
	memory    *h2.Memory // of all tunnels; made with the first
	listeners map[net.Listener]struct{}
	tunnels   map[*serverTunnel]struct{}
	streams   map[*h2.Stream]*Conn
	stats     ServerStats    // the counters; the rest is found by counting
	running   sync.WaitGroup // tunnels and handlers
}

// A RefusedError is a connection that a Server did not take, or cut.
type RefusedError struct {
	RemoteAddr net.Addr
	Phase      Phase // PhaseDial if it was one too many, PhaseTLS, PhaseHTTP2, or PhaseStream if it was cut later
	Err        error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("hbone: tunnel from %v: %s: %v", e.RemoteAddr, e.Phase, e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// Serve accepts connections from l and serves each in a goroutine of its own.
// It returns when l fails, or, with ErrClosed, after Close or Shutdown. When
// ctx ends, it cuts the tunnels that came by l and returns ctx's error. It
// closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	if err := s.check(ctx); err != nil {
		return err
	}
	if !s.addListener(l) {
		return ErrClosed
	}
	defer s.removeListener(l)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for pause := time.Duration(0); ; {
		nc, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			// Counted before the next Accept, so that a Shutdown in between tells its client, too.
			if tunnel, err := s.newTunnel(nc); err == nil {
				go func() { _ = s.serveTunnel(ctx, tunnel) }() // which tells Refused and Logger
			}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.isClosing():
			return ErrClosed
		case !isTemporary(err):
			return err
		default: // such as too many open files
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.debug("accept failed", "error", err, "pause", pause)
			wait(ctx, pause)
		}
	}
}

// ServeConn serves one connection, until it ends: TCP, or a *Conn, which makes
// this the inner end of a nested tunnel. It owns nc. When ctx ends, the tunnel
// is cut.
//
// It returns nil when the tunnel came to an orderly end, and *RefusedError
// when it never came to be.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) error {
	tunnel, err := s.newTunnel(nc)
	if err != nil {
		return err
	}
	return s.serveTunnel(ctx, tunnel)
}

// newTunnel closes nc if the server takes no more.
func (s *Server) newTunnel(nc net.Conn) (*serverTunnel, error) {
	tunnel := &serverTunnel{server: s, nc: nc, abort: make(chan struct{})}
	err := s.addTunnel(tunnel)
	if err == nil {
		return tunnel, nil
	}
	nc.Close()
	if errors.Is(err, ErrTooManyConnections) {
		err = tunnel.refused(PhaseDial, err)
		s.tellRefused(err)
	}
	return nil, err
}

func (s *Server) serveTunnel(ctx context.Context, tunnel *serverTunnel) error {
	defer s.removeTunnel(tunnel)
	err := tunnel.serve(ctx)
	s.tellRefused(err)
	return err
}

// tellRefused tells of err if a connection was refused.
func (s *Server) tellRefused(err error) {
	refused := (*RefusedError)(nil)
	if !errors.As(err, &refused) {
		return
	}
	s.debug("tunnel refused", "error", err)
	s.mu.Lock()
	s.stats.Refused++
	s.mu.Unlock()
	if s.Refused != nil {
		s.Refused(refused)
	}
}

// ServerStats are counts of what a Server has and did.
type ServerStats struct {
	Connections int    // open now, with those in their handshake; see MaxConnections
	Streams     int    // accepted, and open now
	Accepted    uint64 // connections that came and were not too many
	TooMany     uint64 // connections that were closed because of MaxConnections
	Refused     uint64 // connections that Refused was told of; those of TooMany are among them
}

// Stats returns the counts of this moment.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Connections, stats.Streams = len(s.tunnels), len(s.streams)
	return stats
}

// Streams yields the accepted streams that are open now, for instance to check
// them again after a policy changed. Streams that begin or end meanwhile may
// or may not be among them.
func (s *Server) Streams() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		s.mu.Lock()
		streams := make([]*Conn, 0, len(s.streams))
		for _, c := range s.streams {
			streams = append(streams, c)
		}
		s.mu.Unlock()
		for _, c := range streams {
			if !yield(c) {
				return
			}
		}
	}
}

// Shutdown closes the listeners, tells the clients of all tunnels to send no
// new streams (GOAWAY), lets streams and handlers finish, and closes each
// connection when its client has taken what was sent, or after 5 s. When ctx
// ends first, it cuts what is left and returns ctx's error. It must not be
// called by a Handler.
func (s *Server) Shutdown(ctx context.Context) error {
	var drains sync.WaitGroup
	for _, tunnel := range s.beginClosing() {
		drains.Go(func() { tunnel.drain(ctx) })
	}
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		drains.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.cut()
		<-done
		return ctx.Err()
	}
}

// Close closes the listeners, cuts all tunnels and their streams, and waits
// for the handlers to return. It may be called more than once, but not by a
// Handler.
func (s *Server) Close() error {
	s.beginClosing()
	s.cut()
	s.running.Wait()
	return nil
}

// beginClosing returns the tunnels of this moment; there will be no new ones.
func (s *Server) beginClosing() []*serverTunnel {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	for l := range s.listeners {
		l.Close()
	}
	tunnels := make([]*serverTunnel, 0, len(s.tunnels))
	for tunnel := range s.tunnels {
		tunnels = append(tunnels, tunnel)
	}
	return tunnels
}

func (s *Server) cut() {
	for _, tunnel := range s.beginClosing() {
		tunnel.cutOnce.Do(func() { close(tunnel.abort) })
	}
}

func (s *Server) check(ctx context.Context) error {
	if isPlaintext(s.TLS) {
		return nil
	}
	ctx, cancel := withLimit(ctx, s.HandshakeTimeout)
	defer cancel()
	_, err := s.config(ctx)
	if config := (*ConfigError)(nil); errors.As(err, &config) {
		return config
	}
	return nil // a source that has no certificate yet may have one later
}

// config returns the configuration of the next handshake.
func (s *Server) config(ctx context.Context) (*tls.Config, error) {
	if s.TLS == nil {
		return nil, &ConfigError{Hop: -1, Field: "Server.TLS", Err: ErrNoCredentials}
	}
	cfg, err := serverConfig(ctx, s.TLS, s.SessionTickets)
	return cfg, ended(ctx, err)
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	if s.listeners == nil {
		s.listeners = make(map[net.Listener]struct{})
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) removeListener(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) addTunnel(tunnel *serverTunnel) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return ErrClosed
	}
	if limit := orDefault(s.MaxConnections, 10_000); limit >= 0 && len(s.tunnels) >= limit {
		s.stats.TooMany++
		return ErrTooManyConnections
	}
	if s.tunnels == nil {
		s.tunnels = make(map[*serverTunnel]struct{})
		s.memory = s.HTTP2.memory()
	}
	s.nextID++
	tunnel.id = s.nextID
	s.tunnels[tunnel] = struct{}{}
	s.stats.Accepted++
	s.running.Add(1)
	return nil
}

func (s *Server) removeTunnel(tunnel *serverTunnel) {
	s.mu.Lock()
	delete(s.tunnels, tunnel)
	s.mu.Unlock()
	s.running.Done()
}

// addStream reports whether c was not listed yet.
func (s *Server) addStream(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams == nil {
		s.streams = make(map[*h2.Stream]*Conn)
	}
	if s.streams[c.stream] != nil {
		return false
	}
	s.streams[c.stream] = c
	return true
}

func (s *Server) removeStream(stream *h2.Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, stream)
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Server) debug(msg string, args ...any) {
	if s.Logger != nil {
		s.Logger.Debug(msg, args...)
	}
}

// handle is called by the engine for each CONNECT.
func (s *Server) handle(tunnel *serverTunnel, stream *h2.Stream) {
	r := &Request{Conn{stream: stream, server: tunnel}}
	if err := checkAuthority(r.Authority()); err != nil {
		s.debug("bad authority", "authority", fmt.Sprintf("%.300q", r.Authority()), "error", err)
		_ = r.Reject(http.StatusBadRequest)
		return
	}
	if s.Handler == nil {
		_ = r.Reject(http.StatusNotFound)
		return
	}
	s.Handler(r)
}

// isTemporary reports whether a listener may work again.
func isTemporary(err error) bool {
	temporary, ok := err.(interface{ Temporary() bool })
	return ok && temporary.Temporary()
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
