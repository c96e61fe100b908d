package ztunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
)

// newInbound returns a server for the pod's part of the mesh.
func (d *pod) newInbound(ctx context.Context) (*hbone.Server, error) {
	creds, err := d.keys.server(identity.Peers{
		TrustDomains: append([]spiffeid.TrustDomain{d.proxy.cfg.TrustDomain}, d.proxy.cfg.Federated...),
	})
	if err != nil {
		return nil, err
	}
	return &hbone.Server{
		TLS:     creds,
		Handler: func(r *hbone.Request) { d.serveInbound(ctx, r) },
		Refused: func(err *hbone.RefusedError) {
			d.proxy.cfg.Observe(Connection{Direction: Inbound, Workload: d.uid(), Err: err})
		},
		Logger: d.proxy.cfg.Logger,
	}, nil
}

// A refusal is a CONNECT that gets a status other than 200. The reason is for
// our log; the client learns the status only.
type refusal struct {
	status int
	err    error
}

func (e *refusal) Error() string { return fmt.Sprintf("refused with %d: %v", e.status, e.err) }
func (e *refusal) Unwrap() error { return e.err }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Errorf(format, args...)}
}

func statusOf(err error) int {
	var refused *refusal
	if errors.As(err, &refused) {
		return refused.status
	}
	return http.StatusServiceUnavailable
}

// serveInbound answers one CONNECT: 200 only once the application is connected.
func (d *pod) serveInbound(ctx context.Context, r *hbone.Request) {
	event := Connection{Direction: Inbound, Workload: d.uid(), Authority: r.Authority(), Status: http.StatusOK}
	app, admitted, err := d.admit(r)
	if !admitted.peer.IsZero() {
		event.Peer = admitted.peer.String()
	}
	if err != nil {
		event.Err, event.Status = err, statusOf(err)
		d.proxy.cfg.Observe(event)
		_ = r.Reject(event.Status) // a client that is gone needs no answer
		return
	}
	conn, err := r.Accept(http.Header{
		baggageHeader:       {baggage(d.workload.Load())},
		hbone.HeaderBackend: {d.uid()},
	})
	if err != nil { // the client is gone
		app.Close()
		event.Err, event.Status = err, 0
		d.proxy.cfg.Observe(event)
		return
	}
	d.proxy.cfg.Observe(event)
	d.admitted.Store(conn, admitted)
	defer d.admitted.Delete(conn)
	// The policies may have changed while the application was connected.
	d.recheckOne(conn, admitted)
	if _, err := hbone.Relay(ctx, conn, app); err != nil {
		d.proxy.cfg.Logger.Debug("inbound connection broke", "authority", r.Authority(), "error", err)
	}
}

// admit finds the application that a CONNECT is for, checks that the client
// may reach it, and connects to it.
func (d *pod) admit(r *hbone.Request) (net.Conn, admission, error) {
	peer, err := identity.PeerID(r.TLS())
	if err != nil {
		return nil, admission{}, refuse(http.StatusUnauthorized, "client: %w", err)
	}
	// Policies know a workload by one name, whatever its certificate says.
	peer = d.proxy.cfg.Trust.Aliases.Canonical(peer)
	a := admission{peer: peer, source: addrPort(r.RemoteAddr())}
	if a.destination, err = d.application(r.Authority(), addrPort(r.LocalAddr()).Addr()); err != nil {
		return nil, a, err
	}
	if err := d.allow(a); err != nil {
		return nil, a, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), dialTimeout)
	defer cancel()
	app, err := d.network.DialContext(ctx, "tcp", a.destination.String())
	if err != nil {
		return nil, a, refuse(http.StatusServiceUnavailable, "application: %w", err)
	}
	return app, a, nil
}

// proxyPorts are those that no CONNECT may reach: our own, and Istio's for
// captured traffic. ztunnel calls it SelfCall.
var proxyPorts = []uint16{InboundPort, SOCKSPort, DNSPort, 15001, 15006}

// application reads an authority as ztunnel does: the address that was dialled
// with a port of the pod, or the name of one of its services with a port of
// that service. Only the port is taken from it.
func (d *pod) application(authority string, dialled netip.Addr) (netip.AddrPort, error) {
	none := netip.AddrPort{}
	host, portText, err := net.SplitHostPort(authority)
	if err != nil {
		return none, refuse(http.StatusBadRequest, "authority %.300q: %w", authority, err)
	}
	number, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || number == 0 || host == "" {
		return none, refuse(http.StatusBadRequest, "authority %.300q is not host:port", authority)
	}
	port, w := uint16(number), d.workload.Load()
	if w.ApplicationTunnel != nil {
		return none, refuse(http.StatusServiceUnavailable, "%s wants an application tunnel, which this proxy cannot make", w.UID)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Unmap() != dialled {
			return none, refuse(http.StatusBadRequest, "authority %s is not the address %s that was dialled", authority, dialled)
		}
	} else if port, err = d.servicePort(w, host, port); err != nil {
		return none, err
	}
	if slices.Contains(proxyPorts, port) {
		return none, refuse(http.StatusServiceUnavailable, "port %d is a proxy's own", port)
	}
	return netip.AddrPortFrom(dialled, port), nil
}

// servicePort maps a port of a service to the pod's own. Services of several
// namespaces may have the same hostname: it is the one that the pod backs.
func (d *pod) servicePort(w *endpoints.Workload, hostname string, port uint16) (uint16, error) {
	for s := range d.proxy.cfg.State.Index().ServicesByHostname(hostname) {
		own, ok := w.Ports(s.Key())
		if !ok {
			continue
		}
		for _, p := range slices.Concat(own, s.Ports) {
			if p.ServicePort == port && p.TargetPort != 0 {
				return p.TargetPort, nil
			}
		}
	}
	return 0, refuse(http.StatusServiceUnavailable, "%s backs no service %.300q with port %d", w.UID, hostname, port)
}
