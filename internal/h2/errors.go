package h2

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"

	"golang.org/x/net/http2"
)

// ErrUnprocessed is in the chain of an error of [Conn.Open] when the peer
// certainly did not process the CONNECT: it refused the stream, it sent a GOAWAY
// whose last stream id is lower, or the connection was already closing. The
// request may be repeated on another connection (RFC 9113 §8.7).
var ErrUnprocessed = errors.New("request was not processed by the peer")

// A StatusError says that the peer answered a CONNECT with a status other
// than 200.
type StatusError struct {
	Status int
	Header http.Header
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("h2: CONNECT answered with status %d", e.Status)
}

// A HeaderError says that a request or an answer of ours cannot be sent, on any connection. Nothing of it was.
type HeaderError struct {
	Fault string // what is wrong, in words
}

func (e *HeaderError) Error() string { return "h2: " + e.Fault }

// A StreamError is the abortive end of one stream: a RST_STREAM of either side.
//
// A remote reset unwraps to [syscall.ECONNRESET], and to [ErrUnprocessed] where
// that is certain. A local one unwraps to its Cause, or to [net.ErrClosed].
type StreamError struct {
	ID     uint32
	Code   http2.ErrCode
	Remote bool  // the peer reset the stream
	Cause  error // may be nil
}

func (e *StreamError) Error() string {
	who := "locally"
	if e.Remote {
		who = "by the peer"
	}
	s := fmt.Sprintf("h2: stream %d reset %s (%v)", e.ID, who, e.Code)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *StreamError) Unwrap() []error {
	var errs []error
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	switch {
	case e.Remote:
		errs = append(errs, syscall.ECONNRESET)
	case e.Cause == nil:
		errs = append(errs, net.ErrClosed)
	}
	return errs
}

// A ConnError is the end of a whole connection: all its streams fail with it.
type ConnError struct {
	Code   http2.ErrCode // of the GOAWAY, if one was sent or received
	Remote bool          // the peer ended the connection
	Reason string        // what happened, in words
	Debug  []byte        // what the peer's GOAWAY carried, at most 1 KiB
	Err    error         // what it unwraps to, may be nil; syscall.ETIMEDOUT if the peer was silent
}

func (e *ConnError) Error() string {
	s := "h2: connection ended: "
	if e.Remote {
		s = "h2: connection ended by the peer: "
	}
	s += e.Reason
	if e.Code != http2.ErrCodeNo {
		s += fmt.Sprintf(" (%v)", e.Code)
	}
	if len(e.Debug) > 0 {
		s += fmt.Sprintf(" %q", e.Debug)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *ConnError) Unwrap() error { return e.Err }

// connError makes the error for a peer that broke the rules of the connection
// (RFC 9113 §5.4.1).
func connError(code http2.ErrCode, format string, args ...any) *ConnError {
	return &ConnError{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// streamError makes the error for a peer that broke the rules of one stream
// (RFC 9113 §5.4.2).
func streamError(id uint32, code http2.ErrCode, reason string) *StreamError {
	return &StreamError{ID: id, Code: code, Cause: errors.New(reason)}
}
