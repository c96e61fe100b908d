package hbonetest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone/hbonetest"
	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// The suite is held to net/http, which speaks HTTP/2 well and knows nothing of
// HBONE. What it does wrong as a tunnel is listed, and a listed failure that
// passes fails the run: so these tests show that the suite finds what it is
// there for, and lets pass what is right.

var netHTTP = hbonetest.Options{Run: synctest.Test, Quiet: time.Second}

func TestNetHTTPServer(t *testing.T) {
	opts := netHTTP
	opts.KnownFailures = known(map[string][]string{
		"net/http cannot end the server's direction and go on reading": {
			"connect-ended/half-closed-at-once", "data-bytes/large-transfer", "data-bytes/odd-writes", "end-half-close/application-first",
			"end-half-close/peer-first", "end-half-close/both-at-once", "end-half-close/with-closed-windows", "end-abort-received/after-half-close",
			"end-late-frames/updates-after-both-ends", "goaway-received/open-streams-go-on", "nested-data/relay-cuts-anywhere",
		},
		"a deadline that passed cannot be moved":                        {"conn-deadlines/read", "conn-deadlines/write"},
		"the connection's window is no larger than a stream's":          {"flow-isolation/stalled-reader"},
		"GOAWAY comes in one step, so streams that race it are ignored": {"goaway-sent/racing-streams-are-served"},
		"only what it has queued is bounded": {
			"limit-continuation/endless-block", "limit-flood/settings", "limit-flood/settings-changing-the-window", "limit-flood/empty-data",
			"limit-flood/priority", "limit-flood/window-update", "limit-flood/unknown-frames",
		},
	})
	hbonetest.TestServer(t, startServer, opts)
}

func TestNetHTTPClient(t *testing.T) {
	opts := netHTTP
	opts.KnownFailures = known(map[string][]string{
		"without ALPN it speaks HTTP/1.1": {"tls-alpn/none-agreed"},
	})
	hbonetest.TestClient(t, startClient, opts)
}

// known turns reasons and their tests into tests and their reasons.
func known(failures map[string][]string) map[string]string {
	byTest := map[string]string{}
	for reason, tests := range failures {
		for _, name := range tests {
			byTest[name] = reason
		}
	}
	return byTest
}

var authorities = []string{"10.1.0.10:8080", "[2001:db8::10]:8080", "reviews.app.svc.cluster.local:80"}

func startServer(t *testing.T, creds hbonetest.Credentials) hbonetest.Server {
	network := new(memnet.Network)
	l, err := network.Listen("server:15008")
	if err != nil {
		t.Fatal(err)
	}
	streams := make(chan net.Conn)
	server := &http.Server{
		TLSConfig: creds.ServerTLS(),
		Protocols: new(http.Protocols),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method != http.MethodConnect:
				w.WriteHeader(http.StatusBadRequest)
			case !slices.Contains(authorities, r.Host):
				w.WriteHeader(http.StatusServiceUnavailable)
			default:
				serve(w, r, streams)
			}
		}),
	}
	server.Protocols.SetHTTP2(true)
	go server.ServeTLS(l, "", "")
	t.Cleanup(func() { server.Close() })
	return hbonetest.Server{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return network.Host("client").Dial(ctx, "tcp", "server:15008")
		},
		Accept: func(ctx context.Context) (net.Conn, error) {
			select {
			case c := <-streams:
				return c, nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		},
		AcceptAnswers: true,
		Authorities:   authorities,
		Drain:         server.Shutdown,
	}
}

func serve(w http.ResponseWriter, r *http.Request, streams chan<- net.Conn) {
	c := &serverConn{w: w, r: r, closed: make(chan struct{})}
	c.flush = http.NewResponseController(w)
	select {
	case streams <- c:
	case <-r.Context().Done():
		return
	}
	w.WriteHeader(http.StatusOK)
	_ = c.flush.Flush()
	select {
	case <-c.closed:
	case <-r.Context().Done():
		c.Close()
	}
	c.mu.Lock() // net/http panics on writes after the handler
	defer c.mu.Unlock()
}

// A serverConn is a request of net/http as a net.Conn.
type serverConn struct {
	w     http.ResponseWriter
	r     *http.Request
	flush *http.ResponseController

	mu     sync.Mutex
	once   sync.Once
	closed chan struct{}
}

func (c *serverConn) Read(b []byte) (int, error) { return c.r.Body.Read(b) }

func (c *serverConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	n, err := c.w.Write(b)
	if err == nil {
		err = c.flush.Flush()
	}
	return n, err
}

func (c *serverConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *serverConn) Header() http.Header  { return c.r.Header }
func (c *serverConn) LocalAddr() net.Addr  { return nil }
func (c *serverConn) RemoteAddr() net.Addr { return nil }
func (c *serverConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
func (c *serverConn) SetReadDeadline(t time.Time) error  { return c.flush.SetReadDeadline(t) }
func (c *serverConn) SetWriteDeadline(t time.Time) error { return errors.ErrUnsupported } // it would end the request

func startClient(t *testing.T) hbonetest.Client {
	network := new(memnet.Network)
	var mu sync.Mutex
	transports := map[string]*http.Transport{}
	t.Cleanup(func() {
		for _, rt := range transports {
			rt.CloseIdleConnections()
		}
	})
	transport := func(hop hbonetest.Hop) *http.Transport { // one for each identity
		mu.Lock()
		defer mu.Unlock()
		key := hop.Credentials.Certificate.Leaf.URIs[0].String()
		for _, peer := range hop.Credentials.Peers {
			key += " " + peer
		}
		if transports[key] == nil {
			rt := &http.Transport{DialContext: network.Host("client").Dial, TLSClientConfig: hop.Credentials.ClientTLS(), Protocols: new(http.Protocols), DisableCompression: true}
			rt.Protocols.SetHTTP2(true)
			transports[key] = rt
		}
		return transports[key]
	}
	return hbonetest.Client{
		Dial: func(ctx context.Context, hops []hbonetest.Hop) (net.Conn, error) {
			if len(hops) > 1 {
				return nil, errors.New("net/http cannot nest")
			}
			return dial(ctx, transport(hops[0]), hops[0])
		},
		Listen: func() (net.Listener, error) { return network.Listen("server:15008") },
	}
}

func dial(ctx context.Context, rt *http.Transport, hop hbonetest.Hop) (net.Conn, error) {
	body, w := io.Pipe()
	streamCtx, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	header := hop.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	resp, err := rt.RoundTrip((&http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Scheme: "https", Host: hop.Address},
		Host:   hop.Authority,
		Header: header,
		Body:   body,
	}).WithContext(streamCtx))
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		err = errors.New(resp.Status)
	}
	if err != nil {
		cancel()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return &clientConn{resp.Body, w, cancel}, nil
}

// A clientConn is a response of net/http as a net.Conn.
type clientConn struct {
	io.ReadCloser
	w      *io.PipeWriter
	cancel context.CancelFunc
}

func (c *clientConn) Write(b []byte) (int, error) { return c.w.Write(b) }
func (c *clientConn) CloseWrite() error           { return c.w.Close() }

func (c *clientConn) Abort(cause error) { c.cancel() }

func (c *clientConn) Close() error {
	c.w.Close()
	return c.ReadCloser.Close()
}

func (c *clientConn) LocalAddr() net.Addr              { return nil }
func (c *clientConn) RemoteAddr() net.Addr             { return nil }
func (c *clientConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (c *clientConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (c *clientConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
