package ztunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/eastwest-mesh/eastwest/examples/internal/backends"
	"github.com/eastwest-mesh/eastwest/examples/internal/socks5"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/lb"
)

const (
	greetingTimeout = 10 * time.Second
	dialTimeout     = 10 * time.Second

	// maxAttempts bounds the backends that are tried for one connection. No
	// byte of the application moves before one has answered.
	maxAttempts = 3
)

// startSOCKS serves the pod's applications on its own port 15080.
func (d *pod) startSOCKS(ctx context.Context) error {
	l, err := d.listen(ctx, SOCKSPort)
	if err != nil {
		return err
	}
	d.serve("SOCKS5", func() error {
		for {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			d.serving.Go(func() { d.serveSOCKS(ctx, conn) })
		}
	})
	return nil
}

func (d *pod) serveSOCKS(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.SetDeadline(time.Now().Add(greetingTimeout))
	req, err := socks5.Accept(conn)
	if err != nil {
		d.proxy.cfg.Logger.Debug("bad SOCKS5 client", "workload", d.workload.Load().UID, "error", err)
		return
	}
	conn.SetDeadline(time.Time{})
	up, done, err := d.connect(ctx, req.Address, conn.RemoteAddr())
	if err != nil {
		req.Refuse(socksReply(err))
		return
	}
	defer up.Close()
	if err := req.Grant(); err != nil {
		done(nil)
		return
	}
	_, err = hbone.Relay(ctx, conn, up)
	done(err)
}

// connect opens a connection of the pod to host:port. When the connection is
// over, done must be called, with the reason if it broke.
func (d *pod) connect(ctx context.Context, hostport string, client net.Addr) (conn net.Conn, done func(error), err error) {
	event := Connection{Direction: Outbound, Workload: d.workload.Load().UID, Wanted: hostport}
	defer func() {
		event.Err = err
		if c, ok := conn.(*hbone.Conn); ok {
			event.Authority, event.Hops = c.Authority(), c.Hops()
		}
		d.proxy.cfg.Observe(event)
	}()
	to, err := d.find(hostport)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case to.service != nil && to.service.Waypoint != nil:
		return nil, nil, &RouteError{hostport, fmt.Errorf("service %s: %w", to.service.Key(), errWaypoint)}
	case to.service != nil:
		conn, done, event.Target, err = d.connectService(ctx, hostport, to, client)
	case to.workload != nil && to.workload.Waypoint != nil:
		return nil, nil, &RouteError{hostport, fmt.Errorf("workload %s: %w", to.workload.UID, errWaypoint)}
	case to.workload != nil:
		event.Target = to.workload.UID
		conn, err = d.connectWorkload(ctx, to, backends.Backend{Workload: to.workload, TargetPort: to.port}, client)
		done = func(error) {}
	default:
		conn, err = d.dialPlain(ctx, to.address.String())
		done = func(error) {}
	}
	return conn, done, err
}

// errWaypoint refuses rather than to go past the policies that a waypoint
// enforces.
var errWaypoint = errors.New("it must be reached through a waypoint, which this proxy cannot do")

// connectService tries backends of a service until one answers.
func (d *pod) connectService(ctx context.Context, hostport string, to destination, client net.Addr) (net.Conn, func(error), string, error) {
	var tried []lb.ID
	var failures []error
	source := backends.Locality(d.workload.Load())
	for range maxAttempts {
		pick, err := d.proxy.backends.Pick(to.service, to.port, source, tried)
		if errors.Is(err, lb.ErrPassthrough) {
			return d.connectPassthrough(ctx, hostport, to)
		}
		if err != nil {
			return nil, nil, "", &RouteError{hostport, errors.Join(append(failures, err)...)}
		}
		conn, err := d.connectWorkload(ctx, to, pick.Value, client)
		if err == nil {
			return conn, func(err error) { pick.Done(lb.Outcome{Err: tunnelFailure(err)}) }, pick.Value.UID, nil
		}
		pick.Done(lb.Outcome{Err: err})
		failures = append(failures, err)
		if !retryable(err) || ctx.Err() != nil {
			break
		}
		tried = append(tried, pick.ID)
	}
	return nil, nil, "", &RouteError{hostport, errors.Join(failures...)}
}

// connectPassthrough goes to the very address that was asked for: the service
// has no endpoints of its own to choose from.
func (d *pod) connectPassthrough(ctx context.Context, hostport string, to destination) (net.Conn, func(error), string, error) {
	if !to.address.IsValid() {
		return nil, nil, "", &RouteError{hostport, errors.New("the service passes connections through to the address asked for, and a name was asked for")}
	}
	conn, err := d.dialPlain(ctx, to.address.String())
	return conn, func(error) {}, "", err
}

func (d *pod) connectWorkload(ctx context.Context, to destination, b backends.Backend, client net.Addr) (net.Conn, error) {
	r, err := d.route(to, b.Workload, b.TargetPort, client)
	if err != nil {
		return nil, err
	}
	if len(r.path.Hops) == 0 {
		return d.dialPlain(ctx, r.address)
	}
	return d.transport().Dial(ctx, r.path)
}

// dialPlain reaches what is not enrolled in the mesh, as it is.
func (d *pod) dialPlain(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return d.network.DialContext(ctx, "tcp", address)
}

// retryable reports whether another backend may do better.
func retryable(err error) bool {
	var hop *hbone.HopError
	if errors.As(err, &hop) {
		return hop.Retryable()
	}
	var op *net.OpError
	return errors.As(err, &op)
}

// tunnelFailure picks what a backend is to blame for out of the ways in which
// a connection ends.
func tunnelFailure(err error) error {
	var hop *hbone.HopError
	if errors.As(err, &hop) {
		return err
	}
	return nil
}

func socksReply(err error) socks5.Reply {
	var status *hbone.StatusError
	var none *lb.NoTargetError
	switch {
	case errors.As(err, &status) && (status.Status == http.StatusUnauthorized || status.Status == http.StatusForbidden):
		return socks5.NotAllowed
	case errors.Is(err, ErrUnknownHost), errors.As(err, &none):
		return socks5.HostUnreachable
	default:
		return socks5.ConnectionRefused
	}
}

// listenPacket is listen for UDP.
func (d *pod) listenPacket(ctx context.Context, port uint16) (net.PacketConn, error) {
	pc, err := d.network.ListenPacket(ctx, "udp", netip.AddrPortFrom(d.workload.Load().Addresses[0], port).String())
	if err == nil {
		d.sockets = append(d.sockets, pc)
	}
	return pc, err
}
