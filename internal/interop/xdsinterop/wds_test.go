package xdsinterop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"istio.io/istio/pkg/workloadapi"
	"istio.io/istio/pkg/workloadapi/security"

	"github.com/eastwest-mesh/eastwest/endpoints/wds"
)

// TestEveryFieldOfAddresses gives every field that Istio's messages have some value: ours keep them all, and encode
// them to the same bytes. A field that Istio adds is kept as one that is not known.
func TestEveryFieldOfAddresses(t *testing.T) {
	for seed := range uint64(500) {
		f := filler{rand.New(rand.NewPCG(seed, 9))}
		m := new(workloadapi.Address)
		var name string
		if seed%2 == 0 {
			w := new(workloadapi.Workload)
			f.fill(w.ProtoReflect())
			name, m.Type = w.GetUid(), &workloadapi.Address_Workload{Workload: w}
		} else {
			s := new(workloadapi.Service)
			f.fill(s.ProtoReflect())
			name, m.Type = s.GetNamespace()+"/"+s.GetHostname(), &workloadapi.Address_Service{Service: s}
		}
		body := marshal(t, m)
		r, err := wds.DecodeAddress(name, body)
		if err != nil {
			t.Fatalf("%v: %s", err, prototext.Format(m))
		}
		if again, err := wds.EncodeAddress(r); err != nil || !bytes.Equal(again, body) {
			t.Fatalf("encodes to %x, %v, not %x: %s", again, err, body, prototext.Format(m))
		}
	}
}

func TestEveryFieldOfAuthorizations(t *testing.T) {
	for seed := range uint64(500) {
		f := filler{rand.New(rand.NewPCG(seed, 10))}
		m := new(security.Authorization)
		f.fill(m.ProtoReflect())
		body := marshal(t, m)
		a, err := wds.DecodeAuthorization(m.GetNamespace()+"/"+m.GetName(), body)
		if err != nil {
			t.Fatalf("%v: %s", err, prototext.Format(m))
		}
		if again, err := wds.EncodeAuthorization(a); err != nil || !bytes.Equal(again, body) {
			t.Fatalf("encodes to %x, %v, not %x: %s", again, err, body, prototext.Format(m))
		}
	}
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// A filler fills messages with values that mean something.
type filler struct{ *rand.Rand }

func (f filler) fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if one := fd.ContainingOneof(); one != nil && !one.IsSynthetic() {
			if first := one.Fields().Get(0); fd != first {
				continue // one of them is filled, at the turn of the first
			}
			fd = one.Fields().Get(f.IntN(one.Fields().Len()))
		}
		switch {
		case fd.IsMap():
			entries := m.Mutable(fd).Map()
			for range 1 + f.IntN(3) {
				v := entries.NewValue()
				f.fill(v.Message())
				entries.Set(f.scalar(m, fd.MapKey()).MapKey(), v)
			}
		case fd.IsList():
			list := m.Mutable(fd).List()
			for range 1 + f.IntN(3) {
				if fd.Message() != nil {
					f.fill(list.AppendMutable().Message())
				} else {
					list.Append(f.scalar(m, fd))
				}
			}
		case fd.Message() != nil:
			f.fill(m.Mutable(fd).Message())
		case fd.Name() == "length" && m.Descriptor().Name() == "NetworkAddress":
			// Left out: gateways have single addresses. Ranges are those of the golden files.
		default:
			m.Set(fd, f.scalar(m, fd))
		}
	}
}

// scalar returns a value for a field of m, or of an element of it.
func (f filler) scalar(m protoreflect.Message, fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		v := values.Get(f.IntN(values.Len()))
		if v.Name() == "LEGACY_ISTIO_MTLS" { // is refused
			v = values.Get(0)
		}
		return protoreflect.ValueOfEnum(v.Number())
	case protoreflect.Uint32Kind:
		if fd.Name() == "length" {
			return protoreflect.ValueOfUint32(f.Uint32N(33))
		}
		return protoreflect.ValueOfUint32(f.Uint32N(1 << 16))
	case protoreflect.BytesKind:
		b := make([]byte, []int{4, 16}[f.IntN(2)])
		for i := range b {
			b[i] = byte(f.Uint32())
		}
		return protoreflect.ValueOfBytes(b)
	}
	if fd.Kind() != protoreflect.StringKind {
		panic(fmt.Sprintf("%s.%s: a field of kind %s", m.Descriptor().FullName(), fd.Name(), fd.Kind()))
	}
	return protoreflect.ValueOfString(fmt.Sprintf("%s-%d", fd.Name(), f.Uint32()))
}
