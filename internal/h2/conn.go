package h2

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// A Conn is one end of an HTTP/2 connection. Its methods may be called
// concurrently.
type Conn struct{}

// NewClient starts a client on nc, which it owns from then on.
func NewClient(nc net.Conn, cfg Config) (*Conn, error) { return nil, errors.ErrUnsupported }

// NewServer starts a server on nc, which it owns from then on. Each CONNECT is
// given to handle in a goroutine of its own. The stream is unanswered: handle must
// Accept or Reject it; if it returns without, the answer is status 500.
// An accepted stream outlives handle.
func NewServer(nc net.Conn, cfg Config, handle func(*Stream)) (*Conn, error) {
	return nil, errors.ErrUnsupported
}

// Open sends a CONNECT and waits for its answer. Only status 200 is success;
// any other is a [*StatusError]. While the peer allows no further stream, Open
// waits. When ctx ends first, the stream is reset.
func (c *Conn) Open(ctx context.Context, authority string, h http.Header) (*Stream, error) {
	return nil, errors.ErrUnsupported
}

// Available returns how many streams may be opened now: none if the connection is
// draining or has ended.
func (c *Conn) Available() int { return 0 }

// Streams returns how many streams are open.
func (c *Conn) Streams() int { return 0 }

// NotifyAvailable sets a function that is called when Available may have
// grown, the peer began to drain the connection, or the connection ended. It must be set
// before the connection is used. f is called without locks held; it must not
// block, and must not call Close, CloseWithError or Shutdown.
func (c *Conn) NotifyAvailable(f func()) {}

// Ping measures a round trip to the peer.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) { return 0, errors.ErrUnsupported }

// Shutdown takes no new streams, tells the peer so (RFC 9113 §6.8), waits for
// the open ones, and closes the connection. When ctx ends first, the open
// streams are cut, and ctx's error is returned.
func (c *Conn) Shutdown(ctx context.Context) error { return errors.ErrUnsupported }

// Close ends the connection at once. All its streams fail with an error that
// unwraps to net.ErrClosed. It waits for the connection's goroutines; running
// handlers are not waited for.
func (c *Conn) Close() error { return errors.ErrUnsupported }

// CloseWithError is Close, but the streams fail with err.
func (c *Conn) CloseWithError(err error) {}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return nil }

// Err says why the connection ended; nil while it has not.
func (c *Conn) Err() error { return nil }
