package endpoints_test

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

type worldGateway struct {
	cluster string
	endpoints.Gateway
}

// gateways returns the gateways of a network, sorted by name and cluster.
func (w *world) gateways(network string) []worldGateway {
	var all []worldGateway
	for _, id := range w.ids() {
		for _, g := range w.clusters[id].gateways {
			full := *g
			full.Network = cmp.Or(g.Network, w.clusters[id].Network)
			if full.Network == network {
				all = append(all, worldGateway{id, full})
			}
		}
	}
	slices.SortFunc(all, func(a, b worldGateway) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.cluster, b.cluster))
	})
	return all
}

func (g worldGateway) host() string {
	if len(g.Addresses) > 0 {
		return g.Addresses[0].String()
	}
	return g.Hostnames[0]
}

// istio returns one gateway for each address, the client's cluster's copy of each.
func istioGateways(all []worldGateway, c endpoints.Client) []worldGateway {
	byKey := make(map[string]worldGateway)
	for _, g := range all {
		if g.NoHBONE {
			continue
		}
		for _, host := range slices.Concat(addrStrings(g.Addresses), g.Hostnames) {
			one := g
			one.Addresses, one.Hostnames = nil, []string{host}
			if a, err := netip.ParseAddr(host); err == nil {
				one.Addresses, one.Hostnames = []netip.Addr{a}, nil
			}
			key := strings.Join([]string{g.Namespace, g.Name, host}, "\x00")
			if have, ok := byKey[key]; !ok || g.cluster == c.Cluster && have.cluster != c.Cluster {
				byKey[key] = one
			}
		}
	}
	var out []worldGateway
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		out = append(out, byKey[key])
	}
	return out
}

func addrStrings(addrs []netip.Addr) (all []string) {
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return all
}

