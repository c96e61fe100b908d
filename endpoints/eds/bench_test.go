package eds

import (
	"fmt"
	"slices"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// BenchmarkBuild makes one assignment of a service with endpoints on four networks, as a sidecar of the first sees it.
func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			t := target(manyPods(n))
			builder := NewGateways(fourNetworks(), nil).For(Client{Network: "network1", Cluster: "cluster1a"})
			b.ReportAllocs()
			for b.Loop() {
				builder.Build(t)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/endpoint")
		})
	}
}

// BenchmarkEncode encodes an assignment.
func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			a := NewGateways(nil, nil).For(Client{}).Build(target(manyPods(n)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Encode(a); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/endpoint")
		})
	}
}

func manyPods(n int) []endpoints.Endpoint {
	var words []byte
	for i := range n {
		words = fmt.Appendf(words, "cluster%d/network%d/10.0.%d.%d ", i%4+1, i%4+1, i/250, i%250)
	}
	all := pods(string(words))
	slices.Reverse(all)
	return all
}
