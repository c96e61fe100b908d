package h2

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
)

// Benchmarks of the engine over TLS on loopback, beside raw TLS, the limit. The
// sockets use cubic or reno (benchTCPWire says which, where that can be chosen):
// pacing congestion controls such as BBR make loopback numbers meaningless.
//
//	go test -run - -bench . ./internal/h2

// A benchmark runs on pairs of connected ends.
type ends func(b *testing.B, n int) (client, server []net.Conn)

// rawTLS gives n TLS connections.
func rawTLS(b *testing.B, n int) (client, server []net.Conn) {
	cert := testCertificate(b)
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	for range n {
		c, s := benchTCPWire(b)
		tc := tls.Client(c, &tls.Config{RootCAs: pool, ServerName: "test", DynamicRecordSizingDisabled: true})
		ts := tls.Server(s, &tls.Config{Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true})
		done := make(chan error, 1)
		go func() { done <- ts.Handshake() }()
		if err := tc.Handshake(); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { tc.Close(); ts.Close() })
		client, server = append(client, tc), append(server, ts)
	}
	return client, server
}

// streams gives n streams of one connection over a wire.
func streams(w wire) ends {
	return func(b *testing.B, n int) (client, server []net.Conn) {
		handle, accepted := accepting()
		c, _ := newPair(b, w, Config{}, handle)
		for range n {
			client = append(client, mustOpen(b, c))
			server = append(server, <-accepted)
		}
		return client, server
	}
}

func variants() []struct {
	name string
	ends ends
} {
	return []struct {
		name string
		ends ends
	}{
		{"tls", rawTLS},
		{"h2", streams(overTLS(benchTCPWire))},
		{"nested", streams(overTLS(overStream(overTLS(benchTCPWire))))},
	}
}

// BenchmarkBulk sends 64 KiB writes one way.
func BenchmarkBulk(b *testing.B) {
	for _, v := range variants() {
		for _, n := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/streams=%d", v.name, n), func(b *testing.B) {
				client, server := v.ends(b, n)
				b.SetBytes(64 << 10)
				b.ReportAllocs()
				cpu := cpuTime()
				b.ResetTimer()
				var all sync.WaitGroup
				for i := range n {
					writes := b.N / n
					if i < b.N%n {
						writes++
					}
					all.Go(func() {
						buf := make([]byte, 64<<10)
						for range writes {
							if _, err := client[i].Write(buf); err != nil {
								b.Error(err)
								return
							}
						}
					})
					all.Go(func() {
						buf := make([]byte, 64<<10)
						for left := writes * len(buf); left > 0; {
							k, err := server[i].Read(buf)
							if err != nil {
								b.Error(err)
								return
							}
							left -= k
						}
					})
				}
				all.Wait()
				b.StopTimer()
				b.ReportMetric((cpuTime()-cpu).Seconds()/(float64(b.N)*(64<<10)/1e9), "cpu-s/GB")
			})
		}
	}
}

// BenchmarkPingPong sends 1 KiB there and back.
func BenchmarkPingPong(b *testing.B) {
	for _, v := range variants() {
		for _, n := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/streams=%d", v.name, n), func(b *testing.B) {
				client, server := v.ends(b, n)
				for _, s := range server {
					go func() {
						buf := make([]byte, 1024)
						for {
							if _, err := io.ReadFull(s, buf); err != nil {
								return
							}
							s.Write(buf)
						}
					}()
				}
				b.ReportAllocs()
				cpu := cpuTime()
				b.ResetTimer()
				var all sync.WaitGroup
				for i := range n {
					all.Go(func() {
						buf := make([]byte, 1024)
						for j := i; j < b.N; j += n {
							client[i].Write(buf)
							if _, err := io.ReadFull(client[i], buf); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
				b.StopTimer()
				b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-us/op")
			})
		}
	}
}

// BenchmarkNewStream opens a stream, sends 1 KiB there and back, and closes it.
func BenchmarkNewStream(b *testing.B) {
	for _, w := range []struct {
		name string
		wire wire
	}{
		{"h2", overTLS(benchTCPWire)},
		{"nested", overTLS(overStream(overTLS(benchTCPWire)))},
	} {
		for _, n := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/streams=%d", w.name, n), func(b *testing.B) {
				buffers := sync.Pool{New: func() any { return new([1024]byte) }}
				c, _ := newPair(b, w.wire, Config{}, func(s *Stream) {
					defer s.Close()
					s.Accept(nil)
					buf := buffers.Get().(*[1024]byte)
					defer buffers.Put(buf)
					for {
						k, err := s.Read(buf[:])
						if err != nil {
							return
						}
						s.Write(buf[:k])
					}
				})
				b.ReportAllocs()
				cpu := cpuTime()
				b.ResetTimer()
				var all sync.WaitGroup
				for i := range n {
					all.Go(func() {
						buf := make([]byte, 1024)
						for j := i; j < b.N; j += n {
							s, err := c.Open(b.Context(), "a:1", nil)
							if err != nil {
								b.Error(err)
								return
							}
							s.Write(buf)
							if _, err := io.ReadFull(s, buf); err != nil {
								b.Error(err)
							}
							s.CloseWrite()
							io.Copy(io.Discard, s)
							s.Close()
						}
					})
				}
				all.Wait()
				b.StopTimer()
				b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-us/op")
			})
		}
	}
}
