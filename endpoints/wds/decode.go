package wds

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/eastwest-mesh/eastwest/endpoints"
	workloadpb "github.com/eastwest-mesh/eastwest/internal/pb/workload/v1"
)

// DecodeAddress reads an istio.workload.Address that was received under a name, which must be that of the
// resource. Errors are of type *FieldError.
//
// Unknown fields of the resource are kept in Unknown, and so are those of nested messages, also of elements of lists
// and maps: they are written with an element again for as long as what is known of it stays the same. Unknown
// values of enums are kept where they do no harm (app protocol, workload type, IP families, routing
// preference); where the data path depends on them, the resource is refused. So is one of tunnel protocol
// LEGACY_ISTIO_MTLS, as by ztunnel: nobody here could speak it.
func DecodeAddress(name string, body []byte) (endpoints.Resource, error) {
	d := &decoder{resource: name}
	m := new(workloadpb.Address)
	if err := d.unmarshal(body, m); err != nil {
		return endpoints.Resource{}, err
	}
	var r endpoints.Resource
	switch t := m.GetType().(type) {
	case *workloadpb.Address_Workload:
		r.Workload = d.workload(t.Workload)
	case *workloadpb.Address_Service:
		r.Service = d.service(t.Service)
	default:
		d.fail("", "neither a workload nor a service")
	}
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		d.fail("", "something besides a workload or a service")
	}
	d.named(name, r.Name(), nameParts(r)...)
	if d.err != nil {
		return endpoints.Resource{}, d.err
	}
	return r, nil
}

// DecodeWorkload reads an istio.workload.Workload, as DecodeAddress does.
func DecodeWorkload(name string, body []byte) (*endpoints.Workload, error) {
	d := &decoder{resource: name}
	m := new(workloadpb.Workload)
	if err := d.unmarshal(body, m); err != nil {
		return nil, err
	}
	w := d.workload(m)
	d.named(name, w.UID, w.UID)
	if d.err != nil {
		return nil, d.err
	}
	return w, nil
}

// named keeps a resource from passing for another, or for none.
func (d *decoder) named(name, own string, parts ...string) {
	if name != own {
		d.fail("", "it says that its name is %q", own)
	}
	if slices.Contains(parts, "") {
		d.fail("", "it has no full name")
	}
}

// nameParts returns what must be there in a resource's name. A UID may begin with a slash, behind the network
// without a name.
func nameParts(r endpoints.Resource) []string {
	switch {
	case r.Service != nil:
		return []string{r.Service.Namespace, r.Service.Hostname}
	case r.Workload != nil:
		return []string{r.Workload.UID}
	}
	return nil
}

func (d *decoder) service(m *workloadpb.Service) *endpoints.Service {
	s := &endpoints.Service{
		Name:               m.GetName(),
		Namespace:          m.GetNamespace(),
		Hostname:           m.GetHostname(),
		Ports:              d.ports(listPorts, "service.ports", m.GetPorts()),
		IPFamilies:         told[endpoints.IPFamilies](d, "service.ip_families", m.GetIpFamilies()),
		SubjectAltNames:    m.GetSubjectAltNames(),
		LoadBalancing:      d.loadBalancing(m.GetLoadBalancing()),
		Waypoint:           d.gatewayAddress("service.waypoint", m.GetWaypoint()),
		IngressUseWaypoint: m.GetIngressUseWaypoint(),
		Canonical:          m.GetCanonical(),
		Visibility:         known[endpoints.Visibility](d, "service.visibility", m.GetVisibility()),
		Extensions:         d.extensions(m.GetExtensions()),
	}
	for _, a := range m.GetAddresses() {
		s.Addresses = append(s.Addresses, d.networkAddress("service.addresses", a))
	}
	keepElements(d, listAddresses, m.GetAddresses(), unknownOfAddress, func(e *encoder, i int) { e.address(s.Addresses[i]) })
	for _, w := range m.GetWeightedWaypoints() {
		dest := d.gatewayAddress("service.weighted_waypoints", w.GetDestination())
		if dest == nil {
			d.fail("service.weighted_waypoints", "one has no destination")
			return s
		}
		s.WeightedWaypoints = append(s.WeightedWaypoints, endpoints.WeightedWaypoint{Destination: *dest, Weight: w.GetWeight()})
	}
	keepElements(d, listWeightedWaypoints, m.GetWeightedWaypoints(), unknownOfWeighted, func(e *encoder, i int) { e.weightedWaypoint(&s.WeightedWaypoints[i]) })
	d.keep(7, unknownOfGateway(m.GetWaypoint()))
	d.keep(8, unknownOf(m.GetLoadBalancing()))
	s.Unknown = d.rest(m)
	return s
}

