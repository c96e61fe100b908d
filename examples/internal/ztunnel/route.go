package ztunnel

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/backends"
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
	client   net.Addr // who asks
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

// route finds the way to a backend that was chosen for a destination.
func (d *pod) route(to destination, b backends.Backend) (route, error) {
	if b.Network != d.proxy.cfg.Network {
		return d.routeThroughGateway(to, b.Workload, to.service)
	}
	host := hostOf(b.Workload, to.address.Addr())
	if host == "" {
		return route{}, fmt.Errorf("workload %s has no address", b.UID)
	}
	target := net.JoinHostPort(host, strconv.Itoa(int(b.TargetPort)))
	if b.Tunnel != endpoints.TunnelHBONE {
		return route{address: target}, nil
	}
	creds, err := d.peers(b.Workload, to.service)
	if err != nil {
		return route{}, err
	}
	hop := hbone.Hop{Address: net.JoinHostPort(host, strconv.Itoa(InboundPort)), Authority: target, TLS: creds}
	return route{path: hbone.Path{Hops: []hbone.Hop{hop}, StreamHeader: d.streamHeader(to)}}, nil
}

// routeThroughGateway makes the two hops of double HBONE. Both name the service
// that was asked for, never an address of the other network, which means
// nothing here. At the end of the second is a backend of inner: that service,
// or its waypoint's. Which one is not known, so its identities are the
// service's.
func (d *pod) routeThroughGateway(to destination, w *endpoints.Workload, inner *endpoints.ServiceEntry) (route, error) {
	if to.service == nil || inner == nil || w.NetworkGateway == nil {
		return route{}, fmt.Errorf("workload %s is on network %q and no gateway leads there", w.UID, w.Network)
	}
	address, outerCreds, err := d.gateway(*w.NetworkGateway, to.address.Addr())
	if err != nil {
		return route{}, err
	}
	innerCreds, err := d.keys.client(identity.Peers{IDs: parseIDs(inner.SubjectAltNames)})
	if err != nil {
		return route{}, err
	}
	authority := net.JoinHostPort(to.service.Hostname, strconv.Itoa(int(to.port)))
	header := d.streamHeader(to)
	header[forwardedNetworkHeader] = []string{d.proxy.cfg.Network}
	return route{path: hbone.Path{
		Hops: []hbone.Hop{
			{Address: address, Authority: authority, TLS: outerCreds, TunnelHeader: tunnelHeader(d.workload.Load())},
			{Authority: authority, TLS: innerCreds},
		},
		StreamHeader: header,
		Spread:       int(min(max(w.Weight(), 1), maxSpread)),
	}}, nil
}

func (d *pod) streamHeader(to destination) http.Header {
	return streamHeader(d.workload.Load(), to.client, to.service)
}

// peers are the credentials for dialling a workload: it must be itself, or one
// of the identities that the service says its backends have.
func (d *pod) peers(w *endpoints.Workload, s *endpoints.ServiceEntry) (*identity.Credentials, error) {
	ids := []string{w.Identity()}
	if s != nil {
		ids = append(ids, s.SubjectAltNames...)
	}
	return d.keys.client(identity.Peers{IDs: parseIDs(ids)})
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

// hostOf chooses an address of a workload: the one asked for if it has that,
// else one of the same family, else any.
func hostOf(w *endpoints.Workload, like netip.Addr) string {
	if len(w.Addresses) == 0 {
		return w.Hostname
	}
	best := w.Addresses[0]
	for _, a := range w.Addresses {
		if a == like {
			return a.String()
		}
		if like.IsValid() && a.Is4() == like.Is4() && best.Is4() != like.Is4() {
			best = a
		}
	}
	return best.String()
}
