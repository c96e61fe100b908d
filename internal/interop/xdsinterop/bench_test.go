package xdsinterop

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"google.golang.org/protobuf/proto"

	"istio.io/istio/pkg/workloadapi"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
)

// BenchmarkFullPush encodes the 100,000 workloads of a mesh, with ours and with Istio's messages, which are already
// made.
func BenchmarkFullPush(b *testing.B) {
	const n = 100_000
	resources := make([]endpoints.Resource, n)
	messages := make([]*workloadapi.Address, n)
	for i := range resources {
		resources[i], messages[i] = benchWorkload(i), new(workloadapi.Address)
		body, err := wds.EncodeAddress(resources[i])
		if err != nil {
			b.Fatal(err)
		}
		if err := proto.Unmarshal(body, messages[i]); err != nil {
			b.Fatal(err)
		}
		if theirs, err := (proto.MarshalOptions{Deterministic: true}).Marshal(messages[i]); err != nil || !bytes.Equal(theirs, body) {
			b.Fatalf("Istio encodes %x, %v; ours is %x", theirs, err, body)
		}
	}
	for _, e := range []struct {
		name   string
		encode func(i int) ([]byte, error)
	}{
		{"ours", func(i int) ([]byte, error) { return wds.EncodeAddress(resources[i]) }},
		{"istio", func(i int) ([]byte, error) { return proto.Marshal(messages[i]) }},
		{"istio-deterministic", func(i int) ([]byte, error) { // as istiod does
			return proto.MarshalOptions{Deterministic: true}.Marshal(messages[i])
		}},
	} {
		b.Run(e.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for i := range n {
					if _, err := e.encode(i); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/workload")
		})
	}
}

func benchWorkload(i int) endpoints.Resource {
	name := fmt.Sprintf("reviews-v1-5b8f7d9c6-%05d", i)
	return endpoints.Resource{Workload: &endpoints.Workload{
		UID: "cluster1//Pod/app/" + name, Name: name, Namespace: "app", Cluster: "cluster1", Network: "network1",
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
		Services: []endpoints.ServicePorts{{
			Service: fmt.Sprintf("app/reviews-%d.app.svc.cluster.local", i%1000),
			Ports:   []endpoints.Port{{ServicePort: 80, TargetPort: 8080}, {ServicePort: 9090, TargetPort: 9090}},
		}},
		ServiceAccount: "bookinfo-reviews", Tunnel: endpoints.TunnelHBONE, Type: endpoints.Pod, Node: fmt.Sprint("node-", i%100),
		WorkloadName: "reviews-v1", CanonicalName: "reviews", CanonicalRevision: "v1",
		Locality: endpoints.Locality{Region: "eu-west-1", Zone: "eu-west-1a"},
	}}
}
