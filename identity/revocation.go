package identity

import (
	"crypto/x509"
	"strings"
	"sync"
	"time"
)

// Revocations is implemented by sources that know of revoked certificates. The
// chain of a peer is asked about at each handshake, and by Credentials.Retire
// for as long as a connection lives.
type Revocations interface {
	// Revoked returns a channel that is closed once any certificate of the
	// verified chain (leaf first, root last) is revoked; already closed if one
	// is.
	Revoked(chain []*x509.Certificate) <-chan struct{}
}

// Revoke refuses a certificate (of a peer, or of a CA above it) from now on and
// cuts the connections that were made with it.
func (m *Memory) Revoke(cert *x509.Certificate) { m.revoked.revoke(cert) }

// Revoked implements Revocations.
func (m *Memory) Revoked(chain []*x509.Certificate) <-chan struct{} { return m.revoked.watch(chain) }

// revocations is a set of revoked certificates and of the verified chains in
// use. Both are bounded by the certificates that are still valid: expired ones
// are forgotten as the sets grow.
type revocations struct {
	mu      sync.Mutex
	revoked map[string]time.Time // by certKey: until when it would be valid
	chains  map[string]*watchedChain
	sweepAt int
}

type watchedChain struct {
	certs map[string]bool // by certKey
	ends  time.Time
	cut   chan struct{}
}

// certKey names a certificate as a CRL does: by issuer and serial number
// (RFC 5280 §5.1.2.6).
func certKey(c *x509.Certificate) string {
	return string(c.RawIssuer) + "\x00" + c.SerialNumber.String()
}

func (r *revocations) revoke(cert *x509.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revoked == nil {
		r.revoked = make(map[string]time.Time)
	}
	key := certKey(cert)
	r.revoked[key] = cert.NotAfter
	for k, w := range r.chains {
		if w.certs[key] {
			close(w.cut)
			delete(r.chains, k)
		}
	}
}

func (r *revocations) watch(chain []*x509.Certificate) <-chan struct{} {
	w := &watchedChain{certs: make(map[string]bool, len(chain)), cut: make(chan struct{})}
	keys := make([]string, len(chain))
	for i, c := range chain {
		keys[i] = certKey(c)
		w.certs[keys[i]] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range keys {
		if _, ok := r.revoked[k]; ok {
			close(w.cut)
			return w.cut
		}
	}
	name := strings.Join(keys, "\x00")
	if known, ok := r.chains[name]; ok {
		return known.cut
	}
	if len(chain) > 0 {
		w.ends = chain[0].NotAfter
	}
	r.sweep(time.Now())
	if r.chains == nil {
		r.chains = make(map[string]*watchedChain)
	}
	r.chains[name] = w
	return w.cut
}

// sweep forgets what has expired whenever the set of chains doubled.
func (r *revocations) sweep(now time.Time) {
	if len(r.chains) < max(r.sweepAt, 64) {
		return
	}
	for k, w := range r.chains {
		if now.After(w.ends) {
			delete(r.chains, k)
		}
	}
	for k, ends := range r.revoked {
		if now.After(ends) {
			delete(r.revoked, k)
		}
	}
	r.sweepAt = 2 * len(r.chains)
}
