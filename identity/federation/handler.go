package federation

import (
	"crypto/fips140"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// NewHandler serves the bundle of a trust domain, as source has it at each
// request, to those who federate with it. Serve it by HTTPS: with a certificate
// of the web's PKI, or with an X.509-SVID. The hint tells them when to come
// again; if zero, there is none.
func NewHandler(td spiffeid.TrustDomain, source x509bundle.Source, hint time.Duration) (http.Handler, error) {
	if td.IsZero() || source == nil {
		return nil, errors.New("federation: a handler needs a trust domain and a source")
	}
	handler, err := federation.NewHandler(td, &document{source: source, hint: hint})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fips140.WithoutEnforcement(func() { handler.ServeHTTP(w, r) }) // see encode
	}), nil
}

// document makes SPIFFE's form of a bundle. It counts changes, in numbers that
// grow over restarts as well.
type document struct {
	source x509bundle.Source
	hint   time.Duration

	mu     sync.Mutex
	last   *x509bundle.Bundle
	number uint64
}

// GetBundleForTrustDomain implements spiffebundle.Source.
func (d *document) GetBundleForTrustDomain(td spiffeid.TrustDomain) (*spiffebundle.Bundle, error) {
	bundle, err := d.source.GetX509BundleForTrustDomain(td)
	if err != nil {
		return nil, err
	}
	out := spiffebundle.FromX509Bundle(bundle)
	out.SetSequenceNumber(d.sequence(bundle))
	if d.hint > 0 {
		out.SetRefreshHint(d.hint)
	}
	return out, nil
}

func (d *document) sequence(bundle *x509bundle.Bundle) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil || !d.last.Equal(bundle) {
		d.last = bundle.Clone()
		d.number = max(d.number+1, uint64(time.Now().Unix()))
	}
	return d.number
}
