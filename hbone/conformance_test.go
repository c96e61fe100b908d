package hbone_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/hbone/hbonetest"
	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// inBubbles runs the suites in virtual time, over a network in memory.
var inBubbles = hbonetest.Options{Run: synctest.Test, Quiet: time.Second}

func TestClientConformance(t *testing.T) { hbonetest.TestClient(t, clientInMemory, inBubbles) }

func TestServerConformance(t *testing.T) { hbonetest.TestServer(t, serverInMemory, inBubbles) }

// TestConformanceOverTCP runs the same over real sockets, whose buffers and
// resets a network in memory does not have.
func TestConformanceOverTCP(t *testing.T) {
	opts := hbonetest.Options{Quiet: 20 * time.Millisecond, Patience: -1}
	t.Run("client", func(t *testing.T) {
		hbonetest.TestClient(t, func(t *testing.T) hbonetest.Client {
			return clientUnderTest(t, new(hbone.Transport))
		}, opts)
	})
	t.Run("server", func(t *testing.T) {
		hbonetest.TestServer(t, func(t *testing.T, creds hbonetest.Credentials) hbonetest.Server {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := serverUnderTest(t, l, creds)
			s.Dial = func(ctx context.Context) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
			}
			return s
		}, opts)
	})
}

// TestPlaintextConformance runs what does not need TLS without it.
func TestPlaintextConformance(t *testing.T) {
	opts := inBubbles
	opts.Plaintext = true
	t.Run("client", func(t *testing.T) { hbonetest.TestClient(t, clientInMemory, opts) })
	t.Run("server", func(t *testing.T) { hbonetest.TestServer(t, serverInMemory, opts) })
}

// TestConformanceThroughAGateway holds a server to the same that is reached
// through a stream of another: what is in a nested tunnel is no different.
func TestConformanceThroughAGateway(t *testing.T) {
	hbonetest.TestServer(t, func(t *testing.T, creds hbonetest.Credentials) hbonetest.Server {
		w := newWorld(t)
		w.gateway(map[string][]string{reviews: {podAddr}})
		l, err := w.net.Listen(podAddr)
		if err != nil {
			t.Fatal(err)
		}
		s := serverUnderTest(t, l, creds)
		tr := w.transport()
		s.Dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := tr.Dial(ctx, hbone.Path{Hops: w.twoHops(reviews).Hops[:1]})
			if err != nil {
				return nil, err
			}
			return conn, nil
		}
		return s
	}, inBubbles)
}

// TestGatewayConformance holds a gateway to the same: its application is the
// port of a backend, which gets the bytes as they are.
func TestGatewayConformance(t *testing.T) {
	hbonetest.TestServer(t, func(t *testing.T, creds hbonetest.Credentials) hbonetest.Server {
		w := newWorld(t)
		backend, err := w.net.Listen(podAddr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { backend.Close() })
		g := &gateway{host: w.net.Host("gateway"), backends: map[string][]string{}}
		for _, authority := range suiteAuthorities {
			g.backends[authority] = []string{podAddr}
		}
		g.Server = w.serve(gatewayAddr, &hbone.Server{TLS: suiteCredentials{creds, false}, Handler: g.forward})
		return hbonetest.Server{
			Dial: func(ctx context.Context) (net.Conn, error) {
				return w.net.Host("client").Dial(ctx, "tcp", gatewayAddr)
			},
			Accept: acceptWithin(backend),
			Drain:  g.Shutdown,
		}
	}, inBubbles)
}

func clientInMemory(t *testing.T) hbonetest.Client {
	network := new(memnet.Network)
	c := clientUnderTest(t, &hbone.Transport{DialContext: network.Host("client").Dial})
	c.Listen = func() (net.Listener, error) { return network.Listen("server:15008") }
	return c
}

func serverInMemory(t *testing.T, creds hbonetest.Credentials) hbonetest.Server {
	network := new(memnet.Network)
	l, err := network.Listen("server:15008")
	if err != nil {
		t.Fatal(err)
	}
	s := serverUnderTest(t, l, creds)
	s.Dial = func(ctx context.Context) (net.Conn, error) {
		return network.Host("client").Dial(ctx, "tcp", "server:15008")
	}
	return s
}

func clientUnderTest(t *testing.T, transport *hbone.Transport) hbonetest.Client {
	t.Cleanup(func() { transport.Close() })
	return hbonetest.Client{Dial: func(ctx context.Context, hops []hbonetest.Hop) (net.Conn, error) {
		var path hbone.Path
		path.Spread = 1
		for i, hop := range hops {
			h := hbone.Hop{Address: hop.Address, Authority: hop.Authority, TLS: suiteCredentials{hop.Credentials, true}}
			if i < len(hops)-1 {
				h.TunnelHeader = hop.Header
			} else {
				path.StreamHeader = hop.Header
			}
			if hop.Credentials.ClientTLS() == nil {
				h.TLS = hbone.Plaintext{}
			}
			path.Hops = append(path.Hops, h)
		}
		conn, err := transport.Dial(ctx, path)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}}
}

func serverUnderTest(t *testing.T, l net.Listener, creds hbonetest.Credentials) hbonetest.Server {
	cfg := hbone.ListenConfig{
		TLS: suiteCredentials{creds, false},
		Admit: func(r *hbone.Request) int {
			if !slices.Contains(suiteAuthorities, r.Authority()) {
				return http.StatusServiceUnavailable
			}
			return http.StatusOK
		},
	}
	if creds.ServerTLS() == nil {
		cfg.TLS = hbone.Plaintext{}
	}
	ln := hbone.Listen(l, cfg)
	t.Cleanup(func() { ln.Close() })
	return hbonetest.Server{Accept: acceptWithin(ln), AcceptAnswers: true, Drain: ln.Shutdown}
}

// suiteAuthorities are those that the suite asks for if it is told no others.
var suiteAuthorities = []string{"10.1.0.10:8080", "[2001:db8::10]:8080", "reviews.app.svc.cluster.local:80"}

// acceptWithin is l.Accept with a context.
func acceptWithin(l net.Listener) func(context.Context) (net.Conn, error) {
	type accepted struct {
		conn net.Conn
		err  error
	}
	return func(ctx context.Context) (net.Conn, error) {
		got := make(chan accepted, 1)
		go func() {
			conn, err := l.Accept()
			got <- accepted{conn, err}
		}()
		select {
		case a := <-got:
			return a.conn, a.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// suiteCredentials are the suite's, as hbone wants them.
type suiteCredentials struct {
	hbonetest.Credentials
	client bool
}

func (c suiteCredentials) Config(context.Context) (*tls.Config, error) {
	if c.client {
		return c.ClientTLS(), nil
	}
	return c.ServerTLS(), nil
}

func (c suiteCredentials) Key() string {
	peers := slices.Sorted(slices.Values(c.Peers))
	return fmt.Sprint(c.Certificate.Leaf.URIs, " > ", strings.Join(peers, ","))
}

func (suiteCredentials) Retire(tls.ConnectionState) (time.Time, <-chan struct{}) {
	return time.Time{}, nil
}
