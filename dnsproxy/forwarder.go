package dnsproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/miekg/dns"
)

// Upstream is a DNS server to ask.
type Upstream struct {
	// Address is host:port; the port may be left out.
	Address string
	// TLS, if set, asks over TLS (RFC 7858): port 853 by default.
	TLS *tls.Config
}

// Forwarder asks upstream servers, and remembers their answers. Questions that
// are the same and come at the same time are asked once. The zero value has no
// upstreams and fails at once. It must be closed.
type Forwarder struct {
	// Upstreams, in order of preference. Those that failed lately come last.
	Upstreams []Upstream

	// Timeout of a whole exchange over all upstreams. Zero means 5 s.
	Timeout time.Duration
	// AttemptTimeout of one try at one upstream. Zero means 2 s.
	AttemptTimeout time.Duration
	// Attempts is how often the list of upstreams is gone through. Zero means 2.
	Attempts int
	// MaxInFlight bounds the exchanges at one time. Zero means 512.
	MaxInFlight int

	// Cache is what is remembered.
	Cache CacheConfig

	// Dial opens sockets to upstreams; nil means a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Observe, if set, is called after every try at an upstream.
	Observe func(Attempt)

	// Logger gets what goes wrong; nil is silent.
	Logger *slog.Logger
}

// CacheConfig bounds the cache of a [Forwarder]. The zero value works.
type CacheConfig struct {
	Disabled bool
	// Size is the largest number of answers. Zero means 4096.
	Size int
	// MinTTL and MaxTTL clamp the life of answers. Zero means 0 and 1 h.
	MinTTL, MaxTTL time.Duration
	// StaleFor is how long an answer is kept after its end, to be used when no
	// upstream can be reached (RFC 8767). Zero means 24 h, negative never.
	StaleFor time.Duration
}

// Attempt is one try at one upstream.
type Attempt struct {
	Upstream string
	Network  string // "udp", "tcp" or "tls"
	Rcode    int
	Duration time.Duration
	Err      error
}

// Errors of a Forwarder; test with errors.Is.
var (
	ErrNoUpstream = errors.New("dnsproxy: no upstream server is configured")
	ErrOverloaded = errors.New("dnsproxy: too many upstream exchanges")
	ErrLoop       = errors.New("dnsproxy: an upstream leads back to this resolver")
)

// UpstreamError says that no upstream gave an answer; Errs has one error for each try.
type UpstreamError struct {
	Question dns.Question
	Errs     []error
}

func (e *UpstreamError) Error() string { return "" }

// Unwrap returns the errors of the tries.
func (e *UpstreamError) Unwrap() []error { return e.Errs }

// Exchange answers query. It implements [Exchanger].
func (f *Forwarder) Exchange(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	return nil, ErrNoUpstream
}

// Close ends all exchanges and idle connections, and waits for them.
func (f *Forwarder) Close() error { return nil }
