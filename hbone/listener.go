package hbone

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ListenConfig says what a Listener accepts.
type ListenConfig struct {
	// TLS says who we are and which clients we accept. It is required.
	TLS Credentials

	// Admit decides on each CONNECT: 200 lets it wait for Accept, any other
	// status is the answer. It may be called concurrently. If nil, every
	// authority is let in: there is one destination, whoever calls Accept.
	Admit func(*Request) (status int)

	// Header returns the header to answer with. If nil, there is none.
	Header func(*Request) http.Header

	// Backlog is how many streams may wait for Accept; more get status 503.
	// If zero, the default of 128 is used.
	Backlog int

	// MaxConnections is how many connections there may be at a time; one more is closed at once. See Server.
	// If zero, the default of 10,000 is used. If negative, there is no limit.
	MaxConnections int

	// HTTP2 tunes the tunnels.
	HTTP2 HTTP2

	// Refused is told of each connection that came to no tunnel. It may be nil, and must return soon.
	Refused func(*RefusedError)

	// Logger hears of tunnels that failed, at debug level. If nil, silence.
	Logger *slog.Logger
}

// A Listener is a net.Listener of streams: to net/http or gRPC servers, a mesh
// port like any other.
type Listener struct {
	inner    net.Listener
	server   Server
	cfg      ListenConfig
	requests chan *pending // unbuffered: handlers are the queue
	waiting  atomic.Int64  // handlers in enqueue
	draining chan struct{} // the listener beneath is closed
	done     chan struct{} // nothing comes any more
	end      sync.Once
	err      error // set before done
}

var _ net.Listener = (*Listener)(nil)

// pending is a request that Accept took.
type pending struct {
	*Request
	answered chan struct{}
}

// Listen serves HBONE on l, and returns its streams from Accept. The Listener
// owns l.
func Listen(l net.Listener, cfg ListenConfig) *Listener {
	ln := &Listener{
		inner:    l,
		cfg:      cfg,
		requests: make(chan *pending),
		draining: make(chan struct{}),
		done:     make(chan struct{}),
	}
	ln.server = Server{
		TLS:            cfg.TLS,
		Handler:        ln.enqueue,
		MaxConnections: cfg.MaxConnections,
		HTTP2:          cfg.HTTP2,
		Refused:        cfg.Refused,
		Logger:         cfg.Logger,
	}
	go func() {
		err := ln.server.Serve(context.Background(), l)
		close(ln.draining)
		if !errors.Is(err, ErrClosed) { // else Close or Shutdown is at it
			ln.finish(err)
		}
	}()
	return ln
}

// finish makes Accept return err.
func (ln *Listener) finish(err error) {
	ln.end.Do(func() {
		ln.err = err
		close(ln.done)
	})
}

// Accept waits for a stream, answers it with status 200, and returns it; the
// net.Conn is a *Conn. Until then the client is not connected.
func (ln *Listener) Accept() (net.Conn, error) {
	for {
		select {
		case p := <-ln.requests:
			if c := ln.accept(p); c != nil {
				return c, nil
			}
		case <-ln.done:
			return nil, ln.err
		}
	}
}

// accept returns nil for a stream that the client gave up.
func (ln *Listener) accept(p *pending) *Conn {
	defer close(p.answered)
	var header http.Header
	if ln.cfg.Header != nil {
		header = ln.cfg.Header(p.Request)
	}
	c, err := p.Accept(header)
	if err != nil {
		return nil
	}
	return c
}

// enqueue is the server's Handler. It stays until the request is answered: a
// stream whose Handler returns without an answer has failed.
func (ln *Listener) enqueue(r *Request) {
	if ln.cfg.Admit != nil {
		if status := ln.cfg.Admit(r); status != http.StatusOK {
			_ = r.Reject(status)
			return
		}
	}
	defer ln.waiting.Add(-1)
	if ln.waiting.Add(1) > int64(orDefault(ln.cfg.Backlog, 128)) {
		_ = r.Reject(http.StatusServiceUnavailable)
		return
	}
	p := &pending{Request: r, answered: make(chan struct{})}
	select {
	case ln.requests <- p:
		<-p.answered
	case <-ln.draining:
		ln.enqueueLate(p)
	case <-r.Context().Done():
	}
}

// lateness is how long a stream waits for Accept that came, or is still there,
// when the listener was closed. Then it is clear that nobody accepts any more.
const lateness = time.Second

// enqueueLate takes such a stream.
func (ln *Listener) enqueueLate(p *pending) {
	timer := time.NewTimer(lateness)
	defer timer.Stop()
	select {
	case ln.requests <- p:
		<-p.answered
	case <-timer.C:
		_ = p.Reject(http.StatusServiceUnavailable)
	case <-p.Context().Done():
	}
}

// Close stops listening and cuts all streams. It may be called more than once.
func (ln *Listener) Close() error {
	err := ln.server.Close()
	<-ln.draining
	ln.finish(ErrClosed)
	return err
}

// Shutdown stops listening, lets accepted streams finish, and closes. When ctx
// ends first, it cuts what is left and returns ctx's error. Until it is done,
// Accept goes on, for streams that clients opened before they heard of it.
func (ln *Listener) Shutdown(ctx context.Context) error {
	err := ln.server.Shutdown(ctx)
	<-ln.draining
	ln.finish(ErrClosed)
	return err
}

// Server returns the server behind the Listener, for its Streams and Stats.
func (ln *Listener) Server() *Server { return &ln.server }

// Addr returns the address of the listener beneath.
func (ln *Listener) Addr() net.Addr { return ln.inner.Addr() }
