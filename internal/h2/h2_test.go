package h2

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A wire makes the two ends of a connection that an engine runs over.
type wire func(t testing.TB) (client, server net.Conn)

func memWire(testing.TB) (client, server net.Conn) { return memnet.Pipe() }

// netPipeWire has no room for even one byte: everything goes through the blocking path.
func netPipeWire(testing.TB) (client, server net.Conn) { return net.Pipe() }

func tcpWire(t testing.TB) (client, server net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

// overTLS puts TLS on a wire.
func overTLS(w wire) wire {
	return func(t testing.TB) (client, server net.Conn) {
		c, s := w(t)
		cert := testCertificate(t)
		pool := x509.NewCertPool()
		pool.AddCert(cert.Leaf)
		return TLSClient(c, &tls.Config{RootCAs: pool, ServerName: "test", NextProtos: []string{"h2"}}),
			TLSServer(s, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
	}
}

// overStream puts an engine on a wire, and gives the ends of one of its streams.
func overStream(w wire) wire {
	return func(t testing.TB) (client, server net.Conn) { return openPair(t, w, Config{}) }
}

func testCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"test"},
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// newPair makes two engines over a wire. They are closed when the test ends.
func newPair(t testing.TB, w wire, cfg Config, handle func(*Stream)) (client, server *Conn) {
	t.Helper()
	return newUnlikePair(t, w, cfg, cfg, handle)
}

// newUnlikePair is newPair with ends that are configured differently.
func newUnlikePair(t testing.TB, w wire, clientCfg, serverCfg Config, handle func(*Stream)) (client, server *Conn) {
	t.Helper()
	cn, sn := w(t)
	ready := make(chan error, 1)
	go func() {
		var err error
		server, err = NewServer(sn, serverCfg, handle)
		ready <- err
	}()
	client, err := NewClient(cn, clientCfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

// accepting is a handler that accepts all streams and sends them to a channel.
func accepting() (handle func(*Stream), accepted <-chan *Stream) {
	ch := make(chan *Stream, 1000)
	return func(s *Stream) {
		if s.Accept(nil) == nil {
			ch <- s
		}
	}, ch
}

// openPair makes two engines over a wire and gives both ends of a stream.
func openPair(t testing.TB, w wire, cfg Config) (client, server *Stream) {
	t.Helper()
	handle, accepted := accepting()
	c, _ := newPair(t, w, cfg, handle)
	return mustOpen(t, c), <-accepted
}

func mustOpen(t testing.TB, c *Conn) *Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := c.Open(ctx, "reviews.app.svc.cluster.local:80", http.Header{"Baggage": {"k8s.cluster.name=east"}})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

func TestStreamIsANetConn(t *testing.T) {
	wires := map[string]wire{
		"memnet":          memWire,
		"net.Pipe":        netPipeWire,
		"tcp":             tcpWire,
		"memnet+TLS":      overTLS(memWire),
		"tcp+TLS":         overTLS(tcpWire),
		"nested":          overTLS(overStream(overTLS(memWire))),
		"nested over tcp": overTLS(overStream(overTLS(tcpWire))),
		"nested three":    overStream(overStream(memWire)),
	}
	for name, w := range wires {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // its subtests mostly wait for deadlines
			for _, end := range []string{"client", "server"} {
				t.Run(end, func(t *testing.T) {
					nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
						c, s := openPair(t, w, Config{})
						if end == "server" {
							return s, c, func() { s.Close(); c.Close() }, nil
						}
						return c, s, func() { s.Close(); c.Close() }, nil
					})
				})
			}
		})
	}
}
