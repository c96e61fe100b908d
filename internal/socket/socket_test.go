package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A script is a Destination that notes what it is asked.
type script struct {
	space []byte
	stop  bool
	idle  int
	asked int
	wake  func() // called when idle
}

func (s *script) Space() []byte {
	s.asked++
	return s.space
}

func (s *script) Idle() bool {
	s.idle++
	if s.wake != nil {
		s.wake()
	}
	return s.stop
}

func pair(t *testing.T) (a, b *net.TCPConn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func mustBe(t *testing.T, conn net.Conn) *Socket {
	s := Of(conn)
	if s == nil {
		t.Skip("this system's sockets cannot be asked")
	}
	return s
}

func TestRead(t *testing.T) {
	a, b := pair(t)
	s := mustBe(t, a)
	d := &script{space: make([]byte, 10), stop: true}
	if n, err := s.Read(d); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || d.idle != 1 {
		t.Errorf("nothing there: %d, %v, idle %d times", n, err, d.idle)
	}
	d = &script{space: make([]byte, 10), wake: func() { b.Write([]byte("hello")) }}
	if n, err := s.Read(d); string(d.space[:n]) != "hello" || err != nil || d.idle == 0 || d.asked != d.idle+1 {
		t.Errorf("%q, %v; idle %d times, asked %d times for space", d.space[:n], err, d.idle, d.asked)
	}
	a.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := s.Read(&script{space: make([]byte, 10)}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	a.SetReadDeadline(time.Time{})
	b.CloseWrite()
	if _, err := s.Read(&script{space: make([]byte, 10)}); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	a.Close()
	if _, err := s.Read(&script{space: make([]byte, 10)}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestReadNamesTheConnection(t *testing.T) {
	a, b := pair(t)
	s := mustBe(t, a)
	b.SetLinger(0)
	b.Close()
	_, err := s.Read(&script{space: make([]byte, 10)})
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "read" || op.Addr == nil || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset: %#v", err)
	}
}

func TestTryWrite(t *testing.T) {
	a, b := pair(t)
	s := mustBe(t, a)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	sent := 0
	for {
		n, err := s.TryWrite(data)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break // it would have to wait
		}
		sent += n
	}
	a.CloseWrite()
	if n, err := io.Copy(io.Discard, b); n != int64(sent) || err != nil {
		t.Errorf("%d bytes arrived of %d, %v", n, sent, err)
	}
	b.Close()
}

// embedded is no socket of ours: it may change what goes through it.
type embedded struct{ *net.TCPConn }

func TestOfEmbedded(t *testing.T) {
	a, _ := pair(t)
	if Of(embedded{a}) != nil {
		t.Error("what embeds a socket is taken for one")
	}
}
