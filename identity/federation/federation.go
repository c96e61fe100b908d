package federation

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Defaults of Config.
const (
	DefaultInterval    = 5 * time.Minute // what the specification suggests where there is no hint
	DefaultMinInterval = 10 * time.Second
	DefaultMaxInterval = time.Hour
	DefaultTimeout     = 10 * time.Second
)

// retryMin is the delay after a first failure. It doubles with each.
const retryMin = time.Second

// An Endpoint is where a trust domain publishes its bundle.
type Endpoint struct {
	// TrustDomain is whose bundle it is. Required.
	TrustDomain spiffeid.TrustDomain

	// URL is an https URL. Required.
	URL string

	// ServerID is the endpoint's SPIFFE ID, in the profile https_spiffe. The
	// bundle of its trust domain verifies it: the one last fetched, or at first
	// Bundle. If zero, the profile is https_web.
	ServerID spiffeid.ID

	// Bundle is served until the first one is fetched. Optional in the profile
	// https_web; in https_spiffe it is required of the trust domain of
	// ServerID, unless Config.Dir has a later one.
	Bundle *x509bundle.Bundle

	// Roots verify the endpoint in the profile https_web. If nil, those of the
	// system do.
	Roots *x509.CertPool
}

// Config describes Bundles. Its zero value has no endpoints.
type Config struct {
	Endpoints []Endpoint

	// Dir keeps the last good bundles, so that a restart needs no endpoint. It
	// is made if it is missing. If empty, they are kept in memory only.
	Dir string

	// Interval is when to fetch a bundle again that gives no hint. If zero, 5
	// minutes. MinInterval and MaxInterval bound a hint. If zero, 10 s and 1 h.
	Interval, MinInterval, MaxInterval time.Duration

	// Timeout bounds one request. If zero, 10 s.
	Timeout time.Duration

	// DialContext makes connections to endpoints. If nil, a net.Dialer does, by
	// way of the proxy that the environment names.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	// Logger is told about new bundles and failures. If nil, nobody is.
	Logger *slog.Logger
}

func (cfg Config) complete() (Config, error) {
	if cfg.Interval < 0 || cfg.MinInterval < 0 || cfg.MaxInterval < 0 || cfg.Timeout < 0 {
		return cfg, errors.New("federation: negative duration in Config")
	}
	cfg.Interval = cmp.Or(cfg.Interval, DefaultInterval)
	cfg.MinInterval = cmp.Or(cfg.MinInterval, DefaultMinInterval)
	cfg.MaxInterval = max(cmp.Or(cfg.MaxInterval, DefaultMaxInterval), cfg.MinInterval)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	if cfg.Dir != "" {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return cfg, fmt.Errorf("federation: %w", err)
		}
	}
	return cfg, nil
}

// An EndpointError says which endpoint failed, and why.
type EndpointError struct {
	TrustDomain spiffeid.TrustDomain
	URL         string
	Err         error // Unwrap returns it
}

func (e *EndpointError) Error() string {
	return fmt.Sprintf("federation: bundle of %q from %s: %v", e.TrustDomain.Name(), e.URL, e.Err)
}

func (e *EndpointError) Unwrap() error { return e.Err }

// ErrBundle means that what an endpoint served is not an acceptable bundle.
var ErrBundle = errors.New("unacceptable bundle")

// Bundles are those of other trust domains. They implement x509bundle.Source,
// for identity.Config.Bundles. Their methods are safe for concurrent use.
type Bundles struct {
	cfg       Config
	endpoints map[spiffeid.TrustDomain]*endpoint // never changed
}

// New returns Bundles of what is given and what was kept. Run keeps them
// current.
func New(cfg Config) (*Bundles, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	b := &Bundles{cfg: cfg, endpoints: make(map[spiffeid.TrustDomain]*endpoint, len(cfg.Endpoints))}
	for _, e := range cfg.Endpoints {
		err := e.check()
		if err == nil && b.endpoints[e.TrustDomain] != nil {
			err = errors.New("there is another endpoint for that trust domain")
		}
		if err != nil {
			return nil, &EndpointError{e.TrustDomain, e.URL, err}
		}
		b.endpoints[e.TrustDomain] = b.newEndpoint(e)
	}
	for _, e := range b.endpoints {
		if e.ServerID.IsZero() {
			continue
		}
		if _, err := b.GetX509BundleForTrustDomain(e.ServerID.TrustDomain()); err != nil {
			return nil, &EndpointError{e.TrustDomain, e.URL, fmt.Errorf("nothing to verify %s with: %w", e.ServerID, err)}
		}
	}
	return b, nil
}

