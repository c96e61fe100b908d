package eds

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// A Gateway is an east-west gateway as proxies on other networks use it.
type Gateway struct {
	Network string // the network behind it
	Cluster string // that it is in; empty: it is no cluster's own

	// Addresses and Hostnames are where it is reached. Each counts as a gateway of that weight.
	Addresses []netip.Addr
	Hostnames []string

	SNIPort   uint16 // where it passes mutual TLS through by SNI, normally 15443; 0: nowhere
	HBONEPort uint16 // where it serves HBONE, normally 15008; 0: nowhere
	Weight    uint32 // its share among the gateways of its cluster; 0: 1
	Health    endpoints.Health
}

// GatewayOf returns a gateway that a cluster told a mesh of. Its Network must be set.
func GatewayOf(cluster string, g *endpoints.Gateway) Gateway {
	out := Gateway{
		Network:   g.Network,
		Cluster:   cluster,
		Addresses: g.Addresses,
		Hostnames: g.Hostnames,
		SNIPort:   g.SNIPort,
		Weight:    g.Weight,
		Health:    g.Health,
	}
	if !g.NoHBONE {
		out.HBONEPort = cmp.Or(g.HBONEPort, endpoints.DefaultHBONEPort)
	}
	return out
}

// Gateways is a set of gateways. It is immutable: make another when one changes.
type Gateways struct {
	resolved doors // those of IP addresses, and of what names resolve to
	named    doors // those of IP addresses, and of names
	resolve  func(string) []netip.Addr
}

// A door is one address of a gateway.
type door struct {
	network, cluster string
	host             string
	addr             netip.Addr // invalid: host is a name
	sni, hbone       uint16
	weight           uint64
	healthy          bool
}

// doors are in order, by network.
type doors map[string][]door

// NewGateways makes a set. Envoy resolves no names of endpoints, so those of gateways have to be resolved
// before: resolve returns the addresses of a hostname that are known by now, as Resolver.Addrs does. It is
// called for each hostname at once, and later for those in views. With nil, gateways that have a name only are
// shown to none but clusters that Envoy resolves by itself (Target.DNS).
func NewGateways(all []Gateway, resolve func(hostname string) []netip.Addr) *Gateways {
	if resolve == nil {
		resolve = func(string) []netip.Addr { return nil }
	}
	gs := &Gateways{resolved: make(doors), named: make(doors), resolve: resolve}
	for _, g := range all {
		d := door{
			network: g.Network, cluster: g.Cluster, sni: g.SNIPort, hbone: g.HBONEPort,
			weight: uint64(max(1, g.Weight)), healthy: g.Health == endpoints.Healthy,
		}
		for _, a := range g.Addresses {
			if a.IsValid() {
				gs.resolved.add(d.at(a))
				gs.named.add(d.at(a))
			}
		}
		for _, host := range g.Hostnames {
			for _, a := range resolve(host) {
				gs.resolved.add(d.at(a))
			}
			d.host = host
			gs.named.add(d)
		}
	}
	gs.resolved.sort()
	gs.named.sort()
	return gs
}

// at returns d at an IP address.
func (d door) at(a netip.Addr) door {
	d.addr = a.Unmap() // ::ffff:1.2.3.4 is an IPv4 address
	d.host = d.addr.String()
	return d
}

func (ds doors) add(d door) { ds[d.network] = append(ds[d.network], d) }

// sort brings doors in order, each once.
func (ds doors) sort() {
	for network, of := range ds {
		slices.SortFunc(of, door.compare)
		ds[network] = slices.Compact(of)
	}
}

// compare orders by address and port, as istiod does, and else by cluster.
func (d door) compare(o door) int {
	return cmp.Or(
		strings.Compare(d.host, o.host), cmp.Compare(d.sni, o.sni), cmp.Compare(d.hbone, o.hbone),
		strings.Compare(d.cluster, o.cluster), cmp.Compare(d.weight, o.weight), cmp.Compare(bit(d.healthy), bit(o.healthy)))
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// toward returns those of the gateways of a network that lead to a cluster: its own, else all; of these the
// healthy ones, else all.
func toward(cluster string, all []door) []door {
	return healthy(prefer(all, func(d door) bool { return d.cluster == cluster }))
}

func healthy(all []door) []door { return prefer(all, func(d door) bool { return d.healthy }) }

// prefer returns those that are preferred, or all if none is.
func prefer(all []door, preferred func(door) bool) []door {
	if some := only(all, preferred); len(some) > 0 {
		return some
	}
	return all
}

// maxScale bounds the least common multiple, so that weights stay well within 64 bits. Beyond it, the shares of
// gateways are rounded.
const maxScale = 1 << 16

// scale returns the least common multiple of the numbers of gateways that an endpoint's weight may be divided by: of
// each network and of each cluster on it, all of them, which is istiod's factor, and those that are used.
func (ds doors) scale(usable func(door) bool) uint64 {
	lcm := uint64(1)
	for _, network := range slices.Sorted(maps.Keys(ds)) { // what comes later may be too much
		all := ds[network]
		used := only(all, usable)
		lcm = commonMultiple(lcm, sum(all))
		lcm = commonMultiple(lcm, sum(healthy(used)))
		for _, d := range all {
			own := func(o door) bool { return o.cluster == d.cluster }
			lcm = commonMultiple(lcm, sum(only(all, own)))
			lcm = commonMultiple(lcm, sum(healthy(only(used, own))))
		}
	}
	return lcm
}

func only(all []door, keep func(door) bool) []door {
	return slices.DeleteFunc(slices.Clone(all), func(d door) bool { return !keep(d) })
}

func sum(all []door) uint64 {
	var n uint64
	for _, d := range all {
		n += d.weight
	}
	return n
}

// commonMultiple returns the least common multiple of a and b, or a if that is too large or b is 0.
func commonMultiple(a, b uint64) uint64 {
	if b == 0 || b > maxScale {
		return a
	}
	gcd, rest := a, b
	for rest > 0 {
		gcd, rest = rest, gcd%rest
	}
	if lcm := a / gcd * b; lcm <= maxScale {
		return lcm
	}
	return a
}
