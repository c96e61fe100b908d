package endpoints

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

const (
	gatewayUIDPrefix = "NetworkGateway"
	horizonUIDPart   = "SplitHorizonWorkload"
)

func compareFronts(a, b front) int {
	return cmp.Or(
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name),
		strings.Compare(a.cluster, b.cluster),
	)
}

// hosts returns where other networks reach a gateway.
func (g *Gateway) hosts() []string {
	var all []string
	for _, a := range g.Addresses {
		all = append(all, a.String())
	}
	return append(all, g.Hostnames...)
}

// host returns the first of them.
func (g *Gateway) host() string {
	if len(g.Addresses) > 0 {
		return g.Addresses[0].String()
	}
	return g.Hostnames[0]
}

func (g *Gateway) weight() uint64 { return uint64(max(1, g.Weight)) }

// address returns where a client finds the gateway.
func (g *Gateway) address(port uint16) *GatewayAddress {
	if len(g.Addresses) > 0 {
		return &GatewayAddress{Address: HostAddress(g.Network, g.Addresses[0]), Port: port}
	}
	return &GatewayAddress{Namespace: g.Namespace, Hostname: g.Hostnames[0], Port: port}
}

// takes reports whether a gateway takes sidecars in, by SNI, or else others, by HBONE.
func (g *Gateway) takes(sni bool) bool {
	if sni {
		return g.SNIPort != 0
	}
	return !g.NoHBONE
}

func (g *Gateway) port(sni bool) uint16 {
	switch {
	case sni:
		return g.SNIPort
	case g.HBONEPort == 0:
		return DefaultHBONEPort
	}
	return g.HBONEPort
}

// toward returns the gateways that lead to the backends of a service in a cluster on a network: those that the
// cluster itself told of, else all of the network that pass the service on; of these the healthy ones, else all; no
// address twice.
func (m *Mesh) toward(s *serviceState, k horizonKey) []front {
	var own, all []front
	for _, g := range m.fronts[k.network] {
		if !g.takes(k.sni) || !m.passes(s, g.cluster, k.groupKey) {
			continue
		}
		all = append(all, g)
		if g.cluster == k.cluster {
			own = append(own, g)
		}
	}
	if len(own) > 0 {
		all = own
	}
	unhealthy := func(g front) bool { return g.Health != Healthy }
	if !slices.ContainsFunc(all, func(g front) bool { return !unhealthy(g) }) {
		return distinct(all)
	}
	return distinct(slices.DeleteFunc(all, unhealthy))
}

// passes reports whether the gateways that a cluster told of pass a service on to its backends in another cluster on
// their network, which they do if their own cluster sees them. A cluster that is on another network itself tells of
// gateways that are not its own: who knows what they pass on.
func (m *Mesh) passes(s *serviceState, by string, to groupKey) bool {
	if by == to.cluster || m.clusters[by].Network != to.network {
		return true
	}
	own := s.copyOf(by)
	return s.visible(to.cluster, by) && (own == nil || own.Scope == ScopeGlobal)
}

// distinct leaves the first gateway of each address.
func distinct(all []front) []front {
	seen := make(map[string]bool, len(all))
	return slices.DeleteFunc(all, func(g front) bool {
		again := seen[g.host()]
		seen[g.host()] = true
		return again
	})
}

// first returns the one gateway that istiod shows a network behind, with one of its addresses.
func (f fronts) first(network, home string) []front {
	all := istioFronts(f[network], home)
	if len(all) == 0 {
		return nil
	}
	return all[:1]
}

// istioFronts returns gateways as istiod keeps them: one for each address; of the same from several
// clusters, the client's own cluster's.
func istioFronts(of []front, home string) []front {
	var all []front
	for _, g := range of {
		if g.NoHBONE {
			continue
		}
		for i := range g.hosts() {
			all = append(all, g.only(i))
		}
	}
	slices.SortStableFunc(all, func(a, b front) int {
		return cmp.Or(
			strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.host(), b.host()),
			cmp.Compare(bit(a.cluster != home), bit(b.cluster != home)), strings.Compare(a.cluster, b.cluster))
	})
	return slices.CompactFunc(all, func(a, b front) bool {
		return a.Key() == b.Key() && a.host() == b.host()
	})
}

// only returns the gateway with just one of its hosts.
func (f front) only(i int) front {
	g := *f.Gateway
	if i < len(g.Addresses) {
		g.Addresses, g.Hostnames = g.Addresses[i:i+1], nil
	} else {
		g.Addresses, g.Hostnames = nil, g.Hostnames[i-len(g.Addresses):][:1]
	}
	return front{f.cluster, &g}
}

// gatewayWorkloads returns the workloads that tell clients which identities the gateways of other networks
// have. One that only passes TLS through has none to prove.
func (m *Mesh) gatewayWorkloads(c Client) map[string]*Workload {
	all := make(map[string]*Workload)
	for network, of := range m.fronts {
		if m.config.Compat == Istio {
			of = istioFronts(of, c.Cluster)
		}
		for _, g := range of {
			if g.NoHBONE || network == c.Network && (m.config.Compat == Native || g.cluster == c.Cluster) {
				continue
			}
			w := m.gatewayWorkload(g, c)
			if all[w.UID] == nil { // fronts are in order of preference
				all[w.UID] = w
			}
		}
	}
	return all
}

func (m *Mesh) gatewayWorkload(g front, c Client) *Workload {
	trustDomain := m.clusters[g.cluster].TrustDomain
	if m.config.Compat == Istio {
		trustDomain = m.meshTrustDomain(c)
	}
	uid := gatewayUIDPrefix + "/" + g.Network + "/" + g.host() + "/" + strconv.Itoa(int(g.HBONEPort))
	w := &Workload{
		UID:            uid,
		Name:           uid,
		Namespace:      g.Namespace,
		Network:        g.Network,
		Addresses:      g.Addresses,
		TrustDomain:    elideTrustDomain(trustDomain),
		ServiceAccount: orDefault(g.ServiceAccount, g.Name),
	}
	if len(g.Hostnames) > 0 {
		w.Hostname = g.Hostnames[0]
	}
	return w
}
