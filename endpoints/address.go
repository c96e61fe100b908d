package endpoints

import (
	"net/netip"
	"strconv"
)

// DefaultHBONEPort is where HBONE servers listen when nothing else is said.
const DefaultHBONEPort = 15008

// A NetworkAddress is an address, or a range of addresses, on one network. The same address on
// another network is another address. The empty network is a network like any other.
type NetworkAddress struct {
	Network string
	Prefix  netip.Prefix // of full length for a single address
}

// HostAddress returns the NetworkAddress of a single address.
func HostAddress(network string, addr netip.Addr) NetworkAddress {
	return NetworkAddress{Network: network, Prefix: netip.PrefixFrom(addr, addr.BitLen())}
}

// Addr returns the address, or the first address given for the range.
func (a NetworkAddress) Addr() netip.Addr { return a.Prefix.Addr() }

// IsHost reports whether a is a single address.
func (a NetworkAddress) IsHost() bool { return a.Prefix.IsValid() && a.Prefix.IsSingleIP() }

// String returns "network/ip", or "network/ip/length" for a range, as Istio names addresses on demand.
func (a NetworkAddress) String() string {
	s := a.Network + "/" + a.Prefix.Addr().String()
	if a.IsHost() {
		return s
	}
	return s + "/" + strconv.Itoa(a.Prefix.Bits())
}

// A GatewayAddress says where a proxy (a waypoint or a network gateway) is found: by name or by address,
// never both.
type GatewayAddress struct {
	Namespace string // with Hostname
	Hostname  string // of a service or a workload
	Address   NetworkAddress
	Port      uint16 // where it serves HBONE
}

// String returns "namespace/hostname:port" or "network/ip:port".
func (g GatewayAddress) String() string {
	dest := g.Address.String()
	if g.Hostname != "" {
		dest = g.Namespace + "/" + g.Hostname
	}
	return dest + ":" + strconv.Itoa(int(g.Port))
}

// A WeightedWaypoint is one of several waypoints of a service; its share is its weight among all.
type WeightedWaypoint struct {
	Destination GatewayAddress
	Weight      uint32
}

// A Port maps a port of a service to where a backend has it.
type Port struct {
	ServicePort uint16
	TargetPort  uint16 // 0: each backend says for itself
	AppProtocol AppProtocol
}

// A Locality is a place. A part that is not known is empty.
type Locality struct {
	Region, Zone, Subzone string
}

// String returns "region/zone/subzone" without empty parts at the end.
func (l Locality) String() string {
	switch {
	case l.Subzone != "":
		return l.Region + "/" + l.Zone + "/" + l.Subzone
	case l.Zone != "":
		return l.Region + "/" + l.Zone
	}
	return l.Region
}

// An Extension is configuration that this package carries without looking into it.
type Extension struct {
	Name    string
	TypeURL string
	Value   []byte
}
