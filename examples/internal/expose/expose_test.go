package expose

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const inside = "10.1.0.10:80"

// exposed passes connections to a loopback address on to inside.
func exposed(ctx context.Context, t *testing.T, network *podnet.Network) (address string, done <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- TCP(ctx, l, network.DialContext, inside) }()
	return l.Addr().String(), result
}

func newNetwork(t *testing.T) *podnet.Network {
	t.Helper()
	n, err := podnet.New(podnet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// echo is an application in the pod network.
func echo(t *testing.T, network *podnet.Network) {
	t.Helper()
	l, err := network.Listen(t.Context(), "tcp", inside)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
}

// TestTCP passes both directions on, with their ends, and ends with its context
// together with the connections that are left.
func TestTCP(t *testing.T) {
	network := newNetwork(t)
	echo(t, network)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	address, done := exposed(ctx, t, network)

	conn := dial(t, address)
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}

	left := dial(t, address)
	if _, err := io.WriteString(left, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(left, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("TCP = %v", err)
	}
	if _, err := left.Read(make([]byte, 1)); err == nil {
		t.Error("a connection goes on")
	}
}

// TestNobodyThere resets, so that it is not taken for an empty answer.
func TestNobodyThere(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	address, done := exposed(ctx, t, newNetwork(t))
	conn, err := net.Dial("tcp", address)
	if err == nil { // else the reset was faster
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
	cancel()
	<-done
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}