func (e Endpoint) check() error {
	if e.TrustDomain.IsZero() {
		return errors.New("no trust domain")
	}
	u, err := url.Parse(e.URL)
	switch {
	case err != nil:
		return err
	case u.Scheme != "https" || u.Host == "" || u.User != nil:
		return errors.New("want an https URL without user and password")
	case e.Bundle != nil && e.Bundle.TrustDomain() != e.TrustDomain:
		return fmt.Errorf("the given bundle is that of %q", e.Bundle.TrustDomain().Name())
	case !e.ServerID.IsZero() && e.Roots != nil:
		return errors.New("both ServerID and Roots: an endpoint has one of the two profiles")
	}
	return nil
}

// GetX509BundleForTrustDomain implements x509bundle.Source. It returns the last
// good bundle, however old it is.
func (b *Bundles) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	e := b.endpoints[td]
	if e == nil {
		return nil, fmt.Errorf("federation: no endpoint for trust domain %q", td.Name())
	}
	bundle, last := e.get()
	if bundle == nil {
		return nil, &EndpointError{td, e.URL, cmp.Or(last, errors.New("not fetched yet"))}
	}
	return bundle, nil
}

// Run fetches each bundle at once and then when it is due, until ctx ends,
// whose cause it returns. An endpoint that fails does not hold up another.
func (b *Bundles) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, e := range b.endpoints {
		running.Go(func() { b.follow(ctx, e) })
	}
	<-ctx.Done()
	running.Wait()
	return context.Cause(ctx)
}

func (b *Bundles) follow(ctx context.Context, e *endpoint) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		hint, err := b.refresh(ctx, e)
		if ctx.Err() != nil {
			return
		}
		delay := b.due(hint)
		if err != nil {
			delay = min(retryMin<<min(failures, 16), b.cfg.Interval)
			failures++
			b.cfg.Logger.Warn("no new bundle, the last one stays in use", "error", err, "retry_in", delay)
		} else {
			failures = 0
		}
		timer.Reset(delay - rand.N(delay/10+1)) // so that a fleet does not call in step
	}
}

// due returns when to fetch a bundle again.
func (b *Bundles) due(hint time.Duration) time.Duration {
	if hint <= 0 {
		return b.cfg.Interval
	}
	return min(max(hint, b.cfg.MinInterval), b.cfg.MaxInterval)
}

// Refresh fetches the bundle of a trust domain now. On an error, an
// EndpointError, the last good one stays in use.
func (b *Bundles) Refresh(ctx context.Context, td spiffeid.TrustDomain) error {
	e := b.endpoints[td]
	if e == nil {
		return &EndpointError{TrustDomain: td, Err: errors.New("no endpoint for that trust domain")}
	}
	_, err := b.refresh(ctx, e)
	return err
}

func (b *Bundles) refresh(ctx context.Context, e *endpoint) (hint time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	fetched, err := e.fetch(ctx)
	if err != nil {
		err = &EndpointError{e.TrustDomain, e.URL, err}
		e.failed(err)
		return 0, err
	}
	if e.set(fetched) {
		b.cfg.Logger.Info("new bundle", "trust_domain", e.TrustDomain.Name(), "url", e.URL, "roots", len(fetched.X509Authorities()))
	}
	if err := b.keepLast(e); err != nil { // and tried again after the next fetch
		b.cfg.Logger.Warn("the bundle could not be kept on disk", "error", err)
	}
	hint, _ = fetched.RefreshHint()
	return hint, nil
}

// A Status says how an endpoint fares.
type Status struct {
	TrustDomain spiffeid.TrustDomain
	URL         string
	Roots       int       // in the bundle in use; 0 if there is none
	Fetched     time.Time // when the bundle in use was last confirmed; zero if it was given or kept
	Err         error     // of the last attempt; nil if it succeeded
}

// Status returns the state of all endpoints, by trust domain.
func (b *Bundles) Status() []Status {
	out := make([]Status, 0, len(b.endpoints))
	for _, e := range b.endpoints {
		out = append(out, e.status())
	}
	slices.SortFunc(out, func(a, b Status) int { return a.TrustDomain.Compare(b.TrustDomain) })
	return out
}

// checkBundle refuses what would trust nobody, or somebody who is no authority.
func checkBundle(b *spiffebundle.Bundle) error {
	roots := b.X509Authorities()
	if len(roots) == 0 {
		return fmt.Errorf("%w: no X.509 roots in it", ErrBundle)
	}
	for _, r := range roots {
		if !r.IsCA {
			return fmt.Errorf("%w: %q is not an authority", ErrBundle, r.Subject)
		}
	}
	return nil
}
