package hbone

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/internal/h2"
)

// A Conn is one stream: what an application, or an inner tunnel, sends and
// receives through all hops of a path. It is a net.Conn in every respect. All
// methods may be called concurrently.
//
// A clean end of the peer's direction reads as io.EOF; an abort is an error.
type Conn struct {
	stream *h2.Stream
	tunnel *tunnel       // the one that the stream is in; nil on a server
	server *serverTunnel // likewise; nil on a client
	reused bool          // the tunnel was there already
}

var (
	_ net.Conn = (*Conn)(nil)
	_ aborter  = (*Conn)(nil)
)

// A HopState tells how a Conn passes one hop.
type HopState struct {
	Authority string              // of the CONNECT at this hop
	Address   string              // what was dialled; on an inner hop, the authority that leads to it; on a server, the client's address
	TLS       tls.ConnectionState // of the tunnel to this hop; zero if the hop is Plaintext
	Header    http.Header         // of the answer to the CONNECT; on a server, of the CONNECT. Must not be changed
	Reused    bool                // the tunnel was there already
	Tunnel    uint64              // number of the tunnel, unique in its Transport or Server
	Backend   Backend             // on an inner hop of a client: which of the gateway's backends it is
}

// Authority returns the :authority of the CONNECT that opened the stream.
func (c *Conn) Authority() string { return c.stream.Authority() }

// Header returns the answer's header on a client, the request's on a server.
// It must not be changed.
func (c *Conn) Header() http.Header {
	if c.server != nil {
		return c.stream.RequestHeader()
	}
	return c.stream.ResponseHeader()
}

// Hops returns the state of each hop, nearest first. On a server there is one:
// the hop that ends here.
func (c *Conn) Hops() []HopState {
	if c.server != nil {
		return []HopState{{
			Authority: c.Authority(),
			Address:   c.RemoteAddr().String(),
			TLS:       c.server.state,
			Header:    c.Header(),
			Tunnel:    c.server.id,
		}}
	}
	hops := slices.Clone(c.tunnel.path)
	for i := range hops {
		hops[i].Reused = hops[i].Reused || c.reused // a tunnel that was there had its way there
	}
	last := &hops[len(hops)-1]
	last.Authority, last.Header, last.Backend = c.Authority(), c.Header(), c.tunnel.backendKnown()
	return hops
}

// Read reads what the peer sent. See net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.stream.Read(p)
	return n, c.explain(err)
}

// readBuffer is Read into a buffer that it takes when there is something for it.
func (c *Conn) readBuffer() (*h2.Buffer, error) {
	b, err := c.stream.ReadBuffer()
	return b, c.explain(err)
}

// WriteTo writes what the peer sends to w until it ends: io.Copy uses it. It
// holds no buffer while it waits.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	n, err := c.stream.WriteTo(w)
	return n, c.explain(err)
}

// Write sends p, waiting for the peer's window. See net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.stream.Write(p)
	return n, c.explain(err)
}

// Close ends both directions. What was written is still delivered; a peer that
// still sends is told to stop.
func (c *Conn) Close() error { return c.explain(c.stream.Close()) }

// CloseWrite ends our direction: the peer reads io.EOF after what was written.
// Reading goes on.
func (c *Conn) CloseWrite() error { return c.explain(c.stream.CloseWrite()) }

// CloseRead drops what the peer sent and still sends. Writing goes on.
func (c *Conn) CloseRead() error { return c.explain(c.stream.CloseRead()) }

// Abort ends both directions at once. Data under way is lost, and the peer is
// told that this is no clean end. Local operations fail with cause; if it is
// nil, with net.ErrClosed.
//
// RFC 9113 §8.5: "A proxy treats any error in the TCP connection [...] as a
// stream error of type CONNECT_ERROR." Peers read other codes, such as CANCEL,
// as a clean end; ztunnel does.
func (c *Conn) Abort(cause error) { c.stream.Reset(http2.ErrCodeConnect, cause) }

// LocalAddr returns the address of the connection that carries the outermost
// tunnel, at our end.
func (c *Conn) LocalAddr() net.Addr { return c.stream.LocalAddr() }

// RemoteAddr returns the address of the connection that carries the outermost
// tunnel, at the peer's end: of the first hop on a client, of the last client
// or gateway on a server.
func (c *Conn) RemoteAddr() net.Addr { return c.stream.RemoteAddr() }

// SetDeadline sets both deadlines. They may be moved at any time, also after
// they passed.
func (c *Conn) SetDeadline(t time.Time) error { return c.stream.SetDeadline(t) }

// SetReadDeadline sets when Read gives up. See net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.stream.SetReadDeadline(t) }

// SetWriteDeadline sets when Write gives up. See net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.stream.SetWriteDeadline(t) }

// explain names the hop if the tunnel or the stream broke. What a net.Conn
// does as a matter of course (io.EOF, deadlines, closed) stays as it is.
func (c *Conn) explain(err error) error {
	if err == nil || c.tunnel == nil {
		return err
	}
	if hop := (*HopError)(nil); errors.As(err, &hop) {
		return hop
	}
	if reset := (*h2.StreamError)(nil); errors.As(err, &reset) && !reset.Remote {
		return err // our own Abort
	} else if reset == nil && !errors.As(err, new(*h2.ConnError)) {
		return err
	}
	return c.tunnel.broken().hopError(PhaseStream, c.Authority(), err)
}

// end tells what a stream that has ended came to.
func (c *Conn) end() StreamEnd {
	sent, received := c.stream.Transferred()
	return StreamEnd{Sent: sent, Received: received, Cause: c.explain(c.stream.Cause())}
}

// unwrap returns the engine's stream if nc is one of ours, so that a tunnel
// inside of it can use more than a net.Conn has.
func unwrap(nc net.Conn) net.Conn {
	if c, ok := nc.(*Conn); ok {
		return c.stream
	}
	return nc
}
