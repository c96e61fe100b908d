package wds

import (
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	workloadpb "github.com/eastwest-mesh/eastwest/internal/pb/workload/v1"
)

// Unknown fields of a message that is there once are kept as a field that merges into the message when it is read
// again. An element of a list cannot be merged into. What is unknown of elements is kept by what is known of them,
// so that it follows an element when others come and go: in a field in front of the rest, whose number no peer can
// send, as triples of the element's key, which of the elements with that key it is, and its unknown fields.
const elementsField = protowire.Number(0)

// A strangeElement is an element of a list that has unknown fields.
type strangeElement struct {
	key     string
	nth     uint64 // among the elements with that key
	unknown []byte
}

// elementKey returns the key of an element: where its list is, and what is known of it.
func elementKey(list string, known []byte) string { return list + "\x00" + string(known) }

// keepElements keeps the unknown fields of the elements of a list, which write encodes without them.
func keepElements[M any](d *decoder, list string, all []M, unknown func(M) []byte, write func(e *encoder, i int)) {
	if !slices.ContainsFunc(all, func(m M) bool { return len(unknown(m)) > 0 }) {
		return
	}
	seen := make(map[string]uint64)
	for i, m := range all {
		e := newEncoder()
		write(&e, i)
		key := elementKey(list, e.Done())
		if u := unknown(m); len(u) > 0 {
			d.elements = protowire.AppendString(d.elements, key)
			d.elements = protowire.AppendVarint(d.elements, seen[key])
			d.elements = protowire.AppendBytes(d.elements, u)
		}
		seen[key]++
	}
}

// rest returns all that is unknown of a resource.
func (d *decoder) rest(m proto.Message) []byte {
	var all []byte
	if len(d.elements) > 0 {
		all = protowire.AppendTag(all, elementsField, protowire.BytesType)
		all = protowire.AppendBytes(all, d.elements)
	}
	return append(append(all, d.unknown...), unknownOf(m)...)
}

// recall takes what was kept of elements out of what is unknown of a resource, and returns the rest.
func (e *encoder) recall(unknown []byte) []byte {
	tag := protowire.AppendTag(nil, elementsField, protowire.BytesType)
	if len(unknown) == 0 || unknown[0] != tag[0] {
		return unknown
	}
	kept, n := protowire.ConsumeBytes(unknown[len(tag):])
	if n < 0 {
		e.fail("", "what is unknown of it was changed")
		return nil
	}
	for len(kept) > 0 {
		key, keyLen := protowire.ConsumeString(kept)
		nth, nthLen := protowire.ConsumeVarint(kept[max(keyLen, 0):])
		u, uLen := protowire.ConsumeBytes(kept[max(keyLen, 0)+max(nthLen, 0):])
		if keyLen < 0 || nthLen < 0 || uLen < 0 {
			e.fail("", "what is unknown of it was changed")
			return nil
		}
		e.strange = append(e.strange, strangeElement{key, nth, u})
		kept = kept[keyLen+nthLen+uLen:]
	}
	e.seen = make(map[string]uint64)
	return unknown[len(tag)+n:]
}

// endElement ends an element of a list with what is unknown of it.
func (e *encoder) endElement(list string, start int) {
	if len(e.strange) > 0 {
		e.append(elementKey(list, e.Buf[start:]))
	}
	e.End(start)
}

// append appends what is unknown of the next element with a key.
func (e *encoder) append(key string) {
	nth := e.seen[key]
	e.seen[key]++
	for _, s := range e.strange {
		if s.key == key && s.nth == nth {
			e.Buf = append(e.Buf, s.unknown...)
		}
	}
}

// The names of lists with elements that may have unknown fields.
const (
	listPorts             = "ports" // followed by the service, in a workload
	listAddresses         = "addresses"
	listExtensions        = "extensions"
	listWeightedWaypoints = "weighted_waypoints"
	listServices          = "services" // the elements of which are known by name
)

func unknownOf(m proto.Message) []byte { return m.ProtoReflect().GetUnknown() }

func unknownOfPort(m *workloadpb.Port) []byte { return unknownOf(m) }

func unknownOfList(m *workloadpb.PortList) []byte { return unknownOf(m) }

func unknownOfAddress(m *workloadpb.NetworkAddress) []byte { return unknownOf(m) }

func unknownOfExtension(m *workloadpb.Extension) []byte {
	return slices.Concat(nested(2, unknownOf(m.GetConfig())), unknownOf(m))
}

func unknownOfGateway(m *workloadpb.GatewayAddress) []byte {
	return slices.Concat(nested(1, unknownOf(m.GetHostname())), nested(2, unknownOf(m.GetAddress())), unknownOf(m))
}

func unknownOfWeighted(m *workloadpb.WeightedWaypoint) []byte {
	return slices.Concat(nested(1, unknownOfGateway(m.GetDestination())), unknownOf(m))
}

// nested encodes unknown fields so that they merge into the message of that field again.
func nested(num protowire.Number, unknown []byte) []byte {
	if len(unknown) == 0 {
		return nil
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), unknown)
}

// portsOf names the list of the ports of a workload's service.
func portsOf(service string) string { return listPorts + " " + strconv.Quote(service) }
