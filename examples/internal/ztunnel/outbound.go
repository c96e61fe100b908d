package ztunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/backends"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/lb"
)

const (
	dialTimeout = 10 * time.Second

	// maxAttempts bounds the backends that are tried for one connection. No
	// byte of the application moves before one has answered.
	maxAttempts = 3
)

// A connected is a connection that was made for an application.
type connected struct {
	net.Conn
	target string // UID of the workload
	done   func(error)
}

func keep(error) {}

// connect opens a connection of the pod to host:port. When the connection is
// over, done must be called, with the reason if it broke.
func (d *pod) connect(ctx context.Context, hostport string, client net.Addr) (conn net.Conn, done func(error), err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	event := Connection{Direction: Outbound, Workload: d.uid(), Wanted: hostport}
	to, err := d.find(hostport)
	var c connected
	if err == nil {
		to.client = client
		c, err = d.connectTo(ctx, to)
	}
	var route *RouteError
	if err != nil && !errors.As(err, &route) {
		err = &RouteError{hostport, err}
	}
	event.Target, event.Err = c.target, err
	if h, ok := c.Conn.(*hbone.Conn); ok {
		event.Authority, event.Hops = h.Authority(), h.Hops()
	}
	d.proxy.cfg.Observe(event)
	return c.Conn, c.done, err
}

// connectTo goes through the waypoint of the destination, if it has one: it
// enforces policies that nobody else does.
func (d *pod) connectTo(ctx context.Context, to destination) (connected, error) {
	if waypoint := d.waypointOf(to); waypoint != nil {
		return d.connectWaypoint(ctx, to, *waypoint)
	}
	switch {
	case to.service != nil:
		return d.connectService(ctx, to)
	case to.workload != nil:
		return d.connectWorkload(ctx, to)
	default:
		return d.connectOutside(ctx, to)
	}
}

func (d *pod) connectService(ctx context.Context, to destination) (connected, error) {
	c, err := d.connectAny(ctx, to.service, to.port, func(b backends.Backend) (route, error) { return d.route(to, b) })
	if errors.Is(err, lb.ErrPassthrough) {
		return d.connectPassthrough(ctx, to)
	}
	return c, err
}

func (d *pod) connectWorkload(ctx context.Context, to destination) (connected, error) {
	r, err := d.route(to, backends.Backend{Workload: to.workload, TargetPort: to.port})
	if err != nil {
		return connected{}, err
	}
	conn, err := d.dial(ctx, r)
	return connected{conn, to.workload.UID, keep}, err
}

// connectPassthrough goes to the very address that was asked for: the service
// has no endpoints of its own to choose from. What lives there is still
// reached as it must be.
func (d *pod) connectPassthrough(ctx context.Context, to destination) (connected, error) {
	if !to.address.IsValid() {
		return connected{}, errors.New("the service passes connections through to the address asked for, and a name was asked for")
	}
	to.service = nil
	to.workload = d.proxy.cfg.State.Index().WorkloadByAddr(d.proxy.cfg.Network, to.address.Addr())
	return d.connectTo(ctx, to)
}

// connectOutside reaches what is not of the mesh, as it is.
func (d *pod) connectOutside(ctx context.Context, to destination) (connected, error) {
	conn, err := d.dial(ctx, route{address: to.address.String()})
	return connected{conn, "", keep}, err
}

// connectAny tries backends of a service until one answers.
func (d *pod) connectAny(ctx context.Context, s *endpoints.ServiceEntry, port uint16, way func(backends.Backend) (route, error)) (connected, error) {
	var tried []lb.ID
	var failures []error
	source := backends.Locality(d.workload.Load())
	for range maxAttempts {
		pick, err := d.proxy.backends.Pick(s, port, source, tried)
		if len(failures) > 0 && errors.Is(err, lb.ErrNoTarget) {
			break // none that was not tried
		}
		if err != nil {
			return connected{}, err
		}
		r, err := way(pick.Value)
		if err == nil {
			var conn net.Conn
			if conn, err = d.dial(ctx, r); err == nil {
				return connected{conn, pick.Value.UID, func(err error) { pick.Done(outcome(err)) }}, nil
			}
		}
		pick.Done(lb.Outcome{Err: err})
		failures = append(failures, fmt.Errorf("%s: %w", pick.Value.UID, err))
		if !retryable(err) || ctx.Err() != nil {
			break
		}
		tried = append(tried, pick.ID)
	}
	return connected{}, errors.Join(failures...)
}

// dial goes along a route.
func (d *pod) dial(ctx context.Context, r route) (net.Conn, error) {
	if len(r.path.Hops) > 0 {
		conn, err := d.transport().Dial(ctx, r.path)
		if err != nil {
			return nil, err // and no *hbone.Conn that is nil
		}
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return d.network.DialContext(ctx, "tcp", r.address)
}

// retryable reports whether another backend may do better. None does if one has
// decided that we may not, or proved to be somebody else.
func retryable(err error) bool {
	var hop *hbone.HopError
	return !errors.As(err, &hop) || hop.Retryable()
}

// outcome picks what a backend is to blame for out of the ways in which a
// connection ends.
func outcome(err error) lb.Outcome {
	var hop *hbone.HopError
	if errors.As(err, &hop) {
		return lb.Outcome{Err: err}
	}
	return lb.Outcome{}
}
