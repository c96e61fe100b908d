package istioca

import (
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// A FetchError says why no certificate was got from a CA.
type FetchError struct {
	ID  spiffeid.ID // for whom
	Op  string      // what failed: key, token, call, response
	Err error       // Unwrap returns it; of a call, a gRPC status error
}

func (e *FetchError) Error() string {
	return fmt.Sprintf("istioca: certificate for %s: %s: %v", e.ID, e.Op, e.Err)
}

func (e *FetchError) Unwrap() error { return e.Err }

// An UnavailableError says that a Source has no valid certificate, and why the
// last attempt to get one failed.
type UnavailableError struct {
	ID      spiffeid.ID
	Expired time.Time // when the last certificate expired; zero if there was none
	Err     error     // of the last attempt; Unwrap returns it
}

func (e *UnavailableError) Error() string {
	msg := fmt.Sprintf("istioca: no certificate for %s yet", e.ID)
	if !e.Expired.IsZero() {
		msg = fmt.Sprintf("istioca: the certificate of %s expired at %s", e.ID, e.Expired.UTC().Format(time.RFC3339))
	}
	if e.Err != nil {
		msg += ": last attempt: " + e.Err.Error()
	}
	return msg
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// ErrClosed means that a Source or a Manager was closed.
var ErrClosed = errors.New("istioca: closed")

// ErrResponse means that a CA's answer is not what was asked for.
var ErrResponse = errors.New("unacceptable response")
