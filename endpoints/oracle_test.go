package endpoints_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// A world is a set of facts. Its view method is a slow oracle: it knows nothing of what was before, and
// looks at every fact for everything that it says.
type world struct {
	compat   endpoints.Compat
	clusters map[string]*worldCluster
}

type worldCluster struct {
	endpoints.Cluster
	services  map[string]*endpoints.Service
	workloads map[string]*endpoints.Workload
	gateways  map[string]*endpoints.Gateway
}

// view returns what a client should see.
func (w *world) view(c endpoints.Client) map[string]endpoints.Resource {
	out := make(map[string]endpoints.Resource)
	services := w.services(c)
	for key, s := range services {
		out[key] = endpoints.Resource{Service: s}
	}
	for _, id := range w.ids() {
		for _, wl := range w.clusters[id].workloads {
			if shown := w.shown(c, services, w.complete(id, wl)); shown != nil {
				out[shown.UID] = endpoints.Resource{Workload: shown}
			}
		}
	}
	if c.Role == endpoints.GatewayRole {
		return out
	}
	for _, wl := range slices.Concat(w.horizon(c, services), w.gatewayWorkloads(c)) {
		if _, ok := out[wl.UID]; !ok {
			out[wl.UID] = endpoints.Resource{Workload: wl}
		}
	}
	return out
}

func (w *world) ids() []string { return slices.Sorted(maps.Keys(w.clusters)) }

func (w *world) local() string {
	for id, c := range w.clusters {
		if c.Local {
			return id
		}
	}
	return ""
}

// complete fills in what a workload leaves to its cluster.
func (w *world) complete(id string, wl *endpoints.Workload) *endpoints.Workload {
	full := *wl
	full.Cluster = id
	full.Network = cmp.Or(wl.Network, w.clusters[id].Network)
	full.TrustDomain = elide(cmp.Or(wl.TrustDomain, w.clusters[id].TrustDomain))
	full.Services = slices.Clone(wl.Services)
	slices.SortFunc(full.Services, func(a, b endpoints.ServicePorts) int { return cmp.Compare(a.Service, b.Service) })
	return &full
}

func elide(td string) string {
	if td == "cluster.local" {
		return ""
	}
	return td
}

// copies returns the copies of a service that are global, or all, by cluster.
func (w *world) copies(key string, global bool) map[string]*endpoints.Service {
	out := make(map[string]*endpoints.Service)
	for id, c := range w.clusters {
		s := c.services[key]
		if s == nil || global && s.Scope != endpoints.ScopeGlobal {
			continue
		}
		full := *s
		full.Addresses = slices.Clone(s.Addresses)
		for i := range full.Addresses {
			full.Addresses[i].Network = cmp.Or(full.Addresses[i].Network, c.Network)
		}
		out[id] = &full
	}
	return out
}

// backends returns the workloads that clusters which have a service as global have behind it.
func (w *world) backends(key string) []*endpoints.Workload {
	var all []*endpoints.Workload
	for _, id := range w.ids() {
		if w.copies(key, true)[id] == nil {
			continue
		}
		for _, uid := range slices.Sorted(maps.Keys(w.clusters[id].workloads)) {
			full := w.complete(id, w.clusters[id].workloads[uid])
			if _, ok := full.Ports(key); ok {
				all = append(all, full)
			}
		}
	}
	return all
}

func (w *world) services(c endpoints.Client) map[string]*endpoints.Service {
	keys := make(map[string]bool)
	for _, cl := range w.clusters {
		for key := range cl.services {
			keys[key] = true
		}
	}
	all := make(map[string]*endpoints.Service)
	for key := range keys {
		if s := w.merged(c, key); s != nil {
			all[key] = s
		}
	}
	if c.Role != endpoints.GatewayRole {
		return all
	}
	seen := make(map[string]*endpoints.Service)
	for key, s := range all {
		if s.Scope == endpoints.ScopeGlobal || slices.ContainsFunc(slices.Collect(maps.Values(all)), func(user *endpoints.Service) bool {
			return user.Scope == endpoints.ScopeGlobal && isWaypointOf(s, user)
		}) {
			seen[key] = s
		}
	}
	return seen
}

