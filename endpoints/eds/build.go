package eds

import (
	"cmp"
	"iter"
	"math"
	"math/bits"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// A Target is one cluster of Envoy's, and what is known of what stands behind it.
type Target struct {
	// Service and Port are what the cluster is for. Endpoints of other clusters are shown if the Service's Scope
	// is global. Required; the port must be one of the service's, or the assignment is empty.
	Service *endpoints.Service
	Port    uint16

	// Subset is part of the cluster's name. Endpoints must be those of the subset.
	Subset string

	// Endpoints are what backs the service, in any order, in all clusters or as a view shows them: see
	// endpoints.ServiceEntry.
	Endpoints iter.Seq[endpoints.Endpoint]

	// MutualTLS says whether the client speaks Istio's mutual TLS to a workload's port: whether the workload takes
	// it and no policy turns it off. Nil: to all, so that nothing is sent in the clear by omission.
	MutualTLS func(w *endpoints.Workload, port uint16) bool

	// SNI makes the assignment of a gateway's cluster to which it passes TLS through: see SNIClusterName. Since the
	// gateway cannot see whether it is mutual TLS, only endpoints that take it are shown.
	SNI bool

	// DNS says that Envoy resolves the cluster's names itself: hostnames of endpoints and gateways are shown.
	DNS bool
}

// A Builder makes assignments for one client. It is immutable and safe for concurrent use.
type Builder struct {
	client   Client
	gateways *Gateways
	scale    map[bool]uint64 // by Target.DNS
}

// For returns the Builder of a client.
func (gs *Gateways) For(c Client) *Builder {
	return &Builder{client: c, gateways: gs, scale: map[bool]uint64{
		false: gs.resolved.scale(c.enters),
		true:  gs.named.scale(c.enters),
	}}
}

// Build makes the assignment of a target. It depends on what the endpoints are, not on their order.
func (b *Builder) Build(t Target) *Assignment {
	u := &build{
		Builder: b, Target: t, doors: b.gateways.resolved,
		routes: make(map[place]route), groups: make(map[groupKey]*group),
	}
	if t.DNS {
		u.doors = b.gateways.named
	}
	name := ClusterName
	if t.SNI {
		name = SNIClusterName
	}
	a := &Assignment{Cluster: name(t.Service.Hostname, t.Port, t.Subset)}
	i := slices.IndexFunc(t.Service.Ports, func(p endpoints.Port) bool { return p.ServicePort == t.Port })
	if i < 0 || t.Endpoints == nil {
		return a
	}
	u.defaultPort = t.Service.Ports[i].TargetPort
	all := slices.SortedFunc(t.Endpoints, func(a, b endpoints.Endpoint) int {
		return cmp.Or(strings.Compare(a.Workload.Cluster, b.Workload.Cluster), strings.Compare(a.Workload.UID, b.Workload.UID))
	})
	for _, e := range all {
		u.add(e)
	}
	a.Localities = u.localities()
	return a
}

// A build is the making of one assignment.
type build struct {
	*Builder
	Target
	doors       doors
	defaultPort uint16 // of endpoints that do not say
	routes      map[place]route
	groups      map[groupKey]*group
}

// A place is where gateways lead to.
type place struct{ network, cluster string }

// A route says through which gateways a place is reached.
type route struct {
	guarded bool   // there are gateways of the client's kind
	doors   []door // those that the client can go through
}

// A groupKey says where in an assignment an endpoint belongs.
type groupKey struct {
	rank int
	endpoints.Locality
}

// A group is what becomes one locality.
type group struct {
	direct  []choice
	through map[string]*choice // by address
}

// A choice is an endpoint with its weight as it grows.
type choice struct {
	Endpoint
	gateway Address // that it is, if it is one
	weight  uint64
}

// add adds an endpoint, as the client reaches it, if it does.
func (u *build) add(e endpoints.Endpoint) {
	w := e.Workload
	port := u.port(e)
	rank, fits := u.rank(w)
	if port == 0 || !fits || !u.shown(w) {
		return
	}
	mutual := (u.MutualTLS == nil || u.MutualTLS(w, port)) && !u.client.tunnels(w)
	weight := uint64(w.Weight()) * u.scale[u.DNS]
	r := u.route(place{w.Network, w.Cluster})
	// A client whose network is not known goes through a gateway wherever there is one.
	near := u.client.on(w.Network) && (u.client.Network != "" || w.Network == "" || !r.guarded)
	switch g := u.group(rank, w.Locality); {
	case standsIn(w):
		u.addStandIn(g, w, mutual, weight)
	case near, !r.guarded && u.client.Kind == Sidecar: // without gateways, networks count as one
		u.addDirect(g, w, port, mutual, weight)
	case u.crosses(mutual):
		u.addThrough(g, r.doors, weight)
	}
}

// crosses reports whether the client can reach another network, given whether it would speak mutual TLS to what
// is there: to gateways for sidecars, the server name of mutual TLS is what tells services apart.
func (u *build) crosses(mutual bool) bool {
	if u.client.Kind == Waypoint {
		return !u.SNI
	}
	return mutual
}

// route returns how a place is reached. It is the same for all endpoints there.
func (u *build) route(to place) route {
	r, known := u.routes[to]
	if !known {
		all := only(u.doors[to.network], func(d door) bool { return d.port(u.client.Kind) != 0 })
		r = route{guarded: len(all) > 0, doors: toward(to.cluster, only(all, u.client.enters))}
		u.routes[to] = r
	}
	return r
}

func (u *build) group(rank int, l endpoints.Locality) *group {
	key := groupKey{rank, l}
	if u.groups[key] == nil {
		u.groups[key] = &group{through: make(map[string]*choice)}
	}
	return u.groups[key]
}

// shown reports whether a workload is for the client to see at all.
func (u *build) shown(w *endpoints.Workload) bool {
	switch {
	case w.Weight() == 0: // never to be chosen, which Envoy has no weight for
		return false
	case w.Health != endpoints.Healthy && !allowAll(u.Service):
		return false
	case w.Cluster != u.client.Cluster && u.Service.Scope != endpoints.ScopeGlobal:
		return false
	case w.Hostname != "" && len(w.Addresses) == 0 && !u.DNS: // the gateway there could not resolve it either
		return false
	}
	return u.client.wants(w.Network)
}

// rank returns how much a workload is preferred, and false if it must not be used.
func (u *build) rank(w *endpoints.Workload) (rank int, fits bool) {
	l := u.Service.LoadBalancing
	switch {
	case l == nil:
		return 0, true
	case l.Mode == endpoints.ModeFailover:
		return u.client.rank(l.Preference, w), true
	case l.Mode == endpoints.ModeStrict:
		return 0, u.client.rank(l.Preference, w) == best(l.Preference)
	}
	return 0, true
}

func allowAll(s *endpoints.Service) bool {
	return s.LoadBalancing != nil && s.LoadBalancing.HealthPolicy == endpoints.AllowAll
}

// port returns the port on which an endpoint serves the target's, or 0.
func (u *build) port(e endpoints.Endpoint) uint16 {
	i := slices.IndexFunc(e.Ports, func(p endpoints.Port) bool { return p.ServicePort == u.Port })
	if i < 0 {
		return 0
	}
	if standsIn(e.Workload) {
		return u.Port // the gateway is what is dialled
	}
	return cmp.Or(e.Ports[i].TargetPort, u.defaultPort)
}

// standsIn reports whether a workload is of a view, and stands for a gateway.
func standsIn(w *endpoints.Workload) bool {
	return w.NetworkGateway != nil && len(w.Addresses) == 0 && w.Hostname == ""
}

// addDirect adds a workload at its own address.
func (u *build) addDirect(g *group, w *endpoints.Workload, port uint16, mutual bool, weight uint64) {
	var addrs []Address
	for _, a := range w.Addresses {
		if u.client.speaks(a) {
			addrs = append(addrs, addrPort(a, port))
		}
	}
	if len(w.Addresses) == 0 && w.Hostname != "" {
		addrs = []Address{{Host: w.Hostname, Port: port}}
	}
	if len(addrs) == 0 || u.SNI && !mutual {
		return
	}
	ep := Endpoint{Address: addrs[0], Additional: addrs[1:], Health: Healthy, Metadata: workloadMetadata(w)}
	switch {
	case u.client.tunnels(w): // Envoy cannot choose among addresses behind a tunnel
		ep.Address, ep.Additional = tunnelTo("connect_originate", addrs[0], ep.Metadata), nil
	case mutual:
		ep.Metadata[metadataTransport] = map[string]any{"tlsMode": "istio"}
	}
	g.direct = append(g.direct, choice{Endpoint: ep, weight: weight})
}

// addThrough spreads a workload's weight over gateways.
func (u *build) addThrough(g *group, to []door, weight uint64) {
	total := sum(to)
	for _, d := range to {
		// Without a remainder, as a rule: see scale. The product may need 128 bits, the quotient is below weight.
		high, low := bits.Mul64(weight, d.weight)
		share, _ := bits.Div64(high, low, total)
		u.addGateway(g, Address{Host: d.host, Port: d.port(u.client.Kind)}, d.cluster, share)
	}
}

// addStandIn adds a workload that stands for a gateway.
func (u *build) addStandIn(g *group, w *endpoints.Workload, mutual bool, weight uint64) {
	ofWaypoints := w.Tunnel == endpoints.TunnelHBONE
	if ofWaypoints != (u.client.Kind == Waypoint) || !u.crosses(mutual) {
		return // it is of the view of another role, or cannot be passed through
	}
	gw := w.NetworkGateway
	to := door{host: gw.Hostname, cluster: w.Cluster, sni: gw.Port, hbone: gw.Port, weight: 1}
	var doors []door
	switch {
	case gw.Hostname != "" && u.DNS:
		doors = []door{to}
	case gw.Hostname != "":
		for _, a := range u.gateways.resolve(gw.Hostname) {
			doors = append(doors, to.at(a))
		}
	case gw.Address.IsHost():
		doors = []door{to.at(gw.Address.Addr())}
	}
	u.addThrough(g, only(doors, u.client.enters), weight)
}

// addGateway adds weight to a gateway, each address once.
func (u *build) addGateway(g *group, at Address, cluster string, weight uint64) {
	key := at.String()
	if c := g.through[key]; c != nil {
		c.weight += weight
		return
	}
	// istiod names a gateway's cluster and nothing else of it.
	meta := map[string]map[string]any{metadataIstio: {"workload": ";;;;" + cluster}}
	ep := Endpoint{Address: at, Metadata: meta} // of its health, nothing is said
	if u.client.Kind == Waypoint {
		ep.Address = tunnelTo("inner_connect_originate", at, meta)
		// The authority of both CONNECTs.
		meta[metadataIstio]["double_hbone"] = map[string]any{"hbone_target_address": joinHostPort(u.Service.Hostname, u.Port)}
	} else {
		meta[metadataTransport] = map[string]any{"tlsMode": "istio"}
	}
	g.through[key] = &choice{ep, at, weight}
}

// tunnelTo returns the address of the proxy's listener that tunnels, and notes where to.
func tunnelTo(listener string, to Address, meta map[string]map[string]any) Address {
	meta[metadataTransport] = map[string]any{"tunnel": "http"}
	meta[metadataOriginalDst] = map[string]any{"local": to.String()}
	return Address{Listener: listener, ID: to.String()}
}

// workloadMetadata describes a workload to telemetry, in Istio's short form.
func workloadMetadata(w *endpoints.Workload) map[string]map[string]any {
	revision := w.CanonicalRevision
	if revision == "latest" {
		revision = "" // the default
	}
	label := strings.Join([]string{w.WorkloadName, w.Namespace, w.CanonicalName, revision, w.Cluster}, ";")
	return map[string]map[string]any{metadataIstio: {"workload": label}}
}

// localities orders the groups: by priority, then by place.
func (u *build) localities() []Locality {
	keys := make([]groupKey, 0, len(u.groups))
	for key, g := range u.groups {
		if len(g.direct)+len(g.through) > 0 {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b groupKey) int {
		return cmp.Or(cmp.Compare(b.rank, a.rank), strings.Compare(a.String(), b.String()),
			strings.Compare(a.Region, b.Region), strings.Compare(a.Zone, b.Zone), strings.Compare(a.Subzone, b.Subzone))
	})
	divisor := u.divisor()
	var all []Locality
	priority := uint32(0)
	for i, key := range keys {
		if i > 0 && key.rank != keys[i-1].rank {
			priority++ // without a gap, whatever the ranks are
		}
		all = append(all, u.groups[key].locality(key.Locality, priority, divisor))
	}
	return all
}

// divisor returns by what to divide all weights, so that Envoy can add them up in 32 bits.
func (u *build) divisor() uint64 {
	var total, n uint64
	for _, g := range u.groups {
		for _, c := range g.choices() {
			total += c.weight
			n++
		}
	}
	if total <= math.MaxUint32 {
		return 1
	}
	return total/(math.MaxUint32-n) + 1 // each of the n may be rounded up to 1
}

// choices returns the endpoints in order: direct ones as they came, then gateways by address.
func (g *group) choices() []choice {
	all := slices.Clone(g.direct)
	first := len(all)
	for _, c := range g.through {
		all = append(all, *c)
	}
	slices.SortFunc(all[first:], func(a, b choice) int {
		return cmp.Or(strings.Compare(a.gateway.Host, b.gateway.Host), cmp.Compare(a.gateway.Port, b.gateway.Port))
	})
	return all
}

func (g *group) locality(at endpoints.Locality, priority uint32, divisor uint64) Locality {
	l := Locality{Locality: at, Priority: priority}
	for _, c := range g.choices() {
		c.Weight = uint32(max(1, c.weight/divisor))
		l.Weight += c.Weight
		l.Endpoints = append(l.Endpoints, c.Endpoint)
	}
	return l
}

func joinHostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