func (d *decoder) loadBalancing(m *workloadpb.LoadBalancing) *endpoints.LoadBalancing {
	if m == nil {
		return nil
	}
	l := &endpoints.LoadBalancing{
		Mode:         known[endpoints.BalanceMode](d, "service.load_balancing.mode", m.GetMode()),
		HealthPolicy: known[endpoints.HealthPolicy](d, "service.load_balancing.health_policy", m.GetHealthPolicy()),
	}
	for _, p := range m.GetRoutingPreference() {
		l.Preference = append(l.Preference, told[endpoints.RoutingScope](d, "service.load_balancing.routing_preference", p))
	}
	return l
}

func (d *decoder) workload(m *workloadpb.Workload) *endpoints.Workload {
	w := &endpoints.Workload{
		UID:                   m.GetUid(),
		Name:                  m.GetName(),
		Namespace:             m.GetNamespace(),
		Cluster:               m.GetClusterId(),
		Network:               m.GetNetwork(),
		Addresses:             d.addresses(m.GetAddresses()),
		Hostname:              m.GetHostname(),
		Services:              d.services(m.GetServices()),
		TrustDomain:           m.GetTrustDomain(),
		ServiceAccount:        m.GetServiceAccount(),
		Tunnel:                d.tunnel(m.GetTunnelProtocol()),
		NativeTunnel:          m.GetNativeTunnel(),
		NetworkMode:           known[endpoints.NetworkMode](d, "workload.network_mode", m.GetNetworkMode()),
		ApplicationTunnel:     d.applicationTunnel(m.GetApplicationTunnel()),
		Waypoint:              d.gatewayAddress("workload.waypoint", m.GetWaypoint()),
		NetworkGateway:        d.gatewayAddress("workload.network_gateway", m.GetNetworkGateway()),
		Health:                known[endpoints.Health](d, "workload.status", m.GetStatus()),
		Locality:              locality(m.GetLocality()),
		Node:                  m.GetNode(),
		Type:                  told[endpoints.WorkloadType](d, "workload.workload_type", m.GetWorkloadType()),
		WorkloadName:          m.GetWorkloadName(),
		CanonicalName:         m.GetCanonicalName(),
		CanonicalRevision:     m.GetCanonicalRevision(),
		AuthorizationPolicies: m.GetAuthorizationPolicies(),
		Extensions:            d.extensions(m.GetExtensions()),
	}
	if c := m.GetCapacity(); c != nil {
		w.Capacity = new(c.GetValue())
	}
	d.keep(8, unknownOfGateway(m.GetWaypoint()))
	d.keep(19, unknownOfGateway(m.GetNetworkGateway()))
	d.keep(23, unknownOf(m.GetApplicationTunnel()))
	d.keep(24, unknownOf(m.GetLocality()))
	d.keep(27, unknownOf(m.GetCapacity()))
	w.Unknown = d.rest(m)
	return w
}

func (d *decoder) tunnel(p workloadpb.TunnelProtocol) endpoints.TunnelProtocol {
	if p == workloadpb.TunnelProtocol_LEGACY_ISTIO_MTLS {
		d.fail("workload.tunnel_protocol", "LEGACY_ISTIO_MTLS is not supported")
	}
	return known[endpoints.TunnelProtocol](d, "workload.tunnel_protocol", p)
}

func (d *decoder) addresses(all [][]byte) []netip.Addr {
	if len(all) == 0 {
		return nil
	}
	addrs := make([]netip.Addr, len(all))
	for i, b := range all {
		addrs[i] = d.ip("workload.addresses", b)
	}
	return addrs
}

func (d *decoder) services(all map[string]*workloadpb.PortList) []endpoints.ServicePorts {
	if len(all) == 0 {
		return nil
	}
	services := make([]endpoints.ServicePorts, 0, len(all))
	for _, key := range slices.Sorted(maps.Keys(all)) {
		lists := []*workloadpb.PortList{all[key]}
		services = append(services, endpoints.ServicePorts{Service: key, Ports: d.ports(portsOf(key), "workload.services", all[key].GetPorts())})
		keepElements(d, listServices, lists, unknownOfList, func(e *encoder, _ int) { e.Buf = append(e.Buf, key...) })
	}
	return services
}

func (d *decoder) applicationTunnel(m *workloadpb.ApplicationTunnel) *endpoints.ApplicationTunnel {
	if m == nil {
		return nil
	}
	return &endpoints.ApplicationTunnel{
		Protocol: known[endpoints.AppTunnelProtocol](d, "workload.application_tunnel.protocol", m.GetProtocol()),
		Port:     d.port("workload.application_tunnel.port", m.GetPort()),
	}
}

func locality(m *workloadpb.Locality) endpoints.Locality {
	return endpoints.Locality{Region: m.GetRegion(), Zone: m.GetZone(), Subzone: m.GetSubzone()}
}
