package h2

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2"
)

// A Stream is one CONNECT tunnel. Its methods may be called concurrently.
type Stream struct{}

var _ net.Conn = (*Stream)(nil)

func (s *Stream) Read(p []byte) (int, error)  { return 0, errors.ErrUnsupported }
func (s *Stream) Write(p []byte) (int, error) { return 0, errors.ErrUnsupported }

// TryWrite takes as much of p as fits without blocking, possibly nothing.
func (s *Stream) TryWrite(p []byte) (int, error) { return 0, errors.ErrUnsupported }

// Close ends both directions. What was written is still delivered, followed by
// END_STREAM; if the peer has not ended its own direction, it is told to stop by a
// RST_STREAM.
func (s *Stream) Close() error { return errors.ErrUnsupported }

// CloseWrite ends the sending direction with END_STREAM (RFC 9113 §8.5). Reading goes on.
func (s *Stream) CloseWrite() error { return errors.ErrUnsupported }

// CloseRead drops what was received and what still comes. Writing goes on.
// HTTP/2 cannot stop one direction alone: the peer is told to stop, by a
// RST_STREAM, only once the sending direction has ended as well.
func (s *Stream) CloseRead() error { return errors.ErrUnsupported }

// Reset aborts both directions with a RST_STREAM. Local operations fail with an
// error that unwraps to cause.
func (s *Stream) Reset(code http2.ErrCode, cause error) {}

// Accept answers the CONNECT with status 200. Servers only.
func (s *Stream) Accept(h http.Header) error { return errors.ErrUnsupported }

// Reject answers the CONNECT with a status other than 200 and ends the stream.
// Servers only.
func (s *Stream) Reject(status int, h http.Header) error { return errors.ErrUnsupported }

// Authority returns the :authority of the CONNECT.
func (s *Stream) Authority() string { return "" }

// RequestHeader returns the CONNECT's header fields. They must not be changed.
func (s *Stream) RequestHeader() http.Header { return nil }

// ResponseHeader returns the answer's header fields. They must not be changed.
func (s *Stream) ResponseHeader() http.Header { return nil }

// Context is done when the stream or its connection has ended; context.Cause
// says why.
func (s *Stream) Context() context.Context { return context.Background() }

func (s *Stream) LocalAddr() net.Addr                { return nil }
func (s *Stream) RemoteAddr() net.Addr               { return nil }
func (s *Stream) SetDeadline(t time.Time) error      { return errors.ErrUnsupported }
func (s *Stream) SetReadDeadline(t time.Time) error  { return errors.ErrUnsupported }
func (s *Stream) SetWriteDeadline(t time.Time) error { return errors.ErrUnsupported }
