package hbone_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/internal/memnet"
	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// A world is a small mesh in memory: hosts on a network, one CA for all, and
// servers that end with the test.
type world struct {
	testing.TB
	net memnet.Network
	ca  *testca.CA
}

const (
	webID     = "/ns/app/sa/web"     // the client
	podID     = "/ns/app/sa/reviews" // the backends
	gatewayID = "/ns/istio-system/sa/gateway"

	gatewayAddr = "gateway:15008"
	podAddr     = "pod-1:15008"
	reviews     = "reviews.app.svc.cluster.local:80"
	ratings     = "ratings.app.svc.cluster.local:80"
)

func newWorld(t testing.TB) *world { return &world{TB: t, ca: testca.New("cluster.local")} }

// transport dials from the host "client".
func (w *world) transport() *hbone.Transport {
	t := &hbone.Transport{DialContext: w.net.Host("client").Dial}
	w.Cleanup(func() { t.Close() })
	return t
}

// client are the credentials of webID for servers with the given IDs.
func (w *world) client(servers ...string) *testca.Credentials {
	return w.ca.Client(w.ca.Issue(webID), servers...)
}

// oneHop is the way to a pod on our own network.
func (w *world) oneHop() hbone.Path {
	return hbone.Path{Hops: []hbone.Hop{
		{Address: podAddr, Authority: "10.1.0.10:8080", TLS: w.client(podID)},
	}}
}

// twoHops is the way to a service behind the gateway.
func (w *world) twoHops(service string) hbone.Path {
	return hbone.Path{
		Spread: 1,
		Hops: []hbone.Hop{
			{Address: gatewayAddr, Authority: service, TLS: w.client(gatewayID)},
			{Authority: service, TLS: w.client(podID)},
		},
	}
}

// serve runs s on address until the test ends.
func (w *world) serve(address string, s *hbone.Server) *hbone.Server {
	w.Helper()
	l, err := w.net.Listen(address)
	if err != nil {
		w.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := s.Serve(context.Background(), l); !errors.Is(err, hbone.ErrClosed) {
			w.Errorf("Serve(%s) = %v, want ErrClosed", address, err)
		}
	})
	w.Cleanup(func() {
		s.Close()
		done.Wait()
	})
	return s
}

// played serves podID on podAddr, over TLS, by a server that is played frame by frame.
func (w *world) played(server func(net.Conn)) {
	w.Helper()
	l, err := w.net.Listen(podAddr)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { l.Close() })
	cfg := w.ca.ServerConfig(w.ca.Issue(podID))
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go server(tls.Server(nc, cfg))
		}
	}()
}

// answerAll is the rest of such a server: it accepts the streams that it takes, and refuses others.
func answerAll(fr *http2.Framer, takes func() bool) {
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			if !takes() {
				_ = fr.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream)
				continue
			}
			// ":status: 200", from the static table (RFC 7541 appendix A).
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: []byte{0x88}, EndHeaders: true})
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = fr.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = fr.WritePing(true, f.Data)
			}
		}
	}
}

// pod serves podID on address.
func (w *world) pod(address string, handler func(*hbone.Request)) *hbone.Server {
	w.Helper()
	return w.podWithLimit(address, 0, handler)
}

// podWithLimit takes at most maxStreams streams on a tunnel.
func (w *world) podWithLimit(address string, maxStreams int, handler func(*hbone.Request)) *hbone.Server {
	w.Helper()
	return w.serve(address, &hbone.Server{
		TLS:        w.ca.Server(w.ca.Issue(podID), webID),
		Handler:    handler,
		MaxStreams: maxStreams,
	})
}

// A dialer is a host on a network.
type dialer interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// A gateway terminates outer CONNECTs and forwards the bytes within, which it
// cannot read, to the next backend of the service that they ask for.
type gateway struct {
	*hbone.Server
	host   dialer
	reveal bool // names the backend in its answers

	mu       sync.Mutex
	backends map[string][]string // by authority
	pick     func([]string) int  // nil: one after the other
	streams  int
	headers  []http.Header // of all CONNECTs
}

func (w *world) gateway(backends map[string][]string) *gateway {
	w.Helper()
	g := &gateway{host: w.net.Host("gateway"), backends: backends, reveal: true}
	g.Server = w.serve(gatewayAddr, &hbone.Server{
		TLS:     w.ca.Server(w.ca.Issue(gatewayID), webID),
		Handler: g.forward,
	})
	return g
}

func (g *gateway) forward(r *hbone.Request) {
	backend := g.next(r)
	if backend == "" {
		_ = r.Reject(http.StatusNotFound)
		return
	}
	nc, err := g.host.Dial(r.Context(), "tcp", backend)
	if err != nil {
		_ = r.Reject(http.StatusServiceUnavailable)
		return
	}
	h := http.Header{}
	if g.reveal {
		h.Set(hbone.HeaderBackend, backend)
	}
	conn, err := r.Accept(h)
	if err != nil {
		nc.Close()
		return
	}
	_, _ = hbone.Relay(context.Background(), conn, nc)
}

func (g *gateway) next(r *hbone.Request) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.headers = append(g.headers, r.Header())
	list := g.backends[r.Authority()]
	if len(list) == 0 {
		return ""
	}
	g.streams++
	if g.pick != nil {
		return list[g.pick(list)]
	}
	return list[g.streams%len(list)]
}

// seen returns the headers of all CONNECTs that came.
func (g *gateway) seen() []http.Header {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.headers)
}

func (g *gateway) set(service string, backends ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.backends[service] = backends
}

// echo sends back what comes, and ends when the client does.
func echo(r *hbone.Request) {
	conn, err := r.Accept(nil)
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := io.Copy(conn, conn); err == nil {
		_ = conn.CloseWrite()
	}
}

// hold accepts, and keeps the stream until the client or the server ends it.
func hold(r *hbone.Request) {
	if conn, err := r.Accept(nil); err == nil {
		defer conn.Close()
		<-r.Context().Done()
	}
}

func mustDial(t testing.TB, tr *hbone.Transport, p hbone.Path) *hbone.Conn {
	t.Helper()
	conn, err := tr.Dial(context.Background(), p)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	return conn
}

// wantEcho sends msg over conn and expects it back.
func wantEcho(t testing.TB, conn net.Conn, msg string) {
	t.Helper()
	if _, err := io.WriteString(conn, msg); err != nil {
		t.Fatalf("write: %v", err)
	}
	got := make([]byte, len(msg))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatalf("read: %v", err)
	}
	if string(got) != msg {
		t.Fatalf("echo = %q, want %q", got, msg)
	}
}

// wantHop expects a *HopError for a hop and phase, and returns it.
func wantHop(t testing.TB, err error, hop int, phase hbone.Phase) *hbone.HopError {
	t.Helper()
	var he *hbone.HopError
	if !errors.As(err, &he) {
		t.Fatalf("error = %v (%T), want a *HopError", err, err)
	}
	if he.Hop != hop || he.Phase != phase {
		t.Fatalf("error %q: hop %d, phase %s; want hop %d, phase %s", err, he.Hop, he.Phase, hop, phase)
	}
	return he
}
