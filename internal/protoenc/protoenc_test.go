package protoenc_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/eastwest-mesh/eastwest/internal/protoenc"
)

// TestAgainstProtobuf writes messages with every kind of field, of lengths around those that need another byte.
func TestAgainstProtobuf(t *testing.T) {
	for _, n := range []int{0, 1, 100, 126, 127, 128, 129, 16_000, 16_383, 16_384, 100_000} {
		text := strings.Repeat("x", n)
		want, err := proto.Marshal(&structpb.ListValue{Values: []*structpb.Value{
			structpb.NewStringValue(text), structpb.NewNumberValue(1.5), structpb.NewBoolValue(true),
			structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{text: structpb.NewStringValue(text)}}),
		}})
		if err != nil {
			t.Fatal(err)
		}
		e := protoenc.Get()
		nested := func(num protowire.Number, write func()) {
			start := e.Begin(num)
			write()
			e.End(start)
		}
		nested(1, func() { e.Element(3, text) })
		nested(1, func() { e.Fixed64(2, 0x3ff8000000000000) })
		nested(1, func() { e.Uint(4, 1) })
		nested(1, func() {
			nested(5, func() {
				nested(1, func() {
					e.Element(1, text) // of a map, also an empty key is there
					nested(2, func() { e.Bytes(3, []byte(text)) })
				})
			})
		})
		if got := e.Done(); !bytes.Equal(got, want) {
			t.Errorf("length %d: got %d bytes, want %d", n, len(got), len(want))
		}
	}
}

func TestDefaultsAreLeftOut(t *testing.T) {
	e := protoenc.Get()
	e.String(1, "")
	e.Uint(2, 0)
	e.Uint(300, 300)
	want := protowire.AppendVarint(protowire.AppendTag(nil, 300, protowire.VarintType), 300)
	if got := e.Done(); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if got := protoenc.Get().Done(); len(got) != 0 {
		t.Errorf("a new encoder has %x", got)
	}
}
