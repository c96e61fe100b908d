package wds

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"google.golang.org/protobuf/encoding/protowire"
)

// EncodeAddress returns the istio.workload.Address of a resource, for AddressTypeURL. Equal resources give
// equal bytes. Scope and Created of a service are not on the wire.
func EncodeAddress(r endpoints.Resource) ([]byte, error) {
	e := newEncoder()
	switch {
	case r.Service != nil && r.Workload != nil:
		e.fail("", "both a workload and a service")
	case r.Workload != nil:
		start := e.Begin(1)
		e.workload(r.Workload)
		e.End(start)
	case r.Service != nil:
		start := e.Begin(2)
		e.service(r.Service)
		e.End(start)
	default:
		e.fail("", "neither a workload nor a service")
	}
	return e.result(r.Name)
}

// EncodeWorkload returns the istio.workload.Workload of a workload, for WorkloadTypeURL.
func EncodeWorkload(w *endpoints.Workload) ([]byte, error) {
	e := newEncoder()
	e.workload(w)
	return e.result(func() string { return w.UID })
}

func (e *encoder) service(s *endpoints.Service) {
	unknown := e.recall(s.Unknown)
	e.string(1, "service.name", s.Name)
	e.string(2, "service.namespace", s.Namespace)
	e.string(3, "service.hostname", s.Hostname)
	for _, a := range s.Addresses {
		start := e.Begin(4)
		e.address(a)
		e.endElement(listAddresses, start)
	}
	e.ports(5, listPorts, s.Ports)
	for _, name := range s.SubjectAltNames {
		e.element(6, "service.subject_alt_names", name)
	}
	e.gatewayAddress(7, "service.waypoint", s.Waypoint)
	e.loadBalancing(8, s.LoadBalancing)
	e.Uint(9, uint64(s.IPFamilies))
	e.extensions(10, s.Extensions)
	e.bool(11, s.Canonical)
	e.bool(12, s.IngressUseWaypoint)
	for i := range s.WeightedWaypoints {
		start := e.Begin(13)
		e.weightedWaypoint(&s.WeightedWaypoints[i])
		e.endElement(listWeightedWaypoints, start)
	}
	e.Uint(14, uint64(s.Visibility))
	e.Buf = append(e.Buf, unknown...)
}

func (e *encoder) weightedWaypoint(w *endpoints.WeightedWaypoint) {
	e.gatewayAddress(1, "service.weighted_waypoints", &w.Destination)
	e.Uint(2, uint64(w.Weight))
}

func (e *encoder) workload(w *endpoints.Workload) {
	unknown := e.recall(w.Unknown)
	e.string(1, "workload.name", w.Name)
	e.string(2, "workload.namespace", w.Namespace)
	for _, a := range w.Addresses {
		e.ip(3, "workload.addresses", a)
	}
	e.string(4, "workload.network", w.Network)
	e.Uint(5, uint64(w.Tunnel))
	e.string(6, "workload.trust_domain", w.TrustDomain)
	e.string(7, "workload.service_account", w.ServiceAccount)
	e.gatewayAddress(8, "workload.waypoint", w.Waypoint)
	e.string(9, "workload.node", w.Node)
	e.string(10, "workload.canonical_name", w.CanonicalName)
	e.string(11, "workload.canonical_revision", w.CanonicalRevision)
	e.Uint(12, uint64(w.Type))
	e.string(13, "workload.workload_name", w.WorkloadName)
	e.bool(14, w.NativeTunnel)
	for _, p := range w.AuthorizationPolicies {
		e.element(16, "workload.authorization_policies", p)
	}
	e.Uint(17, uint64(w.Health))
	e.string(18, "workload.cluster_id", w.Cluster)
	e.gatewayAddress(19, "workload.network_gateway", w.NetworkGateway)
	e.string(20, "workload.uid", w.UID)
	e.string(21, "workload.hostname", w.Hostname)
	e.services(22, w.Services)
	e.applicationTunnel(23, w.ApplicationTunnel)
	e.locality(24, w.Locality)
	e.Uint(25, uint64(w.NetworkMode))
	e.extensions(26, w.Extensions)
	if w.Capacity != nil {
		start := e.Begin(27)
		e.Uint(1, uint64(*w.Capacity))
		e.End(start)
	}
	e.Buf = append(e.Buf, unknown...)
}

