package dnsproxy_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// echo answers every question with one address.
var echo = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(reply(q, 30, "192.0.2.1")) })

// send sends one message over a stream.
func send(t testing.TB, conn net.Conn, q *dns.Msg) {
	t.Helper()
	if err := (&dns.Conn{Conn: conn}).WriteMsg(q); err != nil {
		t.Fatal(err)
	}
}

func receive(t testing.TB, conn net.Conn) *dns.Msg {
	t.Helper()
	m, err := (&dns.Conn{Conn: conn}).ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// serveMem serves s in memory and returns how to reach it.
func serveMem(t testing.TB, s *dnsproxy.Server) (dial func() net.Conn) {
	t.Helper()
	n := new(memnet.Network)
	l, err := n.Listen("dns:53")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	return func() net.Conn {
		c, err := n.Host("client").Dial(t.Context(), "tcp", "dns:53")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// TestPipelining: slow queries do not hold up the next ones (RFC 7766 section 6.2.1.1).
func TestPipelining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &dnsproxy.Server{Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			if q.Question[0].Name == "slow." {
				time.Sleep(time.Second)
			}
			echo(w, q)
		})}
		defer s.Close()
		conn := serveMem(t, s)()
		defer conn.Close()
		for _, name := range []string{"slow.", "a.", "b."} {
			send(t, conn, queryFor(name))
		}
		var order []string
		for range 3 {
			order = append(order, receive(t, conn).Question[0].Name)
		}
		if order[2] != "slow." {
			t.Errorf("answers came as %v, want the slow one last", order)
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	tests := map[string]func(t *testing.T, conn net.Conn){
		"nothing":         func(*testing.T, net.Conn) {},
		"after an answer": func(t *testing.T, conn net.Conn) { send(t, conn, queryFor("a.")); receive(t, conn) },
		"half a message":  func(t *testing.T, conn net.Conn) { conn.Write([]byte{0, 20, 1}) },
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &dnsproxy.Server{Handler: echo, IdleTimeout: 3 * time.Second}
				defer s.Close()
				conn := serveMem(t, s)()
				defer conn.Close()
				do(t, conn)
				start := time.Now()
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("read: %v, want EOF", err)
				}
				if took := time.Since(start); took != 3*time.Second {
					t.Errorf("closed after %v, want 3s", took)
				}
			})
		})
	}
}

// TestHugeQuery: a length that no question needs ends the connection before anything is allocated.
func TestHugeQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &dnsproxy.Server{Handler: echo}
		defer s.Close()
		conn := serveMem(t, s)()
		defer conn.Close()
		conn.Write(binary.BigEndian.AppendUint16(nil, 0xFFFF))
		start := time.Now()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(start) != 0 {
			t.Errorf("read: %v after %v, want EOF at once", err, time.Since(start))
		}
	})
}

// TestMaxConns: more connections wait.
func TestMaxConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &dnsproxy.Server{Handler: echo, MaxConns: 1}
		defer s.Close()
		dial := serveMem(t, s)
		first := dial()
		send(t, first, queryFor("a."))
		receive(t, first)
		second := dial()
		defer second.Close()
		send(t, second, queryFor("b."))
		second.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := second.Read(make([]byte, 1)); err == nil {
			t.Error("the second connection is answered")
		}
		first.Close()
		second.SetReadDeadline(time.Time{})
		receive(t, second)
	})
}

// TestMaxQueries: no more than that are worked on at one time.
func TestMaxQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		working, most := 0, 0
		s := &dnsproxy.Server{MaxQueries: 3, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			mu.Lock()
			working++
			most = max(most, working)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			working--
			mu.Unlock()
			echo(w, q)
		})}
		defer s.Close()
		dial := serveMem(t, s)
		for range 2 {
			conn := dial()
			defer conn.Close()
			for range 5 {
				send(t, conn, queryFor("a."))
			}
			go io.Copy(io.Discard, conn)
		}
		time.Sleep(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if most != 3 {
			t.Errorf("%d queries were worked on at one time, want 3", most)
		}
	})
}

// TestIdleSocketsTakeNoTurn: sockets on which nothing comes do not use up what
// may be worked on at one time.
func TestIdleSocketsTakeNoTurn(t *testing.T) {
	s := &dnsproxy.Server{Handler: echo, MaxQueries: 1, MaxConns: 1}
	var served sync.WaitGroup
	defer served.Wait()
	defer s.Close()
	for range 2 {
		pc, l := listen(t)
		served.Go(func() { s.ServePacket(pc) })
		served.Go(func() { s.Serve(l) })
		for _, network := range []string{"udp", "tcp", "udp"} {
			ask(t, network, l.Addr().String(), "a.example.", dns.TypeA)
		}
	}
}

func TestListenAndServe(t *testing.T) {
	// A port that was free a moment ago may be another process's by now, so the
	// address is one that nobody else uses, and the port none that is given out.
	pid := os.Getpid()
	addr := fmt.Sprintf("127.%d.%d.%d:15053", 1+pid>>16, byte(pid>>8), byte(pid))
	ctx, cancel := context.WithCancel(t.Context())
	s := &dnsproxy.Server{Handler: echo}
	done := make(chan error, 1)
	go func() { done <- s.ListenAndServe(ctx, addr) }()
	for _, network := range []string{"udp", "tcp"} {
		for { // until it listens
			c := dns.Client{Net: network, Timeout: 5 * time.Second}
			resp, _, err := c.ExchangeContext(t.Context(), queryFor("a."), addr)
			if err == nil {
				if len(resp.Answer) != 1 {
					t.Errorf("response over %s is %v", network, resp)
				}
				break
			}
			select {
			case err := <-done:
				t.Fatal(err)
			default:
			}
		}
	}
	if err := new(dnsproxy.Server).ListenAndServe(ctx, addr); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("a second server: %v, want an error that names the address", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestWildcardSocket: a socket that is bound to no address answers from the
// one that was asked: connected clients take nothing else.
func TestWildcardSocket(t *testing.T) {
	for _, network := range []string{"udp4", "udp"} {
		t.Run(network, func(t *testing.T) {
			pc, err := net.ListenPacket(network, ":0")
			if err != nil {
				t.Skip(err)
			}
			s := &dnsproxy.Server{Handler: echo}
			defer s.Close()
			go s.ServePacket(pc)
			_, port, err := net.SplitHostPort(pc.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
				if resp := ask(t, "udp", net.JoinHostPort(host, port), "a.", dns.TypeA); len(resp.Answer) != 1 {
					t.Errorf("%s: %v", host, resp)
				}
			}
		})
	}
}

// TestMalformed: what is not a query is answered with its header, or not at all.
func TestMalformed(t *testing.T) {
	addr := serve(t, echo)
	query, err := queryFor("a.").Pack()
	if err != nil {
		t.Fatal(err)
	}
	response := append([]byte{}, query...)
	response[2] |= 0x80
	broken := append([]byte{}, query...)
	broken[0], broken[1], broken[12] = 0xAB, 0xCD, 0xC0 // a pointer to itself
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, silent := range [][]byte{{}, {1, 2, 3}, response} {
		conn.Write(silent)
	}
	conn.Write(broken)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 512)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(buf[:n]); err != nil || n != 12 || m.Id != 0xABCD || m.Rcode != dns.RcodeFormatError || !m.Response || !m.RecursionDesired {
		t.Errorf("response is %v, %v: want FORMERR to the broken query", m, err)
	}
}
