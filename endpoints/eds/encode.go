package eds

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	endpointpb "github.com/eastwest-mesh/eastwest/internal/pb/endpoint/v1"
)

// Encode returns the ClusterLoadAssignment of a. Equal assignments give equal bytes. Errors are of type
// *FieldError.
func Encode(a *Assignment) ([]byte, error) {
	e := &encoder{cluster: a.Cluster}
	m := &endpointpb.ClusterLoadAssignment{ClusterName: a.Cluster, Endpoints: make([]*endpointpb.LocalityLbEndpoints, len(a.Localities))}
	for i := range a.Localities {
		m.Endpoints[i] = e.locality(&a.Localities[i])
	}
	if e.err != nil {
		return nil, e.err
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, &FieldError{Cluster: a.Cluster, Err: err}
	}
	// What is unknown comes last at each level: message fields that are there twice merge (protobuf's encoding).
	return append(body, a.Unknown...), nil
}

// An encoder makes messages and notes the first thing that cannot be.
type encoder struct {
	cluster string
	err     error
}

func (e *encoder) fail(field, problem string) {
	if e.err == nil {
		e.err = &FieldError{Cluster: e.cluster, Field: field, Problem: problem}
	}
}

func (e *encoder) locality(l *Locality) *endpointpb.LocalityLbEndpoints {
	m := &endpointpb.LocalityLbEndpoints{
		LoadBalancingWeight: weight(l.Weight),
		Priority:            l.Priority,
		LbEndpoints:         make([]*endpointpb.LbEndpoint, len(l.Endpoints)),
	}
	if l.Region != "" || l.Zone != "" || l.Subzone != "" {
		m.Locality = &endpointpb.Locality{Region: l.Region, Zone: l.Zone, SubZone: l.Subzone}
	}
	for i := range l.Endpoints {
		m.LbEndpoints[i] = e.endpoint(&l.Endpoints[i])
	}
	m.ProtoReflect().SetUnknown(l.Unknown)
	return m
}

func (e *encoder) endpoint(ep *Endpoint) *endpointpb.LbEndpoint {
	inner := &endpointpb.Endpoint{Address: e.address(ep.Address), Hostname: ep.Hostname}
	for _, a := range ep.Additional {
		inner.AdditionalAddresses = append(inner.AdditionalAddresses, &endpointpb.Endpoint_AdditionalAddress{Address: e.address(a)})
	}
	m := &endpointpb.LbEndpoint{
		HostIdentifier:      &endpointpb.LbEndpoint_Endpoint{Endpoint: inner},
		HealthStatus:        endpointpb.HealthStatus(ep.Health),
		Metadata:            e.metadata(ep.Metadata),
		LoadBalancingWeight: weight(ep.Weight),
	}
	m.ProtoReflect().SetUnknown(ep.Unknown)
	return m
}

const addressField = "lb_endpoints.endpoint.address"

func (e *encoder) address(a Address) *endpointpb.Address {
	forms := 0
	m := new(endpointpb.Address)
	if a.Host != "" {
		forms++
		m.Address = &endpointpb.Address_SocketAddress{SocketAddress: &endpointpb.SocketAddress{
			Address: a.Host, PortSpecifier: &endpointpb.SocketAddress_PortValue{PortValue: uint32(a.Port)},
		}}
	}
	if a.Pipe != "" {
		forms++
		m.Address = &endpointpb.Address_Pipe{Pipe: &endpointpb.Pipe{Path: a.Pipe}}
	}
	if a.Listener != "" {
		forms++
		m.Address = &endpointpb.Address_EnvoyInternalAddress{EnvoyInternalAddress: &endpointpb.EnvoyInternalAddress{
			AddressNameSpecifier: &endpointpb.EnvoyInternalAddress_ServerListenerName{ServerListenerName: a.Listener},
			EndpointId:           a.ID,
		}}
	}
	if forms != 1 {
		e.fail(addressField, "must be one of a host, a pipe and an internal listener")
	}
	return m
}

func (e *encoder) metadata(filters map[string]map[string]any) *endpointpb.Metadata {
	if len(filters) == 0 {
		return nil
	}
	m := &endpointpb.Metadata{FilterMetadata: make(map[string]*structpb.Struct, len(filters))}
	for filter, values := range filters {
		s, err := structpb.NewStruct(values)
		if err != nil {
			e.fail("lb_endpoints.metadata["+filter+"]", err.Error())
			continue
		}
		m.FilterMetadata[filter] = s
	}
	return m
}

func weight(w uint32) *wrapperspb.UInt32Value {
	if w == 0 {
		return nil
	}
	return wrapperspb.UInt32(w)
}
