package eds

import (
	"net/netip"
	"slices"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// Kind is how a proxy crosses to another network.
type Kind uint8

// The kinds of proxies.
const (
	Sidecar  Kind = iota // by mutual TLS that gateways pass through by SNI
	Waypoint             // by an HBONE tunnel inside of another; so does an ingress gateway
)

// String returns sidecar or waypoint.
func (k Kind) String() string {
	if k == Waypoint {
		return "waypoint"
	}
	return "sidecar"
}

// A Client stands for the proxies that see endpoints alike.
type Client struct {
	Kind    Kind
	Network string // empty: not known. An endpoint without a network is on every one.
	Cluster string
	Node    string

	// Locality is where the client runs, for services that prefer what is near.
	Locality endpoints.Locality

	// HBONE says that a sidecar can tunnel to workloads that accept it. A waypoint always can.
	HBONE bool

	// Families are the IP families of the client's own addresses: endpoints and gateways of others are not shown.
	// IPAutomatic, which is the default, shows all.
	Families endpoints.IPFamilies

	// Networks are those whose endpoints the client wants to see (its REQUESTED_NETWORK_VIEW). Empty: all.
	Networks []string
}

// on reports whether the client is on a network, as far as is known.
func (c *Client) on(network string) bool {
	return network == c.Network || network == "" || c.Network == ""
}

// wants reports whether the client wants to see endpoints of a network.
func (c *Client) wants(network string) bool {
	return len(c.Networks) == 0 || network == "" || slices.Contains(c.Networks, network)
}

func (c *Client) speaks(a netip.Addr) bool {
	switch a = a.Unmap(); c.Families {
	case endpoints.IPv4Only:
		return a.Is4()
	case endpoints.IPv6Only:
		return a.Is6()
	}
	return a.IsValid()
}

// enters reports whether the client can go through a gateway.
func (c *Client) enters(d door) bool {
	return d.port(c.Kind) != 0 && (!d.addr.IsValid() || c.speaks(d.addr))
}

// port returns where a gateway takes clients of that kind in, or 0.
func (d door) port(k Kind) uint16 {
	if k == Waypoint {
		return d.hbone
	}
	return d.sni
}

// tunnels reports whether the client reaches a workload by HBONE.
func (c *Client) tunnels(w *endpoints.Workload) bool {
	return (c.HBONE || c.Kind == Waypoint) && w.Tunnel == endpoints.TunnelHBONE
}

// rank says how well a workload fits a routing preference: how many of its steps, from the first one on, client
// and workload have in common. As in ztunnel, a preference that begins with NETWORK puts all of the client's
// network before all others, and these among each other by the other steps.
func (c *Client) rank(preference []endpoints.RoutingScope, w *endpoints.Workload) int {
	bonus := 0
	if len(preference) > 0 && preference[0] == endpoints.SameNetwork {
		if w.Network == c.Network {
			bonus = len(preference) - 1
		} else {
			preference = preference[1:]
		}
	}
	for i, scope := range preference {
		if !c.shares(scope, w) {
			return i + bonus
		}
	}
	return len(preference) + bonus
}

// best returns the rank of a workload that fits in every step.
func best(preference []endpoints.RoutingScope) int {
	if len(preference) > 0 && preference[0] == endpoints.SameNetwork {
		return 2*len(preference) - 1
	}
	return len(preference)
}

func (c *Client) shares(scope endpoints.RoutingScope, w *endpoints.Workload) bool {
	switch scope {
	case endpoints.SameRegion:
		return c.Locality.Region == w.Locality.Region
	case endpoints.SameZone:
		return c.Locality.Zone == w.Locality.Zone
	case endpoints.SameSubzone:
		return c.Locality.Subzone == w.Locality.Subzone
	case endpoints.SameNode:
		return c.Node == w.Node
	case endpoints.SameCluster:
		return c.Cluster == w.Cluster
	case endpoints.SameNetwork:
		return c.Network == w.Network
	}
	return false
}
