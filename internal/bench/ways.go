package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// A Way carries connections from clients to an application.
type Way struct {
	Name string

	// Start serves app and returns how to connect to it. What it starts ends with tb.
	Start func(tb testing.TB, app App) Dial
}

// An App serves one connection and closes it.
type App func(net.Conn)

// A Dial connects to the application. It may be called concurrently.
type Dial func() (net.Conn, error)

// Relayed is w with the application not at its end, but behind a relay on a TCP
// connection of its own for each connection.
func Relayed(w Way) Way {
	return Way{Name: w.Name + "+tcp", Start: func(tb testing.TB, app App) Dial {
		dial := TCP().Start(tb, app)
		return w.Start(tb, func(conn net.Conn) {
			behind, err := dial()
			if err != nil {
				tb.Error(err)
				conn.Close()
				return
			}
			_, _ = hbone.Relay(context.Background(), conn, behind)
		})
	}}
}

// TCP connects directly: the limit of all.
func TCP() Way {
	return Way{Name: "tcp", Start: func(tb testing.TB, app App) Dial {
		addr := Listen(tb, app)
		return func() (net.Conn, error) { return DialTCP(addr) }
	}}
}

// TLS is crypto/tls on TCP, a connection each: the limit of one hop.
func TLS() Way {
	return Way{Name: "tls", Start: func(tb testing.TB, app App) Dial {
		ca := newCA()
		addr := Listen(tb, func(conn net.Conn) { app(ca.server(conn)) })
		return func() (net.Conn, error) {
			conn, err := DialTCP(addr)
			if err != nil {
				return nil, err
			}
			return ca.client(conn)
		}
	}}
}

// TLSInTLS is TLS to the application inside of TLS to a gateway that relays bytes over TCP: the
// limit of two hops.
func TLSInTLS() Way {
	return Way{Name: "tls-in-tls", Start: func(tb testing.TB, app App) Dial {
		ca := newCA()
		behind := Listen(tb, func(conn net.Conn) { app(ca.server(conn)) })
		gateway := Listen(tb, func(conn net.Conn) {
			onward, err := DialTCP(behind)
			if err != nil {
				tb.Error(err)
				conn.Close()
				return
			}
			_, _ = hbone.Relay(context.Background(), ca.server(conn), onward)
		})
		return func() (net.Conn, error) {
			conn, err := DialTCP(gateway)
			if err != nil {
				return nil, err
			}
			outer, err := ca.client(conn)
			if err != nil {
				return nil, err
			}
			return ca.client(outer)
		}
	}}
}

// HBONE is package hbone with default settings, over one hop or two: then through a gateway
// that forwards each outer stream over TCP. All connections share one tunnel.
func HBONE(hops int) Way {
	name := map[int]string{1: "hbone", 2: "hbone-2"}[hops]
	return Way{Name: name, Start: func(tb testing.TB, app App) Dial {
		ca := newCA()
		last := ca.serve(tb, accepting(app))
		path := hbone.Path{Spread: 1, Hops: []hbone.Hop{{Address: last, Authority: "app.bench:80", TLS: ca.clientCredentials()}}}
		if hops == 2 {
			gateway := ca.serve(tb, forwarding(last))
			path.Hops = []hbone.Hop{
				{Address: gateway, Authority: "app.bench:80", TLS: ca.clientCredentials()},
				{Authority: "app.bench:80", TLS: ca.clientCredentials()},
			}
		}
		transport := &hbone.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) { return DialTCP(addr) }}
		tb.Cleanup(func() { transport.Close() })
		return func() (net.Conn, error) {
			conn, err := transport.Dial(context.Background(), path)
			if err != nil {
				return nil, err
			}
			return conn, nil
		}
	}}
}

func accepting(app App) func(*hbone.Request) {
	return func(r *hbone.Request) {
		if conn, err := r.Accept(nil); err == nil {
			app(conn)
		}
	}
}

func forwarding(addr string) func(*hbone.Request) {
	return func(r *hbone.Request) {
		onward, err := DialTCP(addr)
		if err != nil {
			_ = r.Reject(http.StatusServiceUnavailable)
			return
		}
		conn, err := r.Accept(nil)
		if err != nil {
			onward.Close()
			return
		}
		_, _ = hbone.Relay(r.Context(), conn, onward)
	}
}

// Listen serves TCP connections on loopback, each in a goroutine, until tb ends, and returns the address.
func Listen(tb testing.TB, serve func(net.Conn)) string {
	l := listen(tb)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

func listen(tb testing.TB) net.Listener {
	lc := net.ListenConfig{Control: withoutPacing}
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	return l
}

// DialTCP connects to an address of Listen.
func DialTCP(addr string) (net.Conn, error) {
	d := net.Dialer{Control: withoutPacing}
	return d.Dial("tcp", addr)
}

// A ca has one client and one server, which trust each other.
type ca struct {
	*testca.CA
	clientTLS, serverTLS *tls.Config
}

func newCA() *ca {
	c := &ca{CA: testca.New("cluster.local")}
	c.clientTLS = c.ClientConfig(c.Issue("/client"), "/server")
	c.serverTLS = c.ServerConfig(c.Issue("/server"), "/client")
	// As hbone has it: all records as large as they may be. It costs the baseline
	// nothing, and makes no difference after the first 128 KiB.
	c.clientTLS.DynamicRecordSizingDisabled = true
	c.serverTLS.DynamicRecordSizingDisabled = true
	return c
}

func (c *ca) clientCredentials() hbone.Credentials { return c.Client(c.Issue("/client"), "/server") }

// client does the handshake, which in TLS 1.3 tells a client nothing about its own certificate.
func (c *ca) client(conn net.Conn) (net.Conn, error) {
	t := tls.Client(conn, c.clientTLS)
	if err := t.Handshake(); err != nil {
		conn.Close()
		return nil, err
	}
	return t, nil
}

func (c *ca) server(conn net.Conn) net.Conn { return tls.Server(conn, c.serverTLS) }

// serve runs an HBONE server until tb ends, and returns its address.
func (c *ca) serve(tb testing.TB, handler func(*hbone.Request)) string {
	l := listen(tb)
	s := &hbone.Server{TLS: c.Server(c.Issue("/server"), "/client"), Handler: handler}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(context.Background(), l); !errors.Is(err, hbone.ErrClosed) && !errors.Is(err, io.EOF) {
			tb.Error(err)
		}
	}()
	tb.Cleanup(func() {
		s.Close()
		<-done
	})
	return l.Addr().String()
}
