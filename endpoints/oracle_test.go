package endpoints_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

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
	full.Network = cmp.Or(wl.Network, w.networkOf(id, wl))
	full.TrustDomain = elide(cmp.Or(wl.TrustDomain, w.clusters[id].TrustDomain))
	full.Services = slices.Clone(wl.Services)
	slices.SortFunc(full.Services, func(a, b endpoints.ServicePorts) int { return cmp.Compare(a.Service, b.Service) })
	return &full
}

func (w *world) networkOf(id string, wl *endpoints.Workload) string {
	network, longest := w.clusters[id].Network, -1
	for _, r := range w.clusters[id].Ranges {
		if len(wl.Addresses) > 0 && r.Prefix.Contains(wl.Addresses[0]) && r.Prefix.Bits() > longest {
			network, longest = r.Network, r.Prefix.Bits()
		}
	}
	return network
}

// here adds the addresses that a service of the client's cluster has on all networks of that cluster.
func (w *world) here(c endpoints.Client, s *endpoints.Service) *endpoints.Service {
	home := w.clusters[c.Cluster]
	on := func(a endpoints.NetworkAddress) bool { return a.Network == c.Network }
	if w.compat == endpoints.Istio || home == nil || slices.ContainsFunc(s.Addresses, on) {
		return s
	}
	more := *s
	for _, a := range s.Addresses {
		if a.Network == home.Network {
			more.Addresses = append(slices.Clip(more.Addresses), endpoints.NetworkAddress{Network: c.Network, Prefix: a.Prefix})
		}
	}
	return &more
}

func elide(td string) string {
	if td == "cluster.local" {
		return ""
	}
	return td
}

// copies returns the copies of a service that are global and that a cluster accepts, or all, by cluster.
func (w *world) copies(key string, global bool, to ...string) map[string]*endpoints.Service {
	out := make(map[string]*endpoints.Service)
	for id, c := range w.clusters {
		s := c.services[key]
		refused := func(id string) bool { return s != nil && slices.Contains(s.Refused, id) }
		if s == nil || global && s.Scope != endpoints.ScopeGlobal || slices.ContainsFunc(to, refused) {
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

// backends returns the workloads that clusters which have a service as global have behind it, as a cluster sees it.
func (w *world) backends(key, to string) []*endpoints.Workload {
	var all []*endpoints.Workload
	for _, id := range w.ids() {
		if w.copies(key, true, to)[id] == nil {
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
	home := w.copies(key, false)[c.Cluster]
	if home != nil && home.Scope == endpoints.ScopeLocal {
		return w.here(c, home)
	}
	if home != nil && home.Instance && c.Role != endpoints.GatewayRole {
		alone := *w.here(c, home)
		alone.Scope = endpoints.ScopeLocal
		return &alone
	}
	global := w.copies(key, true, c.Cluster)
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
	if home != nil {
		s.Addresses = w.here(c, &s).Addresses
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
	for _, wl := range w.backends(key, c.Cluster) {
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
		exported := w.copies(p.Service, true, c.Cluster)[wl.Cluster] != nil
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
