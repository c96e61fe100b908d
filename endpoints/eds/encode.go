package eds

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/eastwest-mesh/eastwest/internal/protoenc"
)

// Encode returns the ClusterLoadAssignment of a. Equal assignments give equal bytes. Errors are of type
// *FieldError.
func Encode(a *Assignment) ([]byte, error) {
	e := &encoder{Encoder: protoenc.Get(), cluster: a.Cluster}
	e.string(1, "cluster_name", a.Cluster)
	for i := range a.Localities {
		e.locality(&a.Localities[i])
	}
	e.unknown(a.Unknown)
	body := e.Done()
	if e.err != nil {
		return nil, e.err
	}
	return body, nil
}

// An encoder writes protobuf by hand, and notes the first thing that cannot be written. Fields are in the order of
// their numbers, and those of a oneof last, as the Go protobuf library does, so that our bytes are those of istiod.
// Tests hold it to the library.
type encoder struct {
	*protoenc.Encoder
	cluster string
	err     error
}

func (e *encoder) fail(field, problem string) {
	if e.err == nil {
		e.err = &FieldError{Cluster: e.cluster, Field: field, Problem: problem}
	}
}

// element writes a string even if it is empty.
func (e *encoder) element(num protowire.Number, field, s string) {
	if !utf8.ValidString(s) {
		e.fail(field, "not UTF-8")
	}
	e.Element(num, s)
}

func (e *encoder) string(num protowire.Number, field, s string) {
	if s != "" {
		e.element(num, field, s)
	}
}

// unknown ends a message: fields of messages that are there twice merge.
func (e *encoder) unknown(fields []byte) { e.Buf = append(e.Buf, fields...) }

func (e *encoder) locality(l *Locality) {
	start := e.Begin(2)
	if l.Region != "" || l.Zone != "" || l.Subzone != "" {
		place := e.Begin(1)
		e.string(1, "locality.region", l.Region)
		e.string(2, "locality.zone", l.Zone)
		e.string(3, "locality.sub_zone", l.Subzone)
		e.End(place)
	}
	for i := range l.Endpoints {
		e.endpoint(&l.Endpoints[i])
	}
	e.weight(3, l.Weight)
	e.Uint(5, uint64(l.Priority))
	e.unknown(l.Unknown)
	e.End(start)
}

func (e *encoder) endpoint(ep *Endpoint) {
	start := e.Begin(2)
	e.Uint(2, uint64(ep.Health))
	e.metadata(ep.Metadata)
	e.weight(4, ep.Weight)
	inner := e.Begin(1)
	e.address(ep.Address)
	e.string(3, "lb_endpoints.endpoint.hostname", ep.Hostname)
	for _, a := range ep.Additional {
		more := e.Begin(4)
		e.address(a)
		e.End(more)
	}
	e.End(inner)
	e.unknown(ep.Unknown)
	e.End(start)
}

const addressField = "lb_endpoints.endpoint.address"

func (e *encoder) address(a Address) {
	start := e.Begin(1)
	forms := 0
	if a.Host != "" {
		forms++
		socket := e.Begin(1)
		e.string(2, addressField, a.Host)
		e.Tag(3, protowire.VarintType) // a port of 0 must be said
		e.Varint(uint64(a.Port))
		e.End(socket)
	}
	if a.Pipe != "" {
		forms++
		pipe := e.Begin(2)
		e.string(1, addressField, a.Pipe)
		e.End(pipe)
	}
	if a.Listener != "" {
		forms++
		internal := e.Begin(3)
		e.string(2, addressField, a.ID)
		e.string(1, addressField, a.Listener)
		e.End(internal)
	}
	if forms != 1 {
		e.fail(addressField, "must be one of a host, a pipe and an internal listener")
	}
	e.End(start)
}

// weight writes a wrapped number: 0 is none.
func (e *encoder) weight(num protowire.Number, w uint32) {
	if w != 0 {
		start := e.Begin(num)
		e.Uint(1, uint64(w))
		e.End(start)
	}
}

func (e *encoder) metadata(filters map[string]map[string]any) {
	if len(filters) == 0 {
		return
	}
	start := e.Begin(3)
	for _, filter := range slices.Sorted(maps.Keys(filters)) {
		entry := e.Begin(1)
		field := "lb_endpoints.metadata[" + filter + "]"
		e.element(1, field, filter)
		e.fields(2, field, filters[filter])
		e.End(entry)
	}
	e.End(start)
}

// fields writes a google.protobuf.Struct.
func (e *encoder) fields(num protowire.Number, field string, values map[string]any) {
	start := e.Begin(num)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		entry := e.Begin(1)
		e.element(1, field, key)
		e.value(2, field, values[key])
		e.End(entry)
	}
	e.End(start)
}

// value writes a google.protobuf.Value. As it is a oneof, defaults are written, too.
func (e *encoder) value(num protowire.Number, field string, v any) {
	start := e.Begin(num)
	switch v := v.(type) {
	case nil:
		e.Tag(1, protowire.VarintType)
		e.Varint(0)
	case float64:
		e.Fixed64(2, math.Float64bits(v))
	case string:
		e.element(3, field, v)
	case bool:
		e.Tag(4, protowire.VarintType)
		e.Varint(protowire.EncodeBool(v))
	case map[string]any:
		e.fields(5, field, v)
	case []any:
		list := e.Begin(6)
		for _, element := range v {
			e.value(1, field, element)
		}
		e.End(list)
	default:
		e.fail(field, fmt.Sprintf("a value of type %T", v))
	}
	e.End(start)
}
