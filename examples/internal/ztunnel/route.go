package ztunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
)

// A destination is what an application asked for.
type destination struct {
	// service is set if the address or name is that of a service; else
	// workload, if it is that of a workload; else the address is outside of the
	// mesh.
	service  *endpoints.ServiceEntry
	workload *endpoints.Workload
	address  netip.AddrPort // as asked for; invalid if a name was
	port     uint16
}

// ErrUnknownHost says that an application asked for a name that nobody has.
var ErrUnknownHost = errors.New("unknown host")

// A RouteError says why a connection has no way to its destination.
type RouteError struct {
	Destination string
	Err         error
}

func (e *RouteError) Error() string { return "no route to " + e.Destination + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *RouteError) Unwrap() error { return e.Err }

// find looks up what an application means by host:port.
func (d *pod) find(hostport string) (destination, error) {
	host, portText, err := net.SplitHostPort(hostport)
	if err != nil {
		return destination{}, &RouteError{hostport, err}
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return destination{}, &RouteError{hostport, fmt.Errorf("port %q: %w", portText, errors.Unwrap(err))}
	}
	index, namespace := d.proxy.cfg.State.Index(), d.workload.Load().Namespace
	if ip, err := netip.ParseAddr(host); err == nil {
		return d.findAddress(index, namespace, netip.AddrPortFrom(ip.Unmap(), uint16(port))), nil
	}
	entry, ok := d.proxy.names.Load().Lookup(d.view(), host)
	if !ok {
		return destination{}, &RouteError{hostport, ErrUnknownHost}
	}
	s := index.Service(endpoints.ServiceKey(entry.Namespace, entry.Host))
	if s == nil {
		return destination{}, &RouteError{hostport, ErrUnknownHost}
	}
	return destination{service: s, port: uint16(port)}, nil
}

func (d *pod) findAddress(index *endpoints.Index, namespace string, address netip.AddrPort) destination {
	to := destination{address: address, port: address.Port()}
	network := d.proxy.cfg.Network
	if to.service = index.ServiceByAddr(network, address.Addr(), namespace); to.service == nil {
		to.workload = index.WorkloadByAddr(network, address.Addr())
	}
	return to
}

// A route is the way to one workload: HBONE along path, or, if path has no
// hops, plain TCP to address.
type route struct {
	path    hbone.Path
	address string
}

// maxSpread bounds the inner tunnels that one pod keeps to one service of
// another network, however many backends that has.
const maxSpread = 16

// route finds the way to a workload that was chosen for a destination.
func (d *pod) route(to destination, w *endpoints.Workload, targetPort uint16, client net.Addr) (route, error) {
	header := streamHeader(d.workload.Load(), client, to.service)
	if w.Network != d.proxy.cfg.Network {
		return d.routeThroughGateway(to, w, header)
	}
	host := hostOf(w)
	if host == "" {
		return route{}, fmt.Errorf("workload %s has no address", w.UID)
	}
	target := net.JoinHostPort(host, strconv.Itoa(int(targetPort)))
	if w.Tunnel != endpoints.TunnelHBONE {
		return route{address: target}, nil
	}
	creds, err := d.peers(w, to.service)
	if err != nil {
		return route{}, err
	}
	hop := hbone.Hop{Address: net.JoinHostPort(host, strconv.Itoa(InboundPort)), Authority: target, TLS: creds}
	return route{path: hbone.Path{Hops: []hbone.Hop{hop}, StreamHeader: header}}, nil
}

// routeThroughGateway makes the two hops of double HBONE. Both name the
// service, never an address of the other network, which means nothing here.
func (d *pod) routeThroughGateway(to destination, w *endpoints.Workload, header map[string][]string) (route, error) {
	if to.service == nil || w.NetworkGateway == nil {
		return route{}, fmt.Errorf("workload %s is on network %q and no gateway leads there", w.UID, w.Network)
	}
	address, outer, err := d.gateway(*w.NetworkGateway)
	if err != nil {
		return route{}, err
	}
	inner, err := d.credentials(identity.Peers{IDs: parseIDs(to.service.SubjectAltNames)})
	if err != nil {
		return route{}, err
	}
	authority := net.JoinHostPort(to.service.Hostname, strconv.Itoa(int(to.port)))
	header[forwardedNetworkHeader] = []string{d.proxy.cfg.Network}
	return route{path: hbone.Path{
		Hops: []hbone.Hop{
			{Address: address, Authority: authority, TLS: outer, TunnelHeader: tunnelHeader(d.workload.Load())},
			{Authority: authority, TLS: inner},
		},
		StreamHeader: header,
		Spread:       int(min(max(w.Weight(), 1), maxSpread)),
	}}, nil
}

// gateway finds where a gateway is dialled, and who it must be.
func (d *pod) gateway(g endpoints.GatewayAddress) (address string, creds *identity.Credentials, err error) {
	index := d.proxy.cfg.State.Index()
	var w *endpoints.Workload
	if g.Hostname != "" {
		w = index.WorkloadByHostname(g.Namespace, g.Hostname)
	} else {
		w = index.WorkloadByAddr(g.Address.Network, g.Address.Addr())
	}
	if w == nil || hostOf(w) == "" {
		return "", nil, fmt.Errorf("gateway %s is not known", g)
	}
	creds, err = d.peers(w, nil)
	return net.JoinHostPort(hostOf(w), strconv.Itoa(int(g.Port))), creds, err
}

// peers are the credentials for dialling a workload: it must be itself, or one
// of the identities that the service says its backends have.
func (d *pod) peers(w *endpoints.Workload, s *endpoints.ServiceEntry) (*identity.Credentials, error) {
	ids := []string{w.Identity()}
	if s != nil {
		ids = append(ids, s.SubjectAltNames...)
	}
	return d.credentials(identity.Peers{IDs: parseIDs(ids)})
}

// parseIDs leaves out what is no SPIFFE ID: nobody can prove to be that.
func parseIDs(names []string) []spiffeid.ID {
	ids := make([]spiffeid.ID, 0, len(names))
	for _, name := range names {
		if id, err := identity.ParseID(name); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

func hostOf(w *endpoints.Workload) string {
	if len(w.Addresses) > 0 {
		return w.Addresses[0].String()
	}
	return w.Hostname
}
