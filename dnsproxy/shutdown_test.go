package dnsproxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// TestShutdown: what was asked is answered; idle connections end.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &dnsproxy.Server{Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			time.Sleep(time.Second)
			echo(w, q)
		})}
		dial := serveMem(t, s)
		busy, idle := dial(), dial()
		defer busy.Close()
		defer idle.Close()
		send(t, busy, queryFor("a."))
		synctest.Wait()
		start := time.Now()
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(start) != 0 {
			t.Errorf("the idle connection: %v after %v, want EOF at once", err, time.Since(start))
		}
		receive(t, busy)
		if err := <-done; err != nil || time.Since(start) != time.Second {
			t.Errorf("shutdown: %v after %v, want nil after 1s", err, time.Since(start))
		}
		if err := s.Serve(&closedListener{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("serving after shutdown: %v, want net.ErrClosed", err)
		}
	})
}

// TestShutdownAnswersWaiting: a query that was read and waits for its turn is answered.
func TestShutdownAnswersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &dnsproxy.Server{MaxQueries: 1, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			time.Sleep(time.Second)
			echo(w, q)
		})}
		conn := serveMem(t, s)()
		defer conn.Close()
		send(t, conn, queryFor("a."))
		send(t, conn, queryFor("b."))
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		receive(t, conn)
		receive(t, conn)
		if err := <-done; err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
}

// TestShutdownFullPipeline: a connection with as many queries as it may have ends
// with the last of them, and is not read again.
func TestShutdownFullPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &dnsproxy.Server{Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			time.Sleep(time.Second)
			echo(w, q)
		})}
		conn := serveMem(t, s)()
		defer conn.Close()
		go io.Copy(io.Discard, conn)
		for range 64 {
			send(t, conn, queryFor("a."))
		}
		synctest.Wait()
		start := time.Now()
		if err := s.Shutdown(t.Context()); err != nil || time.Since(start) != time.Second {
			t.Errorf("shutdown: %v after %v, want nil after 1s", err, time.Since(start))
		}
	})
}

// TestShutdownUDP: the answer to a datagram that was read is sent.
func TestShutdownUDP(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	s := &dnsproxy.Server{Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		close(asked)
		<-release
		echo(w, q)
	})}
	pc, l := listen(t)
	l.Close()
	served := make(chan error, 1)
	go func() { served <- s.ServePacket(pc) }()
	conn, err := dns.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteMsg(queryFor("a.")); err != nil {
		t.Fatal(err)
	}
	<-asked
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	for s.ServePacket(&closedPacketConn{}) != net.ErrClosed { // until it shuts down
	}
	close(release)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if resp, err := conn.ReadMsg(); err != nil || len(resp.Answer) != 1 {
		t.Errorf("response: %v, %v", resp, err)
	}
	if err := <-down; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-served; err != net.ErrClosed {
		t.Errorf("serving ended with %v, want net.ErrClosed", err)
	}
}

// closedPacketConn fails to read.
type closedPacketConn struct{ net.PacketConn }

func (*closedPacketConn) ReadFrom([]byte) (int, net.Addr, error) { return 0, nil, io.EOF }
func (*closedPacketConn) Close() error                           { return nil }
func (*closedPacketConn) SetReadDeadline(time.Time) error        { return nil }

type closedListener struct{ net.Listener }

func (*closedListener) Close() error { return nil }

func TestShutdownImpatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &dnsproxy.Server{Handler: dns.HandlerFunc(func(dns.ResponseWriter, *dns.Msg) { <-release })}
		conn := serveMem(t, s)()
		defer conn.Close()
		send(t, conn, queryFor("a."))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v, want context.DeadlineExceeded", err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is still open")
		}
		close(release)
		s.Close()
	})
}
