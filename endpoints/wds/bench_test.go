package wds_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	workloadpb "github.com/eastwest-mesh/eastwest/internal/pb/workload/v1"
)

// BenchmarkEncode encodes the golden resources, one after the other; "proto" is the protobuf library with
// messages that are already made.
func BenchmarkEncode(b *testing.B) {
	var resources []endpoints.Resource
	var messages []*workloadpb.Address
	for _, res := range golden(b, "cluster1.wds.binpb") {
		r, err := wds.DecodeAddress(res.GetName(), res.GetResource().GetValue())
		if err != nil {
			b.Fatal(err)
		}
		m := new(workloadpb.Address)
		if err := proto.Unmarshal(res.GetResource().GetValue(), m); err != nil {
			b.Fatal(err)
		}
		resources, messages = append(resources, r), append(messages, m)
	}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			if _, err := wds.EncodeAddress(resources[i%len(resources)]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("proto", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			if _, err := (proto.MarshalOptions{Deterministic: true}).Marshal(messages[i%len(messages)]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkDecode decodes the golden resources, one after the other.
func BenchmarkDecode(b *testing.B) {
	all := golden(b, "cluster1.wds.binpb")
	b.ReportAllocs()
	for i := range b.N {
		res := all[i%len(all)]
		if _, err := wds.DecodeAddress(res.GetName(), res.GetResource().GetValue()); err != nil {
			b.Fatal(err)
		}
	}
}
