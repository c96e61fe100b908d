package eds

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/eastwest-mesh/eastwest/endpoints"
	endpointpb "github.com/eastwest-mesh/eastwest/internal/pb/endpoint/v1"
)

// Decode reads a ClusterLoadAssignment that was received under a name, which must be that of the cluster.
// Errors are of type *FieldError.
//
// Fields that are not modelled are kept in Unknown, also those of messages that are there once in a locality or
// an endpoint. Those of a further address of an endpoint are passed over, as every protobuf reader does.
// Endpoints that are only named, and ports that are names, are refused: what they stand for is elsewhere.
func Decode(name string, body []byte) (*Assignment, error) {
	d := &decoder{cluster: name}
	m := new(endpointpb.ClusterLoadAssignment)
	if err := proto.Unmarshal(body, m); err != nil {
		return nil, &FieldError{Cluster: name, Err: err}
	}
	if own := m.GetClusterName(); own != name {
		d.fail("cluster_name", "it says that its name is "+own)
	}
	a := &Assignment{Cluster: name, Unknown: unknownOf(m)}
	for _, l := range m.GetEndpoints() {
		a.Localities = append(a.Localities, d.locality(l))
	}
	if d.err != nil {
		return nil, d.err
	}
	return a, nil
}

// A decoder turns messages into plain types and notes the first thing that cannot be.
type decoder struct {
	cluster string
	err     error
}

func (d *decoder) fail(field, problem string) {
	if d.err == nil {
		d.err = &FieldError{Cluster: d.cluster, Field: field, Problem: problem}
	}
}

func (d *decoder) locality(m *endpointpb.LocalityLbEndpoints) Locality {
	l := Locality{
		Locality: endpoints.Locality{Region: m.GetLocality().GetRegion(), Zone: m.GetLocality().GetZone(), Subzone: m.GetLocality().GetSubZone()},
		Priority: m.GetPriority(),
		Weight:   d.weight(m.GetLoadBalancingWeight()),
		Unknown: joined(
			nested(1, unknownOf(m.GetLocality())),
			nested(3, unknownOf(m.GetLoadBalancingWeight())),
			unknownOf(m)),
	}
	for _, ep := range m.GetLbEndpoints() {
		l.Endpoints = append(l.Endpoints, d.endpoint(ep))
	}
	return l
}

func (d *decoder) endpoint(m *endpointpb.LbEndpoint) Endpoint {
	inner := m.GetEndpoint()
	ep := Endpoint{
		Address:  d.address(inner.GetAddress()),
		Hostname: inner.GetHostname(),
		Health:   d.health(m.GetHealthStatus()),
		Weight:   d.weight(m.GetLoadBalancingWeight()),
		Metadata: metadata(m.GetMetadata()),
		Unknown: joined(
			nested(1, joined(nested(1, unknownOfAddress(inner.GetAddress())), unknownOf(inner))),
			nested(3, unknownOf(m.GetMetadata())),
			nested(4, unknownOf(m.GetLoadBalancingWeight())),
			unknownOf(m)),
	}
	for _, more := range inner.GetAdditionalAddresses() {
		ep.Additional = append(ep.Additional, d.address(more.GetAddress()))
	}
	return ep
}

func (d *decoder) address(m *endpointpb.Address) (a Address) {
	switch t := m.GetAddress().(type) {
	case *endpointpb.Address_SocketAddress:
		a.Host = t.SocketAddress.GetAddress()
		if _, ok := t.SocketAddress.GetPortSpecifier().(*endpointpb.SocketAddress_PortValue); !ok {
			d.fail(addressField, "the port is not a number")
		}
		if port := t.SocketAddress.GetPortValue(); port > math.MaxUint16 {
			d.fail(addressField, "the port is out of range")
		} else {
			a.Port = uint16(port)
		}
	case *endpointpb.Address_Pipe:
		a.Pipe = t.Pipe.GetPath()
	case *endpointpb.Address_EnvoyInternalAddress:
		a.Listener, a.ID = t.EnvoyInternalAddress.GetServerListenerName(), t.EnvoyInternalAddress.GetEndpointId()
	}
	if a.Host == "" && a.Pipe == "" && a.Listener == "" {
		d.fail(addressField, "is not set")
	}
	return a
}

// health keeps values that we do not know: they are for the proxy to judge.
func (d *decoder) health(h endpointpb.HealthStatus) Health {
	if h < 0 || h > math.MaxUint8 {
		d.fail("lb_endpoints.health_status", "unknown value "+h.String())
	}
	return Health(h)
}

// weight refuses a weight of 0 that is set, as Envoy does.
func (d *decoder) weight(w *wrapperspb.UInt32Value) uint32 {
	if w != nil && w.GetValue() == 0 {
		d.fail("load_balancing_weight", "is 0")
	}
	return w.GetValue()
}

func metadata(m *endpointpb.Metadata) map[string]map[string]any {
	if len(m.GetFilterMetadata()) == 0 {
		return nil
	}
	filters := make(map[string]map[string]any, len(m.GetFilterMetadata()))
	for filter, s := range m.GetFilterMetadata() {
		filters[filter] = s.AsMap()
	}
	return filters
}

func unknownOf(m proto.Message) []byte { return m.ProtoReflect().GetUnknown() }

// unknownOfAddress returns what is unknown of an address and of the form that it has.
func unknownOfAddress(m *endpointpb.Address) []byte {
	return joined(
		nested(1, unknownOf(m.GetSocketAddress())),
		nested(2, unknownOf(m.GetPipe())),
		nested(3, unknownOf(m.GetEnvoyInternalAddress())),
		unknownOf(m))
}

// nested encodes unknown fields so that they merge into the message of that field again.
func nested(num protowire.Number, unknown []byte) []byte {
	if len(unknown) == 0 {
		return nil
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), unknown)
}

func joined(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
