package istiod

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/eds"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
)

// An envoy is what the endpoints of a proxy's clusters depend on, besides its
// view of the mesh.
type envoy struct {
	kind     eds.Kind
	gateway  bool // it also has clusters to which it passes TLS through by SNI
	hbone    bool
	node     string
	locality endpoints.Locality
	families endpoints.IPFamilies
	networks string // that it wants to see, separated by commas
}

// envoyOf reads what a node says about itself, and how it sees the mesh. It is
// false for what is no Envoy.
func envoyOf(n xds.Node) (e envoy, role endpoints.Role, ok bool) {
	text := func(key string) string { s, _ := n.Metadata[key].(string); return s }
	e = envoy{
		hbone:    text("ENABLE_HBONE") == "true",
		node:     text("NODE_NAME"),
		locality: endpoints.Locality(n.Locality),
		families: familiesOf(text("INSTANCE_IPS")),
		networks: text("REQUESTED_NETWORK_VIEW"),
	}
	switch kind, _, _ := strings.Cut(n.ID, "~"); kind {
	case "sidecar":
		return e, endpoints.Sidecar, true
	case "router":
		e.gateway = true
		return e, endpoints.Sidecar, true
	case "waypoint":
		e.kind = eds.Waypoint
		return e, endpoints.NodeProxy, true
	}
	return envoy{}, 0, false
}

// familiesOf returns the IP families of a list of addresses; all of them if it
// has none.
func familiesOf(addresses string) endpoints.IPFamilies {
	v4, v6 := false, false
	for text := range strings.SplitSeq(addresses, ",") {
		if a, err := netip.ParseAddr(strings.TrimSpace(text)); err == nil {
			v4, v6 = v4 || a.Unmap().Is4(), v6 || a.Unmap().Is6()
		}
	}
	return endpoints.IPFamiliesOf(v4, v6)
}

// client returns the proxy as package eds knows it.
func (e envoy) client(as endpoints.Client) eds.Client {
	c := eds.Client{
		Kind: e.kind, Network: as.Network, Cluster: as.Cluster, Node: e.node, Locality: e.locality, HBONE: e.hbone, Families: e.families,
	}
	if e.networks != "" {
		c.Networks = strings.Split(e.networks, ",")
	}
	return c
}

// assignments are the endpoints of all clusters of an audience.
type assignments struct {
	to      audience
	logger  *slog.Logger
	resolve func(string) []netip.Addr
	index   *endpoints.Index // of the view
}

// update takes in a change of the view, and returns what that changes; with all
// set, every assignment there is.
func (a *assignments) update(client endpoints.Client, d endpoints.Delta, mutual map[string]bool, all bool) (upserts []xds.Resource, removals []string) {
	before := a.index
	a.index = before.Apply(d)
	hosts := changedHosts(before, d)
	if all {
		for s := range a.index.Services() {
			hosts[s.Hostname] = true
		}
	}
	builder := eds.NewGateways(nil, a.resolve).For(a.to.envoy.client(client)) // the view has the gateways
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		there := map[string]bool{}
		for _, t := range a.targets(a.index, host, mutual) {
			there[clusterName(t)] = true
			if r, err := encodeAssignment(builder.Build(t)); err == nil {
				upserts = append(upserts, r)
			} else { // what it was before is better than nothing
				a.logger.Error("endpoints cannot be sent", "error", err)
			}
		}
		for _, t := range a.targets(before, host, nil) {
			if name := clusterName(t); !there[name] {
				removals = append(removals, name)
			}
		}
	}
	return upserts, removals
}

// targets are the clusters of what a client means by a hostname.
func (a *assignments) targets(x *endpoints.Index, host string, mutual map[string]bool) []eds.Target {
	s := x.ServiceByHostname(host, a.to.namespace)
	if s == nil {
		return nil
	}
	var all []eds.Target
	for _, p := range s.Ports {
		t := eds.Target{Service: s.Service, Port: p.ServicePort, Endpoints: s.Endpoints(), MutualTLS: takesMutualTLS(mutual)}
		all = append(all, t)
		if a.to.envoy.gateway {
			t.SNI = true
			all = append(all, t)
		}
	}
	return all
}

// takesMutualTLS believes the label that the injector gives to pods with a
// sidecar. What stands for a gateway takes nothing else.
func takesMutualTLS(mutual map[string]bool) func(*endpoints.Workload, uint16) bool {
	return func(w *endpoints.Workload, _ uint16) bool {
		return mutual[w.UID] || w.NetworkGateway != nil && len(w.Addresses) == 0
	}
}

func clusterName(t eds.Target) string {
	if t.SNI {
		return eds.SNIClusterName(t.Service.Hostname, t.Port, t.Subset)
	}
	return eds.ClusterName(t.Service.Hostname, t.Port, t.Subset)
}

func encodeAssignment(a *eds.Assignment) (xds.Resource, error) {
	body, err := eds.Encode(a)
	return xds.Resource{Name: a.Cluster, Version: wds.Version(body), Body: body}, err
}

// changedHosts returns the hostnames of the services that a change is about, or
// about what backs them.
func changedHosts(before *endpoints.Index, d endpoints.Delta) map[string]bool {
	hosts := map[string]bool{}
	note := func(r endpoints.Resource) {
		if r.Service != nil {
			hosts[r.Service.Hostname] = true
		}
		if r.Workload != nil {
			for _, s := range r.Workload.Services {
				_, host, _ := strings.Cut(s.Service, "/")
				hosts[host] = true
			}
		}
	}
	was := func(name string) {
		note(endpoints.Resource{Workload: before.Workload(name)})
		if s := before.Service(name); s != nil {
			note(endpoints.Resource{Service: s.Service})
		}
	}
	for _, name := range d.Removed {
		was(name)
	}
	for _, r := range d.Upserts {
		was(r.Name())
		note(r)
	}
	return hosts
}
