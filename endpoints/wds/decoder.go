package wds

import (
	"fmt"
	"math"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/eastwest-mesh/eastwest/endpoints"
	workloadpb "github.com/eastwest-mesh/eastwest/internal/pb/workload/v1"
)

// A decoder turns messages into the model and notes the first thing that cannot be.
type decoder struct {
	resource string
	err      error
	unknown  []byte // of nested messages that are there once, encoded so that they merge into them again
	elements []byte // unknown fields of elements of lists: see unknown.go
}

func (d *decoder) fail(field, format string, args ...any) {
	if d.err == nil {
		d.err = &FieldError{Resource: d.resource, Field: field, Problem: fmt.Sprintf(format, args...)}
	}
}

func (d *decoder) unmarshal(body []byte, m proto.Message) error {
	if err := proto.Unmarshal(body, m); err != nil {
		return &FieldError{Resource: d.resource, Err: err}
	}
	return nil
}

// keep notes the unknown fields of a nested message that is there once.
func (d *decoder) keep(num protowire.Number, unknown []byte) {
	d.unknown = append(d.unknown, nested(num, unknown)...)
}

func (d *decoder) port(field string, v uint32) uint16 {
	if v > math.MaxUint16 {
		d.fail(field, "%d is not a port", v)
	}
	return uint16(v)
}

// An enum is a generated enum type.
type enum interface {
	~int32
	protoreflect.Enum
}

// known refuses values that mean something to the data path that we cannot know.
func known[T ~uint8, E enum](d *decoder, field string, v E) T {
	if v.Descriptor().Values().ByNumber(v.Number()) == nil {
		d.fail(field, "unknown value %d", v.Number())
	}
	return T(v)
}

// told keeps values that we do not know, where not knowing them does no harm.
func told[T ~uint8, E enum](d *decoder, field string, v E) T {
	if v < 0 || v > math.MaxUint8 {
		d.fail(field, "unknown value %d", int32(v))
	}
	return T(v)
}

func (d *decoder) ip(field string, b []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		d.fail(field, "%d bytes are not an IP address", len(b))
	}
	return a
}

func (d *decoder) prefix(field string, b []byte, length uint32) netip.Prefix {
	a := d.ip(field, b)
	if int64(length) > int64(a.BitLen()) {
		d.fail(field, "length %d is more than the address has", length)
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(length))
}

func (d *decoder) networkAddress(field string, m *workloadpb.NetworkAddress) endpoints.NetworkAddress {
	length := uint32(8 * len(m.GetAddress()))
	if m != nil && m.Length != nil {
		length = m.GetLength()
	}
	return endpoints.NetworkAddress{Network: m.GetNetwork(), Prefix: d.prefix(field, m.GetAddress(), length)}
}

func (d *decoder) gatewayAddress(field string, m *workloadpb.GatewayAddress) *endpoints.GatewayAddress {
	if m == nil {
		return nil
	}
	g := &endpoints.GatewayAddress{Port: d.port(field, m.GetHboneMtlsPort())}
	switch dest := m.GetDestination().(type) {
	case *workloadpb.GatewayAddress_Hostname:
		g.Namespace, g.Hostname = dest.Hostname.GetNamespace(), dest.Hostname.GetHostname()
		if g.Hostname == "" {
			d.fail(field, "the hostname is empty")
		}
	case *workloadpb.GatewayAddress_Address:
		g.Address = d.networkAddress(field, dest.Address)
		if !g.Address.IsHost() {
			d.fail(field, "not a single address")
		}
	default:
		d.fail(field, "neither a hostname nor an address")
	}
	return g
}

func (d *decoder) ports(list, field string, all []*workloadpb.Port) []endpoints.Port {
	if len(all) == 0 {
		return nil
	}
	ports := make([]endpoints.Port, len(all))
	for i, p := range all {
		ports[i] = endpoints.Port{
			ServicePort: d.port(field, p.GetServicePort()),
			TargetPort:  d.port(field, p.GetTargetPort()),
			AppProtocol: told[endpoints.AppProtocol](d, field, p.GetAppProtocol()),
		}
	}
	keepElements(d, list, all, unknownOfPort, func(e *encoder, i int) { e.port(ports[i]) })
	return ports
}

func (d *decoder) extensions(all []*workloadpb.Extension) []endpoints.Extension {
	if len(all) == 0 {
		return nil
	}
	extensions := make([]endpoints.Extension, len(all))
	for i, x := range all {
		extensions[i] = endpoints.Extension{Name: x.GetName(), TypeURL: x.GetConfig().GetTypeUrl(), Value: x.GetConfig().GetValue()}
	}
	keepElements(d, listExtensions, all, unknownOfExtension, func(e *encoder, i int) { e.extension(extensions[i]) })
	return extensions
}
