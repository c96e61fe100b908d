package dnsproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Server serves DNS over UDP and TCP, on any number of sockets. Its fields must
// not be changed after its first use; its methods are safe for concurrent use.
//
// It has one goroutine per query that is being answered, and one per socket and
// TCP connection. Shutdown and Close end them all.
type Server struct {
	// Handler answers; required. Calls run concurrently.
	Handler dns.Handler

	// MaxQueries bounds the queries that are worked on at one time; further ones
	// wait, one for each socket and the others in its buffer. Zero means 1024.
	MaxQueries int

	// MaxConns bounds the TCP connections that are served; further ones wait, one
	// for each listener and the others in its backlog. Zero means 256.
	MaxConns int

	// IdleTimeout ends a TCP connection on which no query came (RFC 7766 section
	// 6.2.3), and one that does not take a response. Zero means 10 s.
	IdleTimeout time.Duration

	// Logger gets what goes wrong; nil is silent.
	Logger *slog.Logger

	once    sync.Once
	queries chan struct{} // one token for each query that is worked on
	conns   chan struct{} // one for each TCP connection
	done    chan struct{} // closed when the server stops

	mu       sync.Mutex
	stopping bool
	open     map[stopper]struct{}
	running  sync.WaitGroup
}

// stopper is a socket of the server.
type stopper interface {
	io.Closer
	stop() // reads no more, but may still write
}

const (
	defaultMaxQueries  = 1024
	defaultMaxConns    = 256
	defaultIdleTimeout = 10 * time.Second
)

func (s *Server) init() {
	s.once.Do(func() {
		s.queries = make(chan struct{}, cmp.Or(s.MaxQueries, defaultMaxQueries))
		s.conns = make(chan struct{}, cmp.Or(s.MaxConns, defaultMaxConns))
		s.done = make(chan struct{})
		s.open = make(map[stopper]struct{})
	})
}

// ListenAndServe serves UDP and TCP on addr, such as "127.0.0.1:15053", until ctx
// is done; then it shuts the server down and returns nil when what was asked is
// answered. It returns the error of a socket that fails before. The port must
// not be 0: that would be two ports.
func (s *Server) ListenAndServe(ctx context.Context, addr string) error {
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return fmt.Errorf("dnsproxy: %w", err)
	}
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return errors.Join(fmt.Errorf("dnsproxy: %w", err), pc.Close())
	}
	ended, running := make(chan error, 2), 2
	go func() { ended <- s.ServePacket(pc) }()
	go func() { ended <- s.Serve(l) }()
	select {
	case <-ctx.Done():
		err = s.Shutdown(context.WithoutCancel(ctx))
	case err = <-ended:
		running--
		_ = s.Close() // err says why
	}
	for range running {
		if failed := <-ended; err == nil && !errors.Is(failed, net.ErrClosed) {
			err = failed
		}
	}
	return err
}

// Shutdown stops to read, answers what was asked, and returns when all
// goroutines of the server have ended. When ctx is done before that, it closes
// the sockets and returns the cause of ctx; handlers may then still be running.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop(stopper.stop)
	idle := make(chan struct{})
	go func() {
		s.running.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		s.stop(func(x stopper) { x.Close() })
		return context.Cause(ctx)
	}
}

// Close closes the sockets and waits for the goroutines of the server. It does
// not interrupt handlers: a [Handler] ends within its Timeout, or at once when
// its [Forwarder] is closed first.
func (s *Server) Close() error {
	s.stop(func(x stopper) { x.Close() })
	s.running.Wait()
	return nil
}

func (s *Server) stop(how func(stopper)) {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.stopping = true
		close(s.done)
	}
	for x := range s.open {
		how(x)
	}
}

// add makes x one of the sockets that end with the server. The caller must call
// remove when it is done with x, if there is no error.
func (s *Server) add(x stopper) error {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		x.Close()
		return net.ErrClosed
	}
	s.open[x] = struct{}{}
	s.running.Add(1)
	return nil
}

func (s *Server) remove(x stopper) {
	x.Close()
	s.mu.Lock()
	delete(s.open, x)
	s.mu.Unlock()
	s.running.Done()
}

// acquire takes a token, or reports false when the server stops.
func (s *Server) acquire(tokens chan struct{}) bool {
	select {
	case <-s.done:
		return false
	default:
	}
	select {
	case tokens <- struct{}{}:
		return true
	case <-s.done:
		return false
	}
}

// pause waits before a socket that failed is tried again, longer every time, and
// reports false when it is not worth it.
func (s *Server) pause(failures int, err error) bool {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || failures > 10 {
		return false
	}
	if s.Logger != nil {
		s.Logger.Warn("DNS socket", "error", err)
	}
	t := time.NewTimer(min(time.Millisecond<<failures, time.Second))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.done:
		return false
	}
}

func (s *Server) stopped() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *Server) idleTimeout() time.Duration {
	return cmp.Or(s.IdleTimeout, defaultIdleTimeout)
}
