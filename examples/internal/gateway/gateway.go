package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/backends"
	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/lb"
)

const (
	// inboundPort is where every pod of the mesh accepts HBONE.
	inboundPort = 15008

	dialTimeout = 10 * time.Second
	maxAttempts = 3
)

// Config says what a Gateway is. Fields without a default are required.
type Config struct {
	Network string // may be empty, which is a network like any other

	// State is what the control plane shows this gateway.
	State *discovery.State
	// Source is the gateway's own certificate, and the roots of its clients.
	Source identity.Source
	// Clients are whom it lets in; normally the trust domains of the mesh.
	Clients identity.Peers
	// DialContext reaches pods of its network.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	// Rand is that of lb.Config, with its default.
	Rand func() uint64
	// Observe is told of every CONNECT when it was decided, and of every
	// connection that was not let in. Default: nobody is.
	Observe func(Connection)
	// Tap gets a copy of all that passes towards backends, as it is inside of
	// the outer tunnel. It is for showing what a gateway can see. Default: none.
	Tap io.Writer
	// Logger gets what goes wrong. Default: silent.
	Logger *slog.Logger
}

// A Connection is what became of one connection or CONNECT.
type Connection struct {
	Peer      string // SPIFFE ID of the client; empty if it could not prove one
	Authority string // what it asked for; empty if it was not let in at all
	Backend   string // UID of the workload that it was given
	Status    int    // of the answer; 0 if it was not let in
	Err       error  // why it was refused; nil if it was not
}

// A Gateway serves one address. Serve it, and Close it.
type Gateway struct {
	cfg      Config
	server   *hbone.Server
	backends *backends.Chooser
}

// New returns a Gateway.
func New(cfg Config) (*Gateway, error) {
	creds, err := identity.NewServer(identity.Config{Source: cfg.Source, Peers: cfg.Clients})
	if err != nil {
		return nil, err
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Connection) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{cfg: cfg}
	g.backends = backends.NewChooser(backends.Config{Usable: g.reachable, Rand: cfg.Rand})
	cfg.State.OnChange(func() { g.backends.Forget(cfg.State.Index()) })
	g.server = &hbone.Server{
		TLS:     creds,
		Handler: g.serve,
		Refused: func(err *hbone.RefusedError) { cfg.Observe(Connection{Err: err}) },
		Logger:  cfg.Logger,
	}
	return g, nil
}

// Serve accepts tunnels from l until ctx ends or the Gateway is closed.
func (g *Gateway) Serve(ctx context.Context, l net.Listener) error { return g.server.Serve(ctx, l) }

// Shutdown tells clients to go elsewhere, and closes when their streams have
// ended or ctx does.
func (g *Gateway) Shutdown(ctx context.Context) error { return g.server.Shutdown(ctx) }

// Close ends everything at once.
func (g *Gateway) Close() error { return g.server.Close() }

// reachable reports whether a workload can take an inner tunnel from here.
func (g *Gateway) reachable(w *endpoints.Workload) bool {
	return w.Network == g.cfg.Network && len(w.Addresses) > 0 && w.Tunnel == endpoints.TunnelHBONE
}

// serve answers one outer CONNECT: 200 only once a backend is connected.
func (g *Gateway) serve(r *hbone.Request) {
	event := Connection{Authority: r.Authority(), Status: http.StatusOK}
	if id, err := identity.PeerID(r.TLS()); err == nil {
		event.Peer = id.String()
	}
	backend, pick, err := g.connect(r)
	if err != nil {
		event.Err, event.Status = err, statusOf(err)
		g.cfg.Observe(event)
		r.Reject(event.Status)
		return
	}
	event.Backend = pick.Value.UID
	// The client learns which backend its stream is pinned to, so that it can
	// keep inner tunnels to several of them.
	conn, err := r.Accept(http.Header{hbone.HeaderBackend: {pick.Value.UID}})
	if err != nil {
		backend.Close()
		pick.Done(lb.Outcome{})
		return
	}
	g.cfg.Observe(event)
	_, err = hbone.Relay(context.WithoutCancel(r.Context()), g.tapped(conn), backend)
	pick.Done(lb.Outcome{})
	if err != nil {
		g.cfg.Logger.Debug("connection broke", "authority", r.Authority(), "error", err)
	}
}

// An AuthorityError says that a CONNECT asked for what this gateway does not
// serve.
type AuthorityError struct {
	Authority string
	Reason    string
}

func (e *AuthorityError) Error() string {
	return fmt.Sprintf("authority %.300q: %s", e.Authority, e.Reason)
}

// connect finds a backend for an authority and dials it; another one, if it
// does not answer.
func (g *Gateway) connect(r *hbone.Request) (net.Conn, backends.Pick, error) {
	s, port, err := g.service(r.Authority())
	if err != nil {
		return nil, backends.Pick{}, err
	}
	var tried []lb.ID
	var failures []error
	for range maxAttempts {
		pick, err := g.backends.Pick(s, port, lb.Locality{Network: g.cfg.Network}, tried)
		if err != nil {
			return nil, backends.Pick{}, errors.Join(append(failures, err)...)
		}
		conn, err := g.dial(r.Context(), pick.Value)
		if err == nil {
			return conn, pick, nil
		}
		pick.Done(lb.Outcome{Err: err})
		failures = append(failures, err)
		tried = append(tried, pick.ID)
	}
	return nil, backends.Pick{}, errors.Join(failures...)
}

func (g *Gateway) dial(ctx context.Context, b backends.Backend) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return g.cfg.DialContext(ctx, "tcp", netip.AddrPortFrom(b.Addresses[0], inboundPort).String())
}

// service finds what an authority names: "hostname:port" as ztunnel writes it,
// or "VIP:port", which Istio's gateway takes as well.
func (g *Gateway) service(authority string) (*endpoints.ServiceEntry, uint16, error) {
	host, portText, err := net.SplitHostPort(authority)
	if err != nil {
		return nil, 0, &AuthorityError{authority, "not host:port"}
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, 0, &AuthorityError{authority, "bad port"}
	}
	var s *endpoints.ServiceEntry
	if ip, err := netip.ParseAddr(host); err == nil {
		s = g.cfg.State.Index().ServiceByAddr(g.cfg.Network, ip.Unmap(), "")
	} else {
		s = g.cfg.State.Index().ServiceByHostname(host, "")
	}
	if s == nil {
		return nil, 0, &AuthorityError{authority, "no global service of this network"}
	}
	return s, uint16(port), nil
}

// statusOf is what a client is told: 404 for what is not served here, 503 for
// what does not answer.
func statusOf(err error) int {
	var authority *AuthorityError
	var port *backends.PortError
	if errors.As(err, &authority) || errors.As(err, &port) {
		return http.StatusNotFound
	}
	return http.StatusServiceUnavailable
}

// tapped shows what the client sends to the Tap, if there is one.
func (g *Gateway) tapped(conn *hbone.Conn) net.Conn {
	if g.cfg.Tap == nil {
		return conn
	}
	return &tap{Conn: conn, w: g.cfg.Tap}
}

type tap struct {
	*hbone.Conn
	w io.Writer
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if n > 0 {
		t.w.Write(p[:n])
	}
	return n, err
}
