package dnsproxy_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// world is an in-memory network of upstream servers: what each one answers. A
// nil response is silence.
type world struct {
	mu      sync.Mutex
	asked   []string // "network address name"
	queries []*dns.Msg
	answer  func(network, address string, q *dns.Msg) *dns.Msg
	raw     func(network string, packed []byte) [][]byte // what is sent for a response; nil: itself
}

func (w *world) dial(_ context.Context, network, address string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		for {
			q, err := readQuery(network, server)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.asked = append(w.asked, fmt.Sprint(network, " ", address, " ", q.Question[0].Name))
			w.queries = append(w.queries, q)
			w.mu.Unlock()
			if resp := w.answer(network, address, q); resp != nil {
				w.send(network, server, resp)
			}
		}
	}()
	return client, nil
}

func (w *world) send(network string, conn net.Conn, resp *dns.Msg) {
	packed, err := resp.Pack()
	if err != nil {
		panic(err)
	}
	all := [][]byte{packed}
	if w.raw != nil {
		all = w.raw(network, packed)
	}
	for _, b := range all {
		if network == "tcp" {
			b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
		}
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

func readQuery(network string, conn net.Conn) (*dns.Msg, error) {
	buf := make([]byte, dns.MaxMsgSize)
	var n int
	var err error
	if network == "udp" {
		n, err = conn.Read(buf)
	} else if _, err = io.ReadFull(conn, buf[:2]); err == nil {
		n, err = io.ReadFull(conn, buf[:binary.BigEndian.Uint16(buf)])
	}
	if err != nil {
		return nil, err
	}
	q := new(dns.Msg)
	return q, q.Unpack(buf[:n])
}

func (w *world) log() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

// forward returns a forwarder in w to addresses.
func (w *world) forward(t *testing.T, addresses ...string) *dnsproxy.Forwarder {
	f := forwarder(t, addresses...)
	f.Dial = w.dial
	return f
}

// reply answers q with one address.
func reply(q *dns.Msg, ttl uint32, addr string) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Answer = []dns.RR{&dns.A{
		Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl},
		A:   net.ParseIP(addr),
	}}
	return m
}

func rcode(q *dns.Msg, rcode int) *dns.Msg { return new(dns.Msg).SetRcode(q, rcode) }

func queryFor(name string) *dns.Msg { return new(dns.Msg).SetQuestion(name, dns.TypeA) }
