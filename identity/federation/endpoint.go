package federation

import (
	"context"
	"crypto/fips140"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"

	"github.com/eastwest-mesh/eastwest/internal/boundedfile"
)

// maxBundle bounds what an endpoint may send: some hundred roots.
const maxBundle = 1 << 20

// endpoint is an Endpoint in use.
type endpoint struct {
	Endpoint
	client *http.Client

	mu      sync.Mutex
	doc     *spiffebundle.Bundle // as it was fetched last, nil if it was not
	bundle  *x509bundle.Bundle   // in use
	fetched time.Time
	err     error // of the last attempt

	keeping sync.Mutex           // serializes keepLast, apart from mu: handshakes must not wait for a disk
	onDisk  *spiffebundle.Bundle // the doc that was kept last
}

func (b *Bundles) newEndpoint(e Endpoint) *endpoint {
	out := &endpoint{Endpoint: e, client: b.newClient(e)}
	if e.Bundle != nil {
		out.bundle = e.Bundle.Clone()
	}
	kept, err := b.kept(e.TrustDomain)
	switch {
	case err == nil:
		out.bundle = kept.X509Bundle()
	case !errors.Is(err, fs.ErrNotExist):
		b.cfg.Logger.Warn("a bundle that was kept on disk is not usable", "error", err)
	}
	return out
}

// newClient makes no use of federation.FetchBundle of go-spiffe: that reads a
// body of any size, and leaves a connection open after each call.
func (b *Bundles) newClient(e Endpoint) *http.Client {
	transport := &http.Transport{
		DialContext:            b.cfg.DialContext,
		DisableKeepAlives:      true, // there is one request in minutes
		MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig:        &tls.Config{RootCAs: e.Roots, MinVersion: tls.VersionTLS12},
	}
	if b.cfg.DialContext == nil {
		transport.Proxy = http.ProxyFromEnvironment
	}
	if !e.ServerID.IsZero() {
		transport.TLSClientConfig = tlsconfig.TLSClientConfig(b, tlsconfig.AuthorizeID(e.ServerID))
	}
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			return fmt.Errorf("a redirect to %s is not followed: name that URL", r.URL.Redacted())
		},
	}
}

func (e *endpoint) fetch(ctx context.Context) (*spiffebundle.Bundle, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.URL, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := e.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBundle+1))
	if err != nil {
		return nil, err
	}
	return parse(e.TrustDomain, body)
}

func parse(td spiffeid.TrustDomain, body []byte) (*spiffebundle.Bundle, error) {
	if len(body) > maxBundle {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrBundle, maxBundle)
	}
	var bundle *spiffebundle.Bundle
	var err error
	fips140.WithoutEnforcement(func() { bundle, err = spiffebundle.Parse(td, body) }) // see encode
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	if err := checkBundle(bundle); err != nil {
		return nil, err
	}
	return bundle, nil
}

// encode is the inverse of parse. The library makes and compares SHA-1
// thumbprints of the certificates, on which nothing rests: in FIPS 140-only
// mode it would panic.
func encode(bundle *spiffebundle.Bundle) (body []byte, err error) {
	fips140.WithoutEnforcement(func() { body, err = bundle.Marshal() })
	return body, err
}

func (e *endpoint) get() (*x509bundle.Bundle, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bundle, e.err
}

// set takes a bundle into use and reports whether it is new.
func (e *endpoint) set(doc *spiffebundle.Bundle) (changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fetched, e.err = time.Now(), nil
	if e.doc != nil && e.doc.Equal(doc) {
		return false
	}
	e.doc, e.bundle = doc, doc.X509Bundle()
	return true
}

func (e *endpoint) failed(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

func (e *endpoint) status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{TrustDomain: e.TrustDomain, URL: e.URL, Fetched: e.fetched, Err: e.err}
	if e.bundle != nil {
		s.Roots = len(e.bundle.X509Authorities())
	}
	return s
}

// file is where the bundle of a trust domain is kept: names of trust domains
// are file names, by their characters.
func (b *Bundles) file(td spiffeid.TrustDomain) string {
	return filepath.Join(b.cfg.Dir, td.Name()+".json")
}

// kept returns a bundle from disk.
func (b *Bundles) kept(td spiffeid.TrustDomain) (*spiffebundle.Bundle, error) {
	if b.cfg.Dir == "" {
		return nil, fs.ErrNotExist
	}
	body, err := boundedfile.Read(b.file(td), maxBundle)
	if err != nil {
		return nil, err
	}
	bundle, err := parse(td, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.file(td), err)
	}
	return bundle, nil
}

// keepLast keeps the bundle that was fetched last, unless it is kept: a restart
// must not bring a root back that was taken out since.
func (b *Bundles) keepLast(e *endpoint) error {
	e.keeping.Lock()
	defer e.keeping.Unlock()
	e.mu.Lock()
	last := e.doc
	e.mu.Unlock()
	if e.onDisk == last {
		return nil
	}
	if err := b.keep(last); err != nil {
		return err
	}
	e.onDisk = last
	return nil
}

// keep writes a bundle to disk: the file changes as a whole.
func (b *Bundles) keep(bundle *spiffebundle.Bundle) error {
	if b.cfg.Dir == "" {
		return nil
	}
	body, err := encode(bundle)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(b.cfg.Dir, ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = temp.Write(body)
	if err := errors.Join(err, temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), b.file(bundle.TrustDomain()))
}
