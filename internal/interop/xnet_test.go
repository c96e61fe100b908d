//nolint:staticcheck // deprecated, and still what pkg/hbone and others are made of
package interop

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// xnetClientFails are those of the client of golang.org/x/net/http2, as a
// connection. The abort of a stream it reports.
var xnetClientFails = map[string]error{
	"deadline": errNoDeadline, // a body has none
}

// xnetServerFails are those of the server of golang.org/x/net/http2.
var xnetServerFails = map[string]error{
	"application ends first": errTailLost, // a response ends when its handler does
}

var xnetRoutes = []route{
	{"x/net/http2 to Server", func(t testing.TB, w *World) DialFunc {
		return w.xnetClient(t, must(w.Server())(t), &http2.Transport{})
	}, xnetClientFails},
	{"x/net/http2 to Server, large frames and pings", func(t testing.TB, w *World) DialFunc {
		return w.xnetClient(t, must(w.Server())(t), &http2.Transport{MaxReadFrameSize: 1 << 20, ReadIdleTimeout: 100 * time.Millisecond})
	}, xnetClientFails},
	{"Transport to x/net/http2", func(t testing.TB, w *World) DialFunc {
		return w.Client(w.xnetServer(t, &http2.Server{}), 1)
	}, xnetServerFails},
	{"Transport to x/net/http2, small windows and few streams", func(t testing.TB, w *World) DialFunc {
		return w.Client(w.xnetServer(t, &http2.Server{
			MaxConcurrentStreams:         3,
			MaxUploadBufferPerConnection: 1 << 16,
			MaxUploadBufferPerStream:     1 << 10,
			MaxReadFrameSize:             1 << 14,
		}), 1)
	}, xnetServerFails},
}

// xnetClient makes a client of golang.org/x/net/http2 for the server at addr,
// one hop.
func (w *World) xnetClient(t testing.TB, addr string, tr *http2.Transport) DialFunc {
	tr.TLSClientConfig = w.ca.ClientConfig(w.ca.Issue(clientID), serverID)
	t.Cleanup(tr.CloseIdleConnections)
	return func(ctx context.Context, authority string) (net.Conn, error) {
		r, body := io.Pipe()
		ctx, cancel := detach(ctx)
		req := (&http.Request{
			Method: http.MethodConnect,
			URL:    &url.URL{Scheme: "https", Host: addr},
			Host:   authority,
			Header: make(http.Header),
			Body:   r,
		}).WithContext(ctx)
		res, err := tr.RoundTrip(req)
		if err != nil {
			cancel()
			return nil, err
		}
		if res.StatusCode != http.StatusOK {
			res.Body.Close()
			cancel()
			return nil, fmt.Errorf("status %s", res.Status)
		}
		return &requestConn{body: body, res: res, cancel: cancel}, nil
	}
}

// detach returns a context that ends with ctx only until the dial is done,
// since a response's body ends with its request's context.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return ctx, func() {}
	}
	return context.WithCancel(context.WithoutCancel(ctx))
}

// A requestConn is a CONNECT of an HTTP client as a connection, as far as that goes.
type requestConn struct {
	body   *io.PipeWriter
	res    *http.Response
	cancel context.CancelFunc
}

func (c *requestConn) Read(p []byte) (int, error)  { return c.res.Body.Read(p) }
func (c *requestConn) Write(p []byte) (int, error) { return c.body.Write(p) }
func (c *requestConn) CloseWrite() error           { return c.body.Close() }

// Abort lets the request's body fail, which resets the stream. The end of its
// context would not be noticed before the body is read again.
func (c *requestConn) Abort(error) { c.body.CloseWithError(io.ErrUnexpectedEOF) }

func (c *requestConn) Close() error {
	c.body.Close()
	err := c.res.Body.Close()
	c.cancel()
	return err
}

func (c *requestConn) LocalAddr() net.Addr                { return nil }
func (c *requestConn) RemoteAddr() net.Addr               { return nil }
func (c *requestConn) SetDeadline(time.Time) error        { return errNoDeadline }
func (c *requestConn) SetReadDeadline(time.Time) error    { return errNoDeadline }
func (c *requestConn) SetWriteDeadline(t time.Time) error { return errNoDeadline }

// xnetServer runs a server of golang.org/x/net/http2 that relays CONNECTs as well as
// a handler can.
func (w *World) xnetServer(t testing.TB, s *http2.Server) (addr string) {
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	base := &http.Server{TLSConfig: w.serverTLS(serverID), Handler: http.HandlerFunc(connectHandler)}
	if err := http2.ConfigureServer(base, s); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = base.ServeTLS(l, "", "") })
	w.onClose(func() {
		base.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

func connectHandler(w http.ResponseWriter, r *http.Request) {
	tcp, err := new(net.Dialer).DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer tcp.Close()
	flush := http.NewResponseController(w).Flush
	w.WriteHeader(http.StatusOK)
	_ = flush()
	var up sync.WaitGroup
	up.Go(func() {
		if _, err := io.Copy(tcp, r.Body); err != nil {
			_ = tcp.(*net.TCPConn).SetLinger(0) // RST
			tcp.Close()
			return
		}
		_ = tcp.(*net.TCPConn).CloseWrite()
	})
	buf := make([]byte, chunk)
	for {
		n, err := tcp.Read(buf)
		_, _ = w.Write(buf[:n])
		_ = flush()
		if err == io.EOF {
			r.Body.Close() // or the handler, and so the response, may never end
			up.Wait()
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}
