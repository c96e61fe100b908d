package istioca

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Source is an identity.Source of one identity that renews by itself: at half
// of the certificate's life, a little earlier by chance so that a fleet does
// not call in step. It is safe for concurrent use and must be closed.
type Source struct {
	client *Client
	id     spiffeid.ID
	cancel context.CancelCauseFunc
	done   chan struct{}   // closed when the renewing goroutine has ended
	ready  chan struct{}   // closed when there is a first certificate
	demand chan chan error // of Renew

	mu     sync.Mutex
	svid   *x509svid.SVID
	bundle *x509bundle.Bundle
	err    error // of the last attempt, nil if it succeeded
}

// Source starts to fetch a certificate for an identity. It returns at once: see
// Ready.
func (c *Client) Source(id spiffeid.ID) *Source {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &Source{client: c, id: id, cancel: cancel, done: make(chan struct{}), ready: make(chan struct{}), demand: make(chan chan error)}
	go s.renew(ctx)
	return s
}

// ID returns whom the source is for.
func (s *Source) ID() spiffeid.ID { return s.id }

// Ready waits for the first certificate. If the context ends before, or the
// source is closed, it returns an UnavailableError with the failure of the last
// attempt, or else with the cause of the end.
func (s *Source) Ready(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	default:
	}
	cause := ErrClosed
	select {
	case <-s.ready:
		return nil
	case <-s.done:
	case <-ctx.Done():
		cause = context.Cause(ctx)
	}
	if err := s.lastErr(); err != nil {
		cause = err
	}
	return &UnavailableError{ID: s.id, Err: cause}
}

// Renew gets a new certificate now, such as when the old one was revoked or the
// CA has another root. It returns once that is in service; on an error the old
// one stays.
func (s *Source) Renew(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case s.demand <- answer:
	case <-s.done:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-answer:
		return err
	case <-s.done:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close stops renewing and waits until that has ended. The last certificate
// stays available until it expires.
func (s *Source) Close() error {
	s.cancel(ErrClosed)
	<-s.done
	return nil
}

// GetX509SVID implements x509svid.Source. It returns the current certificate as
// long as it is valid, even if the CA has been out of reach since; after that
// an UnavailableError.
func (s *Source) GetX509SVID() (*x509svid.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.svid == nil {
		return nil, &UnavailableError{ID: s.id, Err: s.err}
	}
	if end := s.svid.Certificates[0].NotAfter; time.Now().After(end) {
		return nil, &UnavailableError{ID: s.id, Expired: end, Err: s.err}
	}
	return s.svid, nil
}

// GetX509BundleForTrustDomain implements x509bundle.Source. It knows the trust
// domain of the CA only: for others, see identity.Config.Bundles.
func (s *Source) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bundle == nil {
		return nil, &UnavailableError{ID: s.id, Err: s.err}
	}
	return s.bundle.GetX509BundleForTrustDomain(td)
}

func (s *Source) lastErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// renew fetches until the source is closed.
func (s *Source) renew(ctx context.Context) {
	defer close(s.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		var answer chan error
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case answer = <-s.demand:
		}
		svid, bundle, err := s.client.Fetch(ctx, s.id)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			delay := s.retryAfter(failures)
			failures++
			s.failed(err, delay)
			timer.Reset(delay)
		} else {
			failures = 0
			timer.Reset(s.renewed(svid, bundle))
		}
		if answer != nil {
			answer <- err
		}
	}
}

// retryAfter is the delay after a failure: not beyond the end of a certificate
// that is still valid, as ztunnel does.
func (s *Source) retryAfter(failures int) time.Duration {
	delay := s.client.backoff(failures)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.svid != nil {
		if left := time.Until(s.svid.Certificates[0].NotAfter); left > 0 {
			return min(delay, left)
		}
	}
	return delay
}

func (s *Source) failed(err error, delay time.Duration) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	s.client.cfg.Logger.Warn("no new certificate", "id", s.id.String(), "error", err, "retry_in", delay)
}

// renewed swaps the certificate and returns when to renew it.
func (s *Source) renewed(svid *x509svid.SVID, bundle *x509bundle.Bundle) time.Duration {
	s.mu.Lock()
	first := s.svid == nil
	s.svid, s.bundle, s.err = svid, bundle, nil
	s.mu.Unlock()
	if first {
		close(s.ready)
	}
	end := svid.Certificates[0].NotAfter
	delay := max(renewAfter(time.Until(end)), s.client.cfg.RetryMin)
	s.client.cfg.Logger.Info("new certificate", "id", s.id.String(), "expires", end, "renew_in", delay)
	return delay
}

// renewAfter returns between 40% and 50% of a life.
func renewAfter(life time.Duration) time.Duration {
	return time.Duration(float64(life) * (0.5 - 0.1*rand.Float64()))
}

// backoff returns the delay after so many failures before: doubling, and
// between half and all of it by chance.
func (c *Client) backoff(failures int) time.Duration {
	delay := c.cfg.RetryMax
	if failures < 32 && c.cfg.RetryMin<<failures>>failures == c.cfg.RetryMin {
		delay = min(c.cfg.RetryMin<<failures, c.cfg.RetryMax)
	}
	return delay/2 + rand.N(delay/2+1)
}
