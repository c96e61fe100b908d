package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
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
	// Trust has the bundles, aliases, revocations and cryptography of its
	// credentials; Source and Peers are not read. Default: none of these.
	Trust identity.Config
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
	trust := cfg.Trust
	trust.Source, trust.Peers = cfg.Source, cfg.Clients
	creds, err := identity.NewServer(trust)
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
	// The client has made its choice of places already, and knows where it is.
	g.backends = backends.NewChooser(backends.Config{Usable: g.reachable, AnyLocality: true, Rand: cfg.Rand})
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
	id, err := identity.PeerID(r.TLS())
	if err != nil { // cannot be: the handshake has verified it
		event.Err, event.Status = err, http.StatusUnauthorized
		g.refuse(r, event)
		return
	}
	event.Peer = id.String()
	namespace, _, _ := identity.SplitWorkloadID(id)
	backend, pick, err := g.connect(r, namespace)
	if err != nil {
		event.Err, event.Status = err, statusOf(err)
		g.refuse(r, event)
		return
	}
	event.Backend = pick.Value.UID
	// The client learns which backend its stream is pinned to, so that it can
	// keep inner tunnels to several of them.
	conn, err := r.Accept(http.Header{hbone.HeaderBackend: {pick.Value.UID}})
	if err != nil { // the client is gone
		backend.Close()
		pick.Done(lb.Outcome{})
		event.Err, event.Status = err, 0
		g.cfg.Observe(event)
		return
	}
	g.cfg.Observe(event)
	// The request's context ends with the stream, which the Relay notices by
	// itself, and so can tell a clean end.
	_, err = hbone.Relay(context.WithoutCancel(r.Context()), g.tapped(conn), backend)
	pick.Done(lb.Outcome{})
	if err != nil {
		g.cfg.Logger.Debug("connection broke", "authority", r.Authority(), "error", err)
	}
}

func (g *Gateway) refuse(r *hbone.Request, event Connection) {
	g.cfg.Observe(event)
	_ = r.Reject(event.Status) // a client that is gone needs no answer
}

// An AuthorityError says that a CONNECT asked for what this gateway does not
// serve.
type AuthorityError struct {
	Authority string
	Status    int // 400 if it is malformed, else 404
	Reason    string
}

func (e *AuthorityError) Error() string {
	return fmt.Sprintf("authority %.300q: %s", e.Authority, e.Reason)
}

// ErrNotReady refuses clients as long as the control plane has not told all
// there is: they had better go to another gateway.
var ErrNotReady = errors.New("it is not known yet what there is to serve")

// connect finds a backend for an authority, as a client of that namespace means
// it, and dials it; another one, if it does not answer.
func (g *Gateway) connect(r *hbone.Request, namespace string) (net.Conn, backends.Pick, error) {
	if !g.cfg.State.Known() {
		return nil, backends.Pick{}, ErrNotReady
	}
	s, port, err := g.service(r.Authority(), namespace)
	if err != nil {
		return nil, backends.Pick{}, err
	}
	if s, port, err = g.waypoint(s, port); err != nil {
		return nil, backends.Pick{}, err
	}
	var tried []lb.ID
	var failures []error
	for range maxAttempts {
		pick, err := g.backends.Pick(s, port, lb.Locality{Network: g.cfg.Network}, tried)
		if len(failures) > 0 && errors.Is(err, lb.ErrNoTarget) {
			break // none that was not tried
		}
		if err != nil {
			return nil, backends.Pick{}, err
		}
		conn, err := g.dial(r.Context(), pick.Value)
		if err == nil {
			return conn, pick, nil
		}
		pick.Done(lb.Outcome{Err: err})
		failures = append(failures, fmt.Errorf("%s: %w", pick.Value.UID, err))
		if r.Context().Err() != nil {
			break
		}
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
// or "VIP:port", which Istio's gateway takes as well. A service that is private
// to its namespace is there for clients that have proved to be of that.
func (g *Gateway) service(authority, namespace string) (*endpoints.ServiceEntry, uint16, error) {
	host, portText, err := net.SplitHostPort(authority)
	if err != nil || host == "" {
		return nil, 0, &AuthorityError{authority, http.StatusBadRequest, "not host:port"}
	}
	number, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, 0, &AuthorityError{authority, http.StatusBadRequest, "bad port"}
	}
	index, port := g.cfg.State.Index(), uint16(number)
	var s *endpoints.ServiceEntry
	if ip, err := netip.ParseAddr(host); err == nil {
		s = index.ServiceByAddr(g.cfg.Network, ip.Unmap(), namespace)
	} else {
		s = index.ServiceByHostname(host, namespace)
	}
	if s == nil {
		return nil, 0, &AuthorityError{authority, http.StatusNotFound, "no global service of this network"}
	}
	if !slices.ContainsFunc(s.Ports, func(p endpoints.Port) bool { return p.ServicePort == port }) {
		return nil, 0, &AuthorityError{authority, http.StatusNotFound, "the service has no such port"}
	}
	return s, port, nil
}

// waypoint returns the service that connections to s go to: its waypoint, if
// it has one, since that enforces what nobody else does. Istio's gateway passes
// it by if the client says that it is a waypoint itself; we take no client's
// word for that.
func (g *Gateway) waypoint(s *endpoints.ServiceEntry, port uint16) (*endpoints.ServiceEntry, uint16, error) {
	w := s.Waypoint
	if w == nil {
		return s, port, nil
	}
	index := g.cfg.State.Index()
	var found *endpoints.ServiceEntry
	if w.Hostname != "" {
		found = index.Service(endpoints.ServiceKey(w.Namespace, w.Hostname))
	} else {
		found = index.ServiceByAddr(w.Address.Network, w.Address.Addr(), s.Namespace)
	}
	if found == nil {
		return nil, 0, fmt.Errorf("nothing is known of waypoint %s of service %s", w, s.Key())
	}
	return found, cmp.Or(w.Port, inboundPort), nil
}

// statusOf is what a client is told: what an AuthorityError says, or 503 if
// nothing answers.
func statusOf(err error) int {
	var authority *AuthorityError
	if errors.As(err, &authority) {
		return authority.Status
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
		_, _ = t.w.Write(p[:n]) // to look on must not disturb
	}
	return n, err
}
