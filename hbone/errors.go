package hbone

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/h2"
)

// What can be wrong with a configuration. They are found in a *ConfigError
// with errors.Is.
var (
	ErrNoCredentials         = errors.New("no credentials")
	ErrNoCertificate         = errors.New("no certificate")
	ErrUnverifiedPeer        = errors.New("nothing verifies the peer")
	ErrClientCertNotRequired = errors.New("client certificates are not required")
	ErrTLSVersion            = errors.New("TLS below 1.3")
	ErrALPN                  = errors.New(`the ALPN protocol is not "h2"`)

	errOutdated         = errors.New("the identity, or what leads here, changed while the tunnel was made")
	errEmpty            = errors.New("empty")
	errInnerAddress     = errors.New("only the first hop is dialled; an inner hop has no address")
	errLastTunnelHeader = errors.New("the last hop carries no tunnel; use Path.StreamHeader")
	errAuthority        = errors.New("want host:port")
)

// ErrRevoked is why a tunnel ended when its Credentials cut it.
var ErrRevoked = errors.New("hbone: the credentials of the tunnel were revoked")

// ErrExpired is why a tunnel was not made whose Credentials drain it already.
var ErrExpired = errors.New("hbone: the credentials of the tunnel have expired")

// ErrTooManyConnections is why a Server did not take a connection beyond its MaxConnections.
var ErrTooManyConnections = errors.New("hbone: too many connections")

// ErrClosed is returned after Close or Shutdown of a Transport or Server. It
// is a net.ErrClosed.
var ErrClosed = fmt.Errorf("hbone: %w", net.ErrClosed)

// A ConfigError is a Path, Server or Credentials that would be unsafe or
// cannot work. Nothing was sent. In a HopError, it is about that hop's CONNECT.
type ConfigError struct {
	Hop   int    // index of the hop; -1 if it is not about one hop
	Field string // what to change
	Err   error
}

func configError(field string, err error) *ConfigError {
	return &ConfigError{Hop: -1, Field: "tls.Config." + field, Err: err}
}

func (e *ConfigError) Error() string {
	if e.Hop < 0 {
		return fmt.Sprintf("hbone: %s: %v", e.Field, e.Err)
	}
	return fmt.Sprintf("hbone: hop %d: %s: %v", e.Hop, e.Field, e.Err)
}

func (e *ConfigError) Unwrap() error { return e.Err }

// A Phase is how far a hop had come when it failed.
type Phase string

// The phases of a hop, in order.
const (
	PhaseWait    Phase = "wait"    // for a tunnel that others dial, or for a free stream
	PhaseDial    Phase = "dial"    // TCP, or what Transport.DialContext does
	PhaseTLS     Phase = "tls"     // handshake, and verification by both ends
	PhaseHTTP2   Phase = "http2"   // preface and settings
	PhaseConnect Phase = "connect" // CONNECT sent, no answer yet, or not 200
	PhaseStream  Phase = "stream"  // connected; the tunnel broke or was cut
)

// A HopError tells which hop failed, and where in its course.
type HopError struct {
	Hop       int    // index in Path.Hops
	Address   string // what was dialled; on an inner hop, the authority that leads to it
	Authority string // of the CONNECT sent to this hop; empty if it did not come to that
	Phase     Phase
	Err       error
}

