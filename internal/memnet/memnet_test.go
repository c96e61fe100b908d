package memnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPipeIsANetConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := Pipe()
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

func TestNetworkConnIsANetConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := dial(t, new(Network))
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

// dial connects host a to host b.
func dial(t *testing.T, n *Network) (client, server *Conn) {
	t.Helper()
	l, err := n.Listen("b:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := n.Host("a").Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*Conn), s.(*Conn)
}

func TestHalfClose(t *testing.T) {
	a, b := Pipe()
	defer a.Close()
	defer b.Close()
	a.Write([]byte("request"))
	a.CloseWrite()
	if got, err := io.ReadAll(b); string(got) != "request" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after CloseWrite: %v, want EPIPE", err)
	}
	b.Write([]byte("answer"))
	b.Close()
	if got, err := io.ReadAll(a); string(got) != "answer" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
}

func TestLingerZeroAborts(t *testing.T) {
	a, b := Pipe()
	defer b.Close()
	a.Write([]byte("lost"))
	a.SetLinger(0)
	a.Close()
	if _, err := b.Read(make([]byte, 8)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want ECONNRESET", err)
	}
}

func TestTryWriteTakesWhatFits(t *testing.T) {
	a, b := Pipe()
	defer a.Close()
	defer b.Close()
	big := bytes.Repeat([]byte("x"), 2*bufferSize)
	if n, err := a.TryWrite(big); n != bufferSize || err != nil {
		t.Fatalf("TryWrite = %d, %v", n, err)
	}
	if n, err := a.TryWrite(big); n != 0 || err != nil {
		t.Fatalf("TryWrite on a full buffer = %d, %v", n, err)
	}
	b.Read(make([]byte, 10))
	if n, err := a.TryWrite(big); n != 10 || err != nil {
		t.Fatalf("TryWrite after a read = %d, %v", n, err)
	}
}

func TestLatencyPerDirection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(Network)
		n.SetLatency("a", "b", 30*time.Millisecond)
		n.SetLatency("b", "a", 20*time.Millisecond)
		start := time.Now()
		a, b := dial(t, n)
		if d := time.Since(start); d != 50*time.Millisecond {
			t.Errorf("Dial took %v, want one round trip", d)
		}
		defer a.Close()
		defer b.Close()
		buf := make([]byte, 8)
		start = time.Now()
		a.Write([]byte("ping"))
		b.Read(buf)
		if d := time.Since(start); d != 30*time.Millisecond {
			t.Errorf("there: %v", d)
		}
		b.Write([]byte("pong"))
		b.CloseWrite()
		a.Read(buf)
		if d := time.Since(start); d != 50*time.Millisecond {
			t.Errorf("and back: %v", d)
		}
		if _, err := a.Read(buf); err != io.EOF {
			t.Errorf("after CloseWrite: %v, want EOF", err)
		}
	})
}

func TestBlackholeHoldsBackUntilHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(Network)
		a, b := dial(t, n)
		defer a.Close()
		defer b.Close()
		n.Blackhole("a", "b")
		a.Write([]byte("held"))
		b.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := b.Read(make([]byte, 8)); !isTimeout(err) {
			t.Fatalf("read from a black hole: %v, want a timeout", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.Host("a").Dial(ctx, "tcp", "b:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("dial into a black hole: %v", err)
		}
		b.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Hour, func() { n.Heal("a", "b") })
		buf := make([]byte, 8)
		if k, err := b.Read(buf); string(buf[:k]) != "held" {
			t.Fatalf("after Heal: %q, %v", buf[:k], err)
		}
	})
}

func TestCutBreaksConnections(t *testing.T) {
	n := new(Network)
	a, b := dial(t, n)
	n.Cut("a", "b")
	for _, c := range []*Conn{a, b} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v, want ECONNRESET", err)
		}
	}
	l, _ := n.Listen("b:80")
	defer l.Close()
	if _, err := n.Host("a").Dial(t.Context(), "tcp", "b:80"); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("dial over a cut link: %v", err)
	}
	n.Heal("a", "b")
	c, err := n.Host("a").Dial(t.Context(), "tcp", "b:80")
	if err != nil {
		t.Fatalf("dial after Heal: %v", err)
	}
	c.Close()
}

func TestDialRefused(t *testing.T) {
	n := new(Network)
	if _, err := n.Host("a").Dial(t.Context(), "tcp", "b:80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v, want ECONNREFUSED", err)
	}
	l, _ := n.Listen("b:80")
	if _, err := n.Listen("b:80"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second Listen: %v, want EADDRINUSE", err)
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
