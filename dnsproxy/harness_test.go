package dnsproxy_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// addrs parses addresses.
func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// namesOf holds a table of entries.
func namesOf(t testing.TB, entries ...dnsproxy.Entry) *dnsproxy.Names {
	t.Helper()
	table, err := dnsproxy.Build(entries)
	if err != nil {
		t.Fatal(err)
	}
	names := new(dnsproxy.Names)
	names.Store(table)
	return names
}

// inOrder is a Shuffle that does not.
func inOrder(int, func(i, j int)) {}

// serve serves h over UDP and TCP on one loopback port until the test ends.
func serve(t testing.TB, h dns.Handler) (addr string) {
	t.Helper()
	pc, l := listen(t)
	s := &dnsproxy.Server{Handler: h}
	done := make(chan error, 2)
	go func() { done <- s.ServePacket(pc) }()
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-done; err != net.ErrClosed {
				t.Errorf("serving ended with %v, want net.ErrClosed", err)
			}
		}
	})
	return l.Addr().String()
}

// listen binds the same loopback port for UDP and TCP.
func listen(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		pc, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return pc, l
		}
		l.Close() // somebody has that port for UDP
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// foreignServer is another implementation of a DNS server, to forward to.
func foreignServer(t testing.TB, h dns.Handler) (addr string) {
	t.Helper()
	pc, l := listen(t)
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		started, ended := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(ended)
			s.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			s.Shutdown()
			<-ended
		})
	}
	return l.Addr().String()
}

// forwarder returns a forwarder to addrs that ends with the test.
func forwarder(t testing.TB, addrs ...string) *dnsproxy.Forwarder {
	f := &dnsproxy.Forwarder{}
	for _, a := range addrs {
		f.Upstreams = append(f.Upstreams, dnsproxy.Upstream{Address: a})
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// ask asks over network ("udp" or "tcp").
func ask(t testing.TB, network, addr, name string, qtype uint16, edit ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, qtype)
	for _, f := range edit {
		f(m)
	}
	c := dns.Client{Net: network, Timeout: 10 * time.Second, UDPSize: dns.MaxMsgSize}
	resp, _, err := c.Exchange(m, addr)
	if err != nil {
		t.Fatalf("%s %s over %s: %v", name, dns.Type(qtype), network, err)
	}
	return resp
}

// lines are records in presentation form, without TTL and class.
func lines(rrs []dns.RR) []string {
	out := []string{}
	for _, rr := range rrs {
		h := rr.Header()
		out = append(out, fmt.Sprintf("%s %s %s", h.Name, dns.Type(h.Rrtype), rr.String()[len(h.String()):]))
	}
	return out
}

func edns(size uint16) func(*dns.Msg) {
	return func(m *dns.Msg) { m.SetEdns0(size, false) }
}
