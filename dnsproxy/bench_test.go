package dnsproxy_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// manyEntries are n hosts, half of them of Kubernetes.
func manyEntries(n int) []dnsproxy.Entry {
	var out []dnsproxy.Entry
	for i := range n {
		e := dnsproxy.Entry{
			Host:      fmt.Sprintf("host-%d.example.com", i),
			Namespace: "app",
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{240, 240, byte(i >> 8), byte(i)})},
		}
		if i%2 == 0 {
			e.Host, e.Registry = fmt.Sprintf("svc-%d.app.svc.cluster.local", i), dnsproxy.Kubernetes
		}
		out = append(out, e)
	}
	return out
}

var benchView = dnsproxy.View{Namespace: "app"}

// benchNames are what clients ask: each one a way through the table.
var benchNames = []struct{ name, host string }{
	{"full", "svc-100.app.svc.cluster.local."},
	{"short", "svc-100."},
	{"external", "host-101.example.com."},
	{"cname", "host-101.example.com.app.svc.cluster.local."},
	{"unknown", "www.elsewhere.test."},
}

func BenchmarkLookup(b *testing.B) {
	table := namesOf(b, manyEntries(10_000)...).Load()
	for _, n := range benchNames {
		b.Run(n.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.Lookup(benchView, n.host)
			}
		})
	}
}

func BenchmarkResolve(b *testing.B) {
	r := &dnsproxy.Resolver{Names: namesOf(b, manyEntries(10_000)...)}
	for _, n := range benchNames {
		b.Run(n.name, func(b *testing.B) {
			q := dns.Question{Name: n.host, Qtype: dns.TypeA, Qclass: dns.ClassINET}
			b.ReportAllocs()
			for b.Loop() {
				r.Resolve(benchView, q)
			}
		})
	}
}

// BenchmarkUDP is a question and its answer over a loopback socket: beside an
// echo of the same packet, the limit of one socket and one client.
func BenchmarkUDP(b *testing.B) {
	h := &dnsproxy.Handler{Resolver: &dnsproxy.Resolver{Names: namesOf(b, manyEntries(10_000)...)}, View: benchView}
	addr := serve(b, h)
	b.Run("echo", func(b *testing.B) { benchUDP(b, echoUDP(b), benchNames[0].host) })
	for _, n := range benchNames[:4] {
		b.Run(n.name, func(b *testing.B) { benchUDP(b, addr, n.host) })
	}
	upstream := forwarder(b, serve(b, echo))
	cached := serve(b, &dnsproxy.Handler{Upstream: upstream})
	b.Run("cached", func(b *testing.B) { benchUDP(b, cached, "www.elsewhere.test.") })
	uncached := forwarder(b, serve(b, echo))
	uncached.Cache.Disabled = true
	miss := serve(b, &dnsproxy.Handler{Upstream: uncached})
	b.Run("forwarded", func(b *testing.B) { benchUDP(b, miss, "www.elsewhere.test.") })
}

func benchUDP(b *testing.B, addr, host string) {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	query, err := queryFor(host).Pack()
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 512)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(query); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// echoUDP sends back every packet.
func echoUDP(b *testing.B) (addr string) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, buf := pc.(*net.UDPConn), make([]byte, 4096)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			conn.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	b.Cleanup(func() {
		pc.Close()
		<-done
	})
	return pc.LocalAddr().String()
}

// BenchmarkUpdate changes one entry of tables of different sizes: the cost should
// hardly depend on the size.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			entries := manyEntries(n)
			table := namesOf(b, entries...).Load()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				e := entries[i%n]
				e.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}
				if _, err := table.With([]dnsproxy.Entry{e}, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	entries := manyEntries(10_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dnsproxy.Build(entries); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAllocateVIP(b *testing.B) {
	v := openVIPs(b, dnsproxy.VIPConfig{Quarantine: -1})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		host := fmt.Sprintf("host-%d.example.com", i%10_000)
		if _, err := v.Allocate(host); err != nil {
			b.Fatal(err)
		}
	}
}