func (e *HopError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "hbone: hop %d (%s): %s", e.Hop, e.Address, e.Phase)
	if e.Authority != "" {
		fmt.Fprintf(&b, " %s", e.Authority)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

func (e *HopError) Unwrap() error { return e.Err }

// Timeout reports whether the failure was a time limit, ours or the caller's.
func (e *HopError) Timeout() bool {
	var limit interface{ Timeout() bool }
	return errors.As(e.Err, &limit) && limit.Timeout()
}

// Temporary makes a HopError a net.Error. It is always false.
//
// Deprecated: net.Error wants it; use [HopError.Retryable].
func (e *HopError) Temporary() bool { return false }

// Remote reports whether the other end decided on the failure: it refused our
// certificate, reset the stream, said goodbye, or answered with a status. If
// not, the failure is ours or the network's.
func (e *HopError) Remote() bool {
	if status := (*StatusError)(nil); errors.As(e.Err, &status) {
		return true
	}
	if stream := (*h2.StreamError)(nil); errors.As(e.Err, &stream) {
		return stream.Remote
	}
	if conn := (*h2.ConnError)(nil); errors.As(e.Err, &conn) && conn.Remote {
		return true
	}
	return isRemoteAlert(e.Err) || errors.Is(e.Err, syscall.ECONNREFUSED)
}

// Retryable reports whether another attempt, perhaps by another gateway or to
// another endpoint, is safe and may succeed. No byte of the application has
// moved unless Phase is PhaseStream, which is never retryable.
func (e *HopError) Retryable() bool {
	if e.Phase == PhaseStream || errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, ErrClosed) {
		return false
	}
	if config := (*ConfigError)(nil); errors.As(e.Err, &config) {
		return false
	}
	if errors.Is(e.Err, ErrExpired) || errors.Is(e.Err, errOutdated) { // new credentials may be there already
		return true
	}
	if status := (*StatusError)(nil); errors.As(e.Err, &status) {
		return status.Retryable()
	}
	return e.Phase != PhaseTLS || isDisconnect(e.Err) || e.Timeout()
}

// A StatusError is a CONNECT that was answered, but not with 200: no other
// status is a success.
type StatusError struct {
	Status int
	Header http.Header
}

func (e *StatusError) Error() string {
	text := http.StatusText(e.Status)
	if text == "" {
		return fmt.Sprintf("status %d", e.Status)
	}
	return fmt.Sprintf("status %d (%s)", e.Status, text)
}

// Retryable reports whether the same CONNECT may succeed elsewhere or later.
// ztunnel answers 503 for what it cannot reach, 401 for what policy denies and
// 400 for an authority that it does not take.
func (e *StatusError) Retryable() bool {
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// A BackoffError is a dial that was not tried, because one just failed.
type BackoffError struct {
	Until time.Time // when a dial will be tried again
	Last  error     // why the last one failed
}

func (e *BackoffError) Error() string { return fmt.Sprintf("backing off after: %v", e.Last) }

func (e *BackoffError) Unwrap() error { return e.Last }

// A SaturatedError is a dial that found no free stream in PhaseWait: the tunnels that there are carry as many as they
// may, or their peer takes none, and no more of them may be made. It is an os.ErrDeadlineExceeded.
type SaturatedError struct {
	Tunnels int           // that would have served
	Waited  time.Duration // Transport.ConnectTimeout
}

func (e *SaturatedError) Error() string {
	return fmt.Sprintf("no free stream in %d tunnels within %v", e.Tunnels, e.Waited)
}

// Timeout is always true.
func (e *SaturatedError) Timeout() bool { return true }

// Is reports whether target is os.ErrDeadlineExceeded.
func (e *SaturatedError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// phaseTimeout is a time limit of ours that passed.
type phaseTimeout struct{ limit time.Duration }

func (e phaseTimeout) Error() string { return fmt.Sprintf("not done within %v", e.limit) }

func (e phaseTimeout) Timeout() bool { return true }

func (e phaseTimeout) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// asOurs turns an error of the engine's into ours.
func asOurs(err error) error {
	if status := (*h2.StatusError)(nil); errors.As(err, &status) {
		return &StatusError{Status: status.Status, Header: status.Header}
	}
	if header := (*h2.HeaderError)(nil); errors.As(err, &header) {
		return &ConfigError{Hop: -1, Field: "header of the CONNECT", Err: header}
	}
	return err
}

// isRemoteAlert reports whether err is a TLS alert that the peer sent. A
// TLS 1.3 client learns only after its handshake, from the first read, that
// the server refused its certificate.
func isRemoteAlert(err error) bool {
	op := (*net.OpError)(nil)
	return errors.As(err, &op) && op.Op == "remote error"
}

// isDisconnect reports whether the connection just ended, with no reason
// given: nobody there, or an Envoy gateway that answered 200 before it found
// that its backend is gone.
func isDisconnect(err error) bool {
	if isRemoteAlert(err) || errors.As(err, new(*tls.CertificateVerificationError)) {
		return false
	}
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}