func isWaypointOf(s, user *endpoints.Service) bool {
	var at []endpoints.GatewayAddress
	if user.Waypoint != nil {
		at = append(at, *user.Waypoint)
	}
	for _, w := range user.WeightedWaypoints {
		at = append(at, w.Destination)
	}
	return slices.ContainsFunc(at, func(g endpoints.GatewayAddress) bool {
		if g.Hostname != "" {
			return g.Namespace+"/"+g.Hostname == s.Key()
		}
		return slices.Contains(s.Addresses, g.Address)
	})
}

func (w *world) merged(c endpoints.Client, key string) *endpoints.Service {
	if home := w.copies(key, false)[c.Cluster]; home != nil && home.Scope == endpoints.ScopeLocal {
		return home
	}
	global := w.copies(key, true)
	if len(global) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(global))
	slices.SortStableFunc(ids, func(a, b string) int {
		age := func(id string) int64 {
			if global[id].Created.IsZero() {
				return math.MaxInt64
			}
			return global[id].Created.Unix()
		}
		return cmp.Compare(age(a), age(b))
	})
	first := ids[0]
	for _, id := range []string{w.local(), c.Cluster} {
		if global[id] != nil {
			first = id
		}
	}
	s := *global[first]
	if len(global) > 1 {
		addresses := make(map[string]endpoints.NetworkAddress)
		for _, g := range global {
			for _, a := range g.Addresses {
				addresses[a.Network+"/"+a.Prefix.String()] = a
			}
		}
		s.Addresses = nil
		for _, k := range slices.Sorted(maps.Keys(addresses)) {
			s.Addresses = append(s.Addresses, addresses[k])
		}
	}
	s.SubjectAltNames = w.sans(c, key, global)
	return &s
}

func (w *world) sans(c endpoints.Client, key string, global map[string]*endpoints.Service) []string {
	names := make(map[string]bool)
	for _, g := range global {
		for _, n := range g.SubjectAltNames {
			names[n] = true
		}
	}
	for _, wl := range w.backends(key) {
		switch {
		case wl.Network == c.Network:
		case w.compat == endpoints.Istio:
			names[fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", w.trustDomain(c), wl.Namespace, wl.ServiceAccount)] = true
		case wl.Tunnel == endpoints.TunnelHBONE:
			names[wl.Identity()] = true
		}
	}
	if len(names) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(names))
}

func (w *world) trustDomain(c endpoints.Client) string {
	for _, id := range []string{c.Cluster, w.local()} {
		if cl := w.clusters[id]; cl != nil {
			return cmp.Or(cl.TrustDomain, "cluster.local")
		}
	}
	return "cluster.local"
}

// shown returns a workload as a client sees it, or nil.
func (w *world) shown(c endpoints.Client, services map[string]*endpoints.Service, wl *endpoints.Workload) *endpoints.Workload {
	if wl.Network != c.Network {
		return nil
	}
	own := wl.Cluster == c.Cluster
	wl.Services = slices.DeleteFunc(wl.Services, func(p endpoints.ServicePorts) bool {
		exported := w.copies(p.Service, true)[wl.Cluster] != nil
		seen := services[p.Service]
		switch {
		case c.Role != endpoints.GatewayRole && own:
			return false
		case c.Role != endpoints.GatewayRole && w.compat == endpoints.Istio:
			return !exported
		case seen == nil:
			return true
		case seen.Scope == endpoints.ScopeGlobal:
			return !exported
		}
		return !own
	})
	if c.Role == endpoints.GatewayRole && len(wl.Services) == 0 {
		return nil
	}
	return wl
}

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
			if network == c.Network && (w.compat == endpoints.Native || g.cluster == c.Cluster) {
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

// toward returns the gateways toward a cluster's workloads on a network.
func (w *world) toward(network, cluster string, sni bool) []worldGateway {
	all := slices.DeleteFunc(w.gateways(network), func(g worldGateway) bool { return sni && g.SNIPort == 0 })
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
		for _, wl := range w.backends(key) {
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

func (w *world) nativeHorizon(c endpoints.Client, s *endpoints.Service, p worldPart, backends []*endpoints.Workload) []*endpoints.Workload {
	sidecar := c.Role == endpoints.Sidecar
	gateways := w.toward(p.network, p.cluster, sidecar)
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
