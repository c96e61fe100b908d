package ztunnel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/backends"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/lb"
)

// A proxy on the way, a gateway or a waypoint, is named by an address or a
// hostname. Either may be that of a service, which has workloads to choose
// from, or that of a single workload.
type proxyName struct {
	service  *endpoints.ServiceEntry
	workload *endpoints.Workload
	port     uint16
}

func (d *pod) findProxy(g endpoints.GatewayAddress) (proxyName, error) {
	index := d.proxy.cfg.State.Index()
	p := proxyName{port: g.Port}
	if p.port == 0 {
		p.port = InboundPort
	}
	if g.Hostname != "" {
		p.service = index.Service(endpoints.ServiceKey(g.Namespace, g.Hostname))
		p.workload = index.WorkloadByHostname(g.Namespace, g.Hostname)
	} else {
		network, ip := g.Address.Network, g.Address.Addr()
		p.service = index.ServiceByAddr(network, ip, d.workload.Load().Namespace)
		p.workload = index.WorkloadByAddr(network, ip)
	}
	if p.service == nil && p.workload == nil {
		return p, fmt.Errorf("nothing is known of %s", g)
	}
	return p, nil
}

// gateway finds where a gateway is dialled, and who it must be.
func (d *pod) gateway(g endpoints.GatewayAddress, like netip.Addr) (address string, creds *identity.Credentials, err error) {
	p, err := d.findProxy(g)
	if err != nil {
		return "", nil, fmt.Errorf("gateway: %w", err)
	}
	b := backends.Backend{Workload: p.workload, TargetPort: p.port}
	if p.service != nil {
		pick, err := d.proxy.gateways.Pick(p.service, p.port, backends.Locality(d.workload.Load()), nil)
		if err != nil {
			return "", nil, fmt.Errorf("gateway %s: %w", g, err)
		}
		// A tunnel outlives the choice that it was made by.
		pick.Done(lb.Outcome{})
		b = pick.Value
	}
	host := hostOf(b.Workload, like)
	if host == "" {
		return "", nil, fmt.Errorf("gateway %s: workload %s has no address", g, b.UID)
	}
	creds, err = d.peers(b.Workload, p.service)
	return net.JoinHostPort(host, strconv.Itoa(int(b.TargetPort))), creds, err
}

// waypointOf returns the waypoint of a destination, nil if it has none. A
// service's counts for what was asked for as that service, a workload's for
// what was asked for by the workload's own address, as in ztunnel.
func (d *pod) waypointOf(to destination) *endpoints.GatewayAddress {
	switch {
	case to.service != nil:
		return serviceWaypoint(to.service.Service, rand.Uint64N)
	case to.workload != nil:
		return to.workload.Waypoint
	}
	return nil
}

// serviceWaypoint draws one of a service's waypoints by their weights.
func serviceWaypoint(s *endpoints.Service, draw func(uint64) uint64) *endpoints.GatewayAddress {
	var sum uint64
	for _, w := range s.WeightedWaypoints {
		sum += uint64(w.Weight)
	}
	if sum == 0 {
		return s.Waypoint
	}
	at := draw(sum)
	for i := range s.WeightedWaypoints {
		w := &s.WeightedWaypoints[i]
		if at < uint64(w.Weight) {
			return &w.Destination
		}
		at -= uint64(w.Weight)
	}
	return s.Waypoint
}

// connectWaypoint opens a connection through a waypoint, which chooses the
// backend.
func (d *pod) connectWaypoint(ctx context.Context, to destination, g endpoints.GatewayAddress) (connected, error) {
	p, err := d.findProxy(g)
	if err != nil {
		return connected{}, fmt.Errorf("waypoint: %w", err)
	}
	way := func(b backends.Backend) (route, error) { return d.routeToWaypoint(to, p.service, b) }
	if p.service != nil {
		c, err := d.connectAny(ctx, p.service, p.port, way)
		if errors.Is(err, lb.ErrPassthrough) {
			err = fmt.Errorf("waypoint %s has no endpoints to choose from", g)
		}
		return c, err
	}
	r, err := way(backends.Backend{Workload: p.workload, TargetPort: p.port})
	if err != nil {
		return connected{}, err
	}
	conn, err := d.dial(ctx, r)
	return connected{conn, p.workload.UID, keep}, err
}

// routeToWaypoint asks a waypoint for the address that the application asked
// for, or, on another network, its gateway for the service.
func (d *pod) routeToWaypoint(to destination, service *endpoints.ServiceEntry, waypoint backends.Backend) (route, error) {
	if waypoint.Network != d.proxy.cfg.Network {
		return d.routeThroughGateway(to, waypoint.Workload, service)
	}
	authority, err := d.originalAddress(to)
	if err != nil {
		return route{}, err
	}
	host := hostOf(waypoint.Workload, authority.Addr())
	if host == "" {
		return route{}, fmt.Errorf("waypoint %s has no address", waypoint.UID)
	}
	creds, err := d.peers(waypoint.Workload, service)
	if err != nil {
		return route{}, err
	}
	return route{path: hbone.Path{
		Hops: []hbone.Hop{{
			Address:   net.JoinHostPort(host, strconv.Itoa(int(waypoint.TargetPort))),
			Authority: authority.String(),
			TLS:       creds,
		}},
		StreamHeader: d.streamHeader(to),
	}}, nil
}

// originalAddress is what an application asked for, in the only form that
// waypoints take: an address. For a name it is the one that DNS would give.
func (d *pod) originalAddress(to destination) (netip.AddrPort, error) {
	if to.address.IsValid() {
		return to.address, nil
	}
	for _, a := range to.service.Addresses {
		if a.Network == d.proxy.cfg.Network && a.IsHost() {
			return netip.AddrPortFrom(a.Addr(), to.port), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("service %s has a waypoint but no address here to ask it for", to.service.Key())
}
