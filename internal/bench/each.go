package bench

import (
	"fmt"
	"testing"
)

// EachHops runs a benchmark over one hop and over two.
func EachHops(b *testing.B, run func(b *testing.B, hops int)) {
	for hops := 1; hops <= 2; hops++ {
		b.Run(fmt.Sprintf("hops=%d", hops), func(b *testing.B) { run(b, hops) })
	}
}

// EachStreams runs a benchmark with one stream and with 64.
func EachStreams(b *testing.B, run func(b *testing.B, streams int)) {
	for _, streams := range []int{1, 64} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) { run(b, streams) })
	}
}

// Limit is the way that tunnels over so many hops are compared with: as fast as encryption allows.
func Limit(hops int) Way {
	if hops == 1 {
		return TLS()
	}
	return TLSInTLS()
}
