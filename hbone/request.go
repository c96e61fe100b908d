package hbone

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
)

// A Request is one CONNECT that waits for its answer.
type Request struct {
	conn Conn // what Accept returns
}

// Authority returns the :authority: where the client wants to go. It is as
// sent: host:port, with an IPv6 address in brackets and a port number. It must
// not be trusted to be one that we serve.
func (r *Request) Authority() string { return r.conn.stream.Authority() }

// Header returns the header of the CONNECT. It must not be changed.
func (r *Request) Header() http.Header { return r.conn.stream.RequestHeader() }

// TLS returns the state of the tunnel, and so who the client is. It is zero if
// the server is Plaintext.
func (r *Request) TLS() tls.ConnectionState { return r.conn.server.state }

// LocalAddr returns the address that the client connected to.
func (r *Request) LocalAddr() net.Addr { return r.conn.stream.LocalAddr() }

// RemoteAddr returns the address that the client, or the gateway before us,
// connected from.
func (r *Request) RemoteAddr() net.Addr { return r.conn.stream.RemoteAddr() }

// Tunnel returns the number of the tunnel, unique in its Server.
func (r *Request) Tunnel() uint64 { return r.conn.server.id }

// Context is done when the stream, or its tunnel, has ended: so also when the
// client no longer waits for the answer. context.Cause says why.
func (r *Request) Context() context.Context { return r.conn.stream.Context() }

// Accept answers with status 200 and the given header, which may be nil, and
// returns the stream. The client takes that as "connected": dial the far side
// first. The caller must close the Conn, which outlives the Handler.
func (r *Request) Accept(h http.Header) (*Conn, error) {
	// Listed before the client hears of it: whoever goes through the streams to
	// apply a new policy must not miss one that is already in use.
	c := &r.conn
	server := c.server.server
	added := server.addStream(c)
	if err := c.stream.Accept(h); err != nil {
		if added { // or else it was accepted before
			server.removeStream(c.stream)
		}
		return nil, err
	}
	return c, nil
}

// Reject answers with a status from 300 to 599 and ends the stream. What
// ztunnel uses: 400 for a bad authority, 401 for denied by policy, 503 for a
// destination that is unknown or does not answer.
func (r *Request) Reject(status int) error {
	if status < 300 || status > 599 {
		return fmt.Errorf("hbone: reject with status %d: want 300 to 599", status)
	}
	return r.conn.stream.Reject(status, nil)
}
