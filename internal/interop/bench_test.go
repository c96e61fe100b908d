package interop

import (
	"strings"
	"testing"
)

// BenchmarkBulk moves 64 KiB per operation.
func BenchmarkBulk(b *testing.B) { benchmarkAll(b, "Bulk/") }

// BenchmarkPingPong has 1 KiB echoed per operation.
func BenchmarkPingPong(b *testing.B) { benchmarkAll(b, "PingPong/") }

// BenchmarkConnect makes a connection over warm tunnels per operation, and has
// 1 KiB echoed on it.
func BenchmarkConnect(b *testing.B) { benchmarkAll(b, "Connect/") }

func benchmarkAll(b *testing.B, prefix string) {
	for _, m := range Measures() {
		name, ok := strings.CutPrefix(m.Name, prefix)
		if !ok {
			continue
		}
		for _, p := range m.Peers {
			b.Run(name+"/peer="+p.Name, func(b *testing.B) { benchmark(b, m, p) })
		}
	}
}

func benchmark(b *testing.B, m Measure, p Peer) {
	b.StopTimer()
	w, err := NewWorld(false)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	dial, err := p.Make(w, m.Hops)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(m.Bytes))
	s, err := m.measure(b.Context(), w, dial, b.N, b)
	if err != nil {
		b.Fatal(err)
	}
	for _, metric := range m.Metrics {
		b.ReportMetric(metric.Of(s), metric.Unit)
	}
}
