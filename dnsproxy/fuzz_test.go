package dnsproxy_test

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// FuzzServer sends datagrams to a server: it must not panic, answer responses,
// or answer with anything that is not the response to the query.
func FuzzServer(f *testing.F) {
	for _, q := range []*dns.Msg{
		queryFor("reviews.app."),
		new(dns.Msg).SetQuestion("_mysql._tcp.db.app.", dns.TypeSRV),
		new(dns.Msg).SetQuestion("10.0.0.10.in-addr.arpa.", dns.TypePTR),
		new(dns.Msg).SetQuestion("x.example.org.", dns.TypeHTTPS),
		new(dns.Msg).SetQuestion("unknown.test.", dns.TypeANY),
		new(dns.Msg).SetAxfr("cluster.local."),
		new(dns.Msg).SetUpdate("cluster.local."),
		reply(queryFor("a."), 1, "192.0.2.1"),
	} {
		for _, opt := range []bool{false, true} {
			if opt {
				q.SetEdns0(1232, true)
			}
			packed, err := q.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(packed)
			f.Add(packed[:len(packed)-1])
		}
	}
	upstream := exchangeFunc(func(_ context.Context, q *dns.Msg) (*dns.Msg, error) { return rcode(q, dns.RcodeNameError), nil })
	h := &dnsproxy.Handler{
		Resolver: &dnsproxy.Resolver{Names: namesOf(f, meshEntries()...), Zones: []string{"clusterset.local"}},
		View:     dnsproxy.View{Namespace: "app"},
		Upstream: upstream,
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		resp := serveDatagram(t, h, packet)
		if resp == nil {
			return
		}
		m := new(dns.Msg)
		if err := m.Unpack(resp); err != nil {
			t.Fatalf("the response does not decode: %v", err)
		}
		if packet[2]&0x80 != 0 {
			t.Fatal("a response was answered")
		}
		if !m.Response || m.Id != uint16(packet[0])<<8|uint16(packet[1]) {
			t.Fatalf("%v is no response to %x", m, packet)
		}
	})
}

// serveDatagram gives a server one datagram and returns what it sends.
func serveDatagram(t *testing.T, h dns.Handler, packet []byte) []byte {
	pc := &onePacket{in: packet, closed: make(chan struct{})}
	s := &dnsproxy.Server{Handler: h}
	done := make(chan error, 1)
	go func() { done <- s.ServePacket(pc) }()
	<-pc.closed // it was read, and read again: see ReadFrom
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
	return pc.out
}

// onePacket is a net.PacketConn on which one datagram comes.
type onePacket struct {
	net.PacketConn
	in, out []byte
	reads   int
	closed  chan struct{}
	once    sync.Once
}

func (p *onePacket) ReadFrom(b []byte) (int, net.Addr, error) {
	if p.reads++; p.reads == 1 {
		return copy(b, p.in), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, nil
	}
	p.once.Do(func() { close(p.closed) })
	return 0, nil, os.ErrDeadlineExceeded
}

func (p *onePacket) WriteTo(b []byte, _ net.Addr) (int, error) {
	p.out = append([]byte{}, b...)
	return len(b), nil
}

func (p *onePacket) LocalAddr() net.Addr             { return &net.UDPAddr{Port: 53} }
func (p *onePacket) SetReadDeadline(time.Time) error { return nil }
func (p *onePacket) Close() error                    { return nil }

// FuzzUpstream sends a forwarder something instead of a response: it must not
// panic, and take nothing that is not the response to its query.
func FuzzUpstream(f *testing.F) {
	packed, err := reply(queryFor("a.example.com."), 30, "192.0.2.1").Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add(packed[:20])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, response []byte) {
		w := &world{
			answer: func(_, _ string, q *dns.Msg) *dns.Msg { return rcode(q, dns.RcodeNameError) },
			raw: func(network string, packed []byte) [][]byte {
				if len(response) >= 2 {
					response = append(packed[:2:2], response[2:]...) // the ID is right
				}
				return [][]byte{response, packed}
			},
		}
		fwd := &dnsproxy.Forwarder{Upstreams: []dnsproxy.Upstream{{Address: "one"}}, Dial: w.dial, Timeout: time.Second}
		defer fwd.Close()
		resp, err := fwd.Exchange(t.Context(), queryFor("a.example.com."))
		if err != nil {
			return
		}
		if len(resp.Question) != 1 || resp.Question[0].Name != "a.example.com." {
			t.Errorf("response is %v", resp)
		}
		if _, err := resp.Pack(); err != nil {
			t.Errorf("the response does not encode: %v", err)
		}
	})
}
