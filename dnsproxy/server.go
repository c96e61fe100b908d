package dnsproxy

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/miekg/dns"
)

// Server serves DNS over UDP and TCP. One server may serve any number of sockets.
// Its fields must not be changed after its first use.
type Server struct {
	// Handler answers; required. Calls run concurrently.
	Handler dns.Handler

	// MaxQueries bounds the queries that are worked on at one time; further ones
	// wait in the sockets' buffers. Zero means 1024.
	MaxQueries int

	// MaxConns bounds the TCP connections; further ones wait in the listeners'
	// backlogs. Zero means 256.
	MaxConns int

	// IdleTimeout ends a TCP connection on which no query came (RFC 7766 section 6.2.3).
	// Zero means 10 s.
	IdleTimeout time.Duration

	// Logger gets what goes wrong; nil is silent.
	Logger *slog.Logger
}

// ServePacket answers the datagrams of pc until the server is shut down (then it
// returns net.ErrClosed) or pc fails. The server closes pc.
func (s *Server) ServePacket(pc net.PacketConn) error { return nil }

// Serve answers on the connections of l until the server is shut down (then it
// returns net.ErrClosed) or l fails. The server closes l.
func (s *Server) Serve(l net.Listener) error { return nil }

// ListenAndServe serves UDP and TCP on addr ("127.0.0.1:15053") until ctx is
// done, and then shuts the server down gracefully and returns nil.
func (s *Server) ListenAndServe(ctx context.Context, addr string) error { return nil }

// Shutdown stops to accept, answers what was asked, and returns when all
// goroutines of the server have ended. When ctx is done before, it closes
// everything as Close does and returns ctx.Err().
func (s *Server) Shutdown(ctx context.Context) error { return nil }

// Close ends everything at once and waits for the goroutines of the server,
// except for handlers that are still running.
func (s *Server) Close() error { return nil }
