package wds_test

import (
	"fmt"
	"net/netip"
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

// BenchmarkFullPush encodes the 100,000 workloads of a mesh, as for a first push; "proto" is proto.Marshal of messages
// that are already made.
func BenchmarkFullPush(b *testing.B) {
	const n = 100_000
	resources := make([]endpoints.Resource, n)
	messages := make([]*workloadpb.Address, n)
	for i := range resources {
		resources[i] = endpoints.Resource{Workload: workload(i)}
		messages[i] = new(workloadpb.Address)
		body, err := wds.EncodeAddress(resources[i])
		if err != nil {
			b.Fatal(err)
		}
		if err := proto.Unmarshal(body, messages[i]); err != nil {
			b.Fatal(err)
		}
	}
	encoders := []struct {
		name   string
		encode func(i int) ([]byte, error)
	}{
		{"ours", func(i int) ([]byte, error) { return wds.EncodeAddress(resources[i]) }},
		{"proto", func(i int) ([]byte, error) { return proto.Marshal(messages[i]) }},
	}
	for _, e := range encoders {
		b.Run(e.name, func(b *testing.B) {
			b.ReportAllocs()
			var size int64
			for b.Loop() {
				size = 0
				for i := range n {
					body, err := e.encode(i)
					if err != nil {
						b.Fatal(err)
					}
					size += int64(len(body))
				}
			}
			b.SetBytes(size)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/workload")
		})
	}
}

// workload makes a pod as istiod describes one.
func workload(i int) *endpoints.Workload {
	name := fmt.Sprintf("reviews-v1-5b8f7d9c6-%05d", i)
	return &endpoints.Workload{
		UID: "cluster1//Pod/app/" + name, Name: name, Namespace: "app", Cluster: "cluster1", Network: "network1",
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
		Services: []endpoints.ServicePorts{{
			Service: fmt.Sprintf("app/reviews-%d.app.svc.cluster.local", i%1000),
			Ports:   []endpoints.Port{{ServicePort: 80, TargetPort: 8080}, {ServicePort: 9090, TargetPort: 9090}},
		}},
		ServiceAccount: "bookinfo-reviews", Tunnel: endpoints.TunnelHBONE, Type: endpoints.Pod, Node: fmt.Sprint("node-", i%100),
		WorkloadName: "reviews-v1", CanonicalName: "reviews", CanonicalRevision: "v1",
		Locality: endpoints.Locality{Region: "eu-west-1", Zone: "eu-west-1a"},
	}
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