func (w *world) networks() []string {
	seen := make(map[string]bool)
	for _, id := range w.ids() {
		seen[w.clusters[id].Network] = true
		for _, wl := range w.clusters[id].workloads {
			seen[w.complete(id, wl).Network] = true
		}
		for _, g := range w.clusters[id].gateways {
			seen[cmp.Or(g.Network, w.clusters[id].Network)] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func (w *world) gatewayWorkloads(c endpoints.Client) []*endpoints.Workload {
	var all []*endpoints.Workload
	for _, network := range w.networks() {
		gateways := w.gateways(network)
		if w.compat == endpoints.Istio {
			gateways = istioGateways(gateways, c)
		}
		for _, g := range gateways {
			if g.NoHBONE || network == c.Network && (w.compat == endpoints.Native || g.cluster == c.Cluster) {
				continue
			}
			td := w.clusters[g.cluster].TrustDomain
			if w.compat == endpoints.Istio {
				td = w.trustDomain(c)
			}
			uid := fmt.Sprintf("NetworkGateway/%s/%s/%d", network, g.host(), g.HBONEPort)
			wl := &endpoints.Workload{
				UID: uid, Name: uid, Namespace: g.Namespace, Network: network, Addresses: g.Addresses,
				TrustDomain: elide(td), ServiceAccount: cmp.Or(g.ServiceAccount, g.Name),
			}
			if len(g.Hostnames) > 0 {
				wl.Hostname = g.Hostnames[0]
			}
			all = append(all, wl)
		}
	}
	return all
}

// toward returns the gateways toward a cluster's workloads on a network, behind a service.
func (w *world) toward(key, network, cluster string, sni bool) []worldGateway {
	all := slices.DeleteFunc(w.gateways(network), func(g worldGateway) bool {
		seen := w.merged(endpoints.Client{Network: network, Cluster: g.cluster, Role: endpoints.GatewayRole}, key)
		neighbour := g.cluster != cluster && w.clusters[g.cluster].Network == network
		refuses := seen == nil || seen.Scope != endpoints.ScopeGlobal || w.copies(key, true, g.cluster)[cluster] == nil
		return sni && g.SNIPort == 0 || !sni && g.NoHBONE || neighbour && refuses
	})
	for _, prefer := range []func(worldGateway) bool{
		func(g worldGateway) bool { return g.cluster == cluster },
		func(g worldGateway) bool { return g.Health == endpoints.Healthy },
	} {
		if slices.ContainsFunc(all, prefer) {
			all = slices.DeleteFunc(all, func(g worldGateway) bool { return !prefer(g) })
		}
	}
	seen := make(map[string]bool)
	return slices.DeleteFunc(all, func(g worldGateway) bool {
		again := seen[g.host()]
		seen[g.host()] = true
		return again
	})
}

// A part of the horizon: where backends are that are shown together.
type worldPart struct {
	network, cluster string
	locality         endpoints.Locality
}

func (w *world) horizon(c endpoints.Client, services map[string]*endpoints.Service) []*endpoints.Workload {
	var all []*endpoints.Workload
	for key, s := range services {
		if s.Scope != endpoints.ScopeGlobal {
			continue
		}
		parts := make(map[worldPart][]*endpoints.Workload)
		for _, wl := range w.backends(key, c.Cluster) {
			p := worldPart{network: wl.Network, cluster: wl.Cluster}
			if w.compat == endpoints.Istio {
				p.cluster = ""
			} else if c.Role == endpoints.Sidecar {
				p.locality = wl.Locality
			}
			if p.network != c.Network {
				parts[p] = append(parts[p], wl)
			}
		}
		for p, backends := range parts {
			if w.compat == endpoints.Istio {
				all = append(all, w.istioHorizon(c, s, p, backends)...)
			} else {
				all = append(all, w.nativeHorizon(c, s, p, backends)...)
			}
		}
	}
	return all
}

func (w *world) istioHorizon(c endpoints.Client, s *endpoints.Service, p worldPart, backends []*endpoints.Workload) []*endpoints.Workload {
	gateways := istioGateways(w.gateways(p.network), c)
	if len(gateways) == 0 {
		return nil
	}
	var capacity uint32
	for _, wl := range backends {
		capacity += max(1, wl.Weight())
	}
	wl := horizonWorkload(s, p, gateways[0], cmp.Or(gateways[0].HBONEPort, 15008))
	wl.TrustDomain, wl.Cluster, wl.Capacity = elide(w.trustDomain(c)), gateways[0].cluster, &capacity
	return []*endpoints.Workload{wl}
}

func horizonWorkload(s *endpoints.Service, p worldPart, g worldGateway, port uint16) *endpoints.Workload {
	uid := strings.Join([]string{p.network, "SplitHorizonWorkload", g.Namespace, g.Name, g.host(), s.Key()}, "/")
	wl := &endpoints.Workload{
		UID: uid, Name: uid, Namespace: s.Namespace, Network: p.network, Tunnel: endpoints.TunnelHBONE, Type: endpoints.Pod,
		Services:       []endpoints.ServicePorts{{Service: s.Key(), Ports: s.Ports}},
		NetworkGateway: &endpoints.GatewayAddress{Namespace: g.Namespace, Hostname: g.host(), Port: port},
	}
	if len(g.Addresses) > 0 {
		wl.NetworkGateway = &endpoints.GatewayAddress{Address: endpoints.HostAddress(p.network, g.Addresses[0]), Port: port}
	}
	return wl
}

// served returns the ports of a service that any of its backends in a cluster, on a network, has.
func (w *world) served(c endpoints.Client, s *endpoints.Service, p worldPart) []endpoints.Port {
	has := make(map[uint16]bool)
	for _, b := range w.backends(s.Key(), c.Cluster) {
		if b.Network != p.network || b.Cluster != p.cluster {
			continue
		}
		ports, _ := b.Ports(s.Key())
		for _, port := range ports {
			has[port.ServicePort] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(s.Ports), func(port endpoints.Port) bool { return !has[port.ServicePort] })
}

func (w *world) nativeHorizon(c endpoints.Client, s *endpoints.Service, p worldPart, backends []*endpoints.Workload) []*endpoints.Workload {
	sidecar := c.Role == endpoints.Sidecar
	gateways := w.toward(s.Key(), p.network, p.cluster, sidecar)
	ports := w.served(c, s, p)
	if len(ports) == 0 && len(s.Ports) > 0 {
		return nil
	}
	counted := slices.DeleteFunc(slices.Clone(backends), func(b *endpoints.Workload) bool { return b.Health != endpoints.Healthy })
	health := endpoints.Healthy
	if len(counted) == 0 {
		counted, health = backends, endpoints.Unhealthy
	}
	locality := counted[0].Locality
	for _, b := range counted {
		if b.Locality.Region != locality.Region {
			locality = endpoints.Locality{}
		} else if b.Locality.Zone != locality.Zone {
			locality.Zone, locality.Subzone = "", ""
		} else if b.Locality.Subzone != locality.Subzone {
			locality.Subzone = ""
		}
	}
	if s.LoadBalancing != nil && s.LoadBalancing.HealthPolicy == endpoints.AllowAll {
		counted = backends
	}
	var capacity, weights uint64
	for _, b := range counted {
		capacity += uint64(b.Weight())
	}
	for _, g := range gateways {
		weights += uint64(max(1, g.Weight))
	}
	left := capacity
	for _, g := range gateways {
		left -= capacity * uint64(max(1, g.Weight)) / weights
	}
	var all []*endpoints.Workload
	for i, g := range gateways {
		share := capacity * uint64(max(1, g.Weight)) / weights
		if uint64(i) < left {
			share++
		}
		if capacity > 0 {
			share = max(1, share)
		}
		port := cmp.Or(g.HBONEPort, 15008)
		if sidecar {
			port = g.SNIPort
		}
		wl := horizonWorkload(s, p, g, port)
		wl.UID += "/" + p.cluster
		wl.Services[0].Ports = ports
		if sidecar {
			wl.UID += "/" + strings.Join([]string{p.locality.Region, p.locality.Zone, p.locality.Subzone}, "/")
			wl.Tunnel = endpoints.TunnelNone
		}
		wl.Name, wl.Cluster, wl.Health, wl.Locality, wl.Capacity = wl.UID, p.cluster, health, locality, new(uint32(share))
		wl.TrustDomain = elide(w.clusters[p.cluster].TrustDomain)
		all = append(all, wl)
	}
	return all
}