// services writes a map from service to ports.
func (e *encoder) services(num protowire.Number, services []endpoints.ServicePorts) {
	byName := func(a, b endpoints.ServicePorts) int { return strings.Compare(a.Service, b.Service) }
	if !slices.IsSortedFunc(services, byName) {
		services = slices.Clone(services)
		slices.SortFunc(services, byName)
	}
	for _, s := range services {
		entry := e.Begin(num)
		e.element(1, "workload.services", s.Service)
		list := e.Begin(2)
		e.portsOf(s)
		e.End(list)
		e.End(entry)
	}
}

// portsOf writes the ports of a workload's service.
func (e *encoder) portsOf(s endpoints.ServicePorts) {
	if len(e.strange) == 0 {
		e.ports(1, "", s.Ports)
		return
	}
	e.ports(1, portsOf(s.Service), s.Ports)
	e.append(elementKey(listServices, []byte(s.Service)))
}

func (e *encoder) ports(num protowire.Number, list string, ports []endpoints.Port) {
	for _, p := range ports {
		start := e.Begin(num)
		e.port(p)
		e.endElement(list, start)
	}
}

func (e *encoder) port(p endpoints.Port) {
	e.Uint(1, uint64(p.ServicePort))
	e.Uint(2, uint64(p.TargetPort))
	e.Uint(3, uint64(p.AppProtocol))
}

func (e *encoder) ip(num protowire.Number, field string, a netip.Addr) {
	switch {
	case a.Is4():
		b := a.As4()
		e.Bytes(num, b[:])
	case a.Is6():
		b := a.As16()
		e.Bytes(num, b[:])
	default:
		e.fail(field, "invalid address")
	}
}

func (e *encoder) networkAddress(num protowire.Number, a endpoints.NetworkAddress) {
	start := e.Begin(num)
	e.address(a)
	e.End(start)
}

func (e *encoder) address(a endpoints.NetworkAddress) {
	e.string(1, "network", a.Network)
	e.ip(2, "address", a.Prefix.Addr())
	if a.Prefix.IsValid() && !a.IsHost() {
		e.Tag(3, protowire.VarintType) // a length of 0 must be said
		e.Varint(uint64(a.Prefix.Bits()))
	}
}

// gatewayAddress writes the oneof last, as the Go protobuf library does, so that our bytes are those of istiod.
func (e *encoder) gatewayAddress(num protowire.Number, field string, g *endpoints.GatewayAddress) {
	if g == nil {
		return
	}
	start := e.Begin(num)
	e.Uint(3, uint64(g.Port))
	if g.Hostname != "" {
		dest := e.Begin(1)
		e.string(1, field, g.Namespace)
		e.string(2, field, g.Hostname)
		e.End(dest)
	} else if g.Address.IsHost() {
		e.networkAddress(2, g.Address)
	} else {
		e.fail(field, "neither a hostname nor a single address")
	}
	e.End(start)
}

func (e *encoder) loadBalancing(num protowire.Number, l *endpoints.LoadBalancing) {
	if l == nil {
		return
	}
	start := e.Begin(num)
	packed(e, 1, l.Preference)
	e.Uint(2, uint64(l.Mode))
	e.Uint(3, uint64(l.HealthPolicy))
	e.End(start)
}

func (e *encoder) applicationTunnel(num protowire.Number, t *endpoints.ApplicationTunnel) {
	if t == nil {
		return
	}
	start := e.Begin(num)
	e.Uint(1, uint64(t.Protocol))
	e.Uint(2, uint64(t.Port))
	e.End(start)
}

func (e *encoder) locality(num protowire.Number, l endpoints.Locality) {
	if l == (endpoints.Locality{}) {
		return
	}
	start := e.Begin(num)
	e.string(1, "workload.locality.region", l.Region)
	e.string(2, "workload.locality.zone", l.Zone)
	e.string(3, "workload.locality.subzone", l.Subzone)
	e.End(start)
}

func (e *encoder) extensions(num protowire.Number, extensions []endpoints.Extension) {
	for _, x := range extensions {
		start := e.Begin(num)
		e.extension(x)
		e.endElement(listExtensions, start)
	}
}

func (e *encoder) extension(x endpoints.Extension) {
	e.string(1, "extensions.name", x.Name)
	if x.TypeURL != "" || len(x.Value) > 0 {
		config := e.Begin(2)
		e.string(1, "extensions.config", x.TypeURL)
		if len(x.Value) > 0 {
			e.Bytes(2, x.Value)
		}
		e.End(config)
	}
}
