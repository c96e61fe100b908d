package hbonetest_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone/hbonetest"
)

// The suite is held to net/http's server, which speaks HTTP/2 well and knows
// nothing of HBONE. What it does wrong as a tunnel is listed, and a listed
// failure that passes fails the run: so the test shows that the suite finds
// what it is there for, and lets pass what is right. (The client of net/http
// cannot go through: it deadlocks on some of what a server must not send.)

func TestNetHTTPServer(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for what hangs")
	}
	t.Parallel()
	opts := hbonetest.Options{
		Timeout:  2 * time.Second, // what hangs is listed as a failure
		Quiet:    30 * time.Millisecond,
		Patience: -1,
		Transfer: 1 << 20,
	}
	opts.KnownFailures = known(map[string][]string{
		"net/http cannot end the server's direction and go on reading": {
			"connect-ended/half-closed-at-once", "data-bytes/large-transfer", "data-bytes/odd-writes", "end-half-close/application-first",
			"end-half-close/peer-first", "end-half-close/both-at-once", "end-half-close/with-closed-windows", "end-abort-received/after-half-close",
			"end-late-frames/updates-after-both-ends", "goaway-received/open-streams-go-on", "nested-data/relay-cuts-anywhere",
		},
		"this server answers 503 to all that it does not know":          {"connect-authority-malformed/refused"},
		"a deadline that passed cannot be moved":                        {"conn-deadlines/read", "conn-deadlines/write"},
		"the connection's window is no larger than a stream's":          {"flow-isolation/stalled-reader"},
		"GOAWAY comes in one step, so streams that race it are ignored": {"goaway-sent/racing-streams-are-served"},
		"only what it has queued is bounded": {
			"limit-continuation/endless-block", "limit-flood/settings", "limit-flood/settings-changing-the-window", "limit-flood/empty-data",
			"limit-flood/priority", "limit-flood/window-update", "limit-flood/unknown-frames",
		},
	})
	opts.Skip = map[string]string{
		"limit-flood/rapid-reset":        "it ends only a flood that its handlers cannot keep up with",
		"limit-flood/malformed-requests": "as above",
		"limit-flood/ping":               "it ends only a flood whose answers it cannot send fast enough",
	}
	hbonetest.TestServer(t, startServer, opts)
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams := make(chan net.Conn)
	server := &http.Server{
		TLSConfig: creds.ServerTLS(),
		ErrorLog:  log.New(io.Discard, "", 0), // it is treated badly, on purpose
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
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
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
