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

// startInbound accepts the pod's part of the mesh on its own port 15008.
func (d *pod) startInbound(ctx context.Context) error {
	creds, err := identity.NewServer(identity.Config{
		Source: d.source,
		Peers:  identity.Peers{TrustDomains: []spiffeid.TrustDomain{d.proxy.cfg.TrustDomain}},
	})
	if err != nil {
		return err
	}
	d.inbound = &hbone.Server{TLS: creds, Handler: func(r *hbone.Request) { d.serveInbound(ctx, r) }, Logger: d.proxy.cfg.Logger}
	d.inbound.Refused = func(err *hbone.RefusedError) {
		d.proxy.cfg.Observe(Connection{Direction: Inbound, Workload: d.workload.Load().UID, Err: err})
	}
	l, err := d.listen(ctx, InboundPort)
	if err != nil {
		return err
	}
	d.serve("HBONE", func() error {
		if err := d.inbound.Serve(ctx, l); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	return nil
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

// serveInbound answers one CONNECT: 200 only once the application is connected.
func (d *pod) serveInbound(ctx context.Context, r *hbone.Request) {
	event := Connection{Direction: Inbound, Workload: d.workload.Load().UID, Authority: r.Authority(), Status: http.StatusOK}
	app, admitted, err := d.admit(r)
	if !admitted.peer.IsZero() {
		event.Peer = admitted.peer.String()
	}
	if err != nil {
		event.Err, event.Status = err, http.StatusServiceUnavailable
		var refused *refusal
		if errors.As(err, &refused) {
			event.Status = refused.status
		}
		d.proxy.cfg.Observe(event)
		r.Reject(event.Status)
		return
	}
	conn, err := r.Accept(http.Header{
		baggageHeader:       {baggage(d.workload.Load())},
		hbone.HeaderBackend: {d.workload.Load().UID},
	})
	if err != nil {
		app.Close()
		return
	}
	d.proxy.cfg.Observe(event)
	d.admitted.Store(conn, admitted)
	defer d.admitted.Delete(conn)
	// The policies may have changed while the application was connected.
	if err := d.allow(admitted); err != nil {
		conn.Abort(errors.Join(errPolicy, err))
	}
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
	a := admission{peer: peer, source: addrPort(r.RemoteAddr())}
	if a.port, err = d.applicationPort(r.Authority()); err != nil {
		return nil, a, err
	}
	if err := d.allow(a); err != nil {
		return nil, a, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), dialTimeout)
	defer cancel()
	app, err := d.network.DialContext(ctx, "tcp", d.address(a.port).String())
	if err != nil {
		return nil, a, refuse(http.StatusServiceUnavailable, "application: %w", err)
	}
	return app, a, nil
}

// applicationPort reads an authority as ztunnel does: the pod's own address
// with a port of the pod, or the name of one of its services with a port of
// that service. Only the port is taken from it: the pod is who was dialled.
func (d *pod) applicationPort(authority string) (uint16, error) {
	host, portText, err := net.SplitHostPort(authority)
	if err != nil {
		return 0, refuse(http.StatusBadRequest, "authority %q: %w", authority, err)
	}
	number, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || number == 0 {
		return 0, refuse(http.StatusBadRequest, "authority %q: bad port", authority)
	}
	port, w := uint16(number), d.workload.Load()
	if ip, err := netip.ParseAddr(host); err == nil {
		if !slices.Contains(w.Addresses, ip.Unmap()) {
			return 0, refuse(http.StatusBadRequest, "authority %s is not an address of %s", authority, w.UID)
		}
	} else if port, err = d.servicePort(w, host, port); err != nil {
		return 0, err
	}
	if slices.Contains([]uint16{InboundPort, SOCKSPort, DNSPort, 15001, 15006}, port) {
		return 0, refuse(http.StatusServiceUnavailable, "port %d is the proxy's own", port)
	}
	return port, nil
}

// servicePort maps a port of a service to the pod's own.
func (d *pod) servicePort(w *endpoints.Workload, hostname string, port uint16) (uint16, error) {
	s := d.proxy.cfg.State.Index().ServiceByHostname(hostname, w.Namespace)
	if s == nil {
		return 0, refuse(http.StatusServiceUnavailable, "service %s is not known", hostname)
	}
	own, ok := w.Ports(s.Key())
	if !ok {
		return 0, refuse(http.StatusServiceUnavailable, "%s does not back service %s", w.UID, s.Key())
	}
	for _, ports := range [][]endpoints.Port{own, s.Ports} {
		for _, p := range ports {
			if p.ServicePort == port && p.TargetPort != 0 {
				return p.TargetPort, nil
			}
		}
	}
	return 0, refuse(http.StatusServiceUnavailable, "service %s has no port %d here", s.Key(), port)
}
