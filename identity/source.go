package identity

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Source gives our certificate with its key, and the roots of each trust domain
// that we know. Both methods are called at every handshake, from many
// goroutines; they must not block. What they return must not be modified
// afterwards: a new certificate is a new SVID.
//
// Pass sources as pointers: Credentials made from the same pointer may share
// tunnels (see Credentials.Key).
type Source interface {
	x509svid.Source
	x509bundle.Source
}

// ErrNoIdentity means that a source has no certificate yet.
var ErrNoIdentity = errors.New("no certificate is set")

// Memory is a Source held in memory, which can be changed at any time. The zero
// value has no certificate and knows no trust domain. Its methods are safe for
// concurrent use.
type Memory struct {
	mu      sync.RWMutex
	svid    *x509svid.SVID
	bundles map[spiffeid.TrustDomain]*x509bundle.Bundle
}

// NewMemory returns a source with that certificate and those bundles.
func NewMemory(svid *x509svid.SVID, bundles ...*x509bundle.Bundle) *Memory {
	m := &Memory{}
	m.SetSVID(svid)
	for _, b := range bundles {
		m.SetBundle(b)
	}
	return m
}

// SetSVID replaces our certificate from the next handshake on; nil takes it
// away. The SVID belongs to the source afterwards.
func (m *Memory) SetSVID(svid *x509svid.SVID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.svid = svid
}

// SetBundle replaces the roots of one trust domain. The source keeps a copy.
func (m *Memory) SetBundle(b *x509bundle.Bundle) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bundles == nil {
		m.bundles = make(map[spiffeid.TrustDomain]*x509bundle.Bundle)
	}
	m.bundles[b.TrustDomain()] = b.Clone()
}

// RemoveBundle forgets a trust domain: its members are refused from the next
// handshake on, full or resumed.
func (m *Memory) RemoveBundle(td spiffeid.TrustDomain) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.bundles, td)
}

// GetX509SVID implements x509svid.Source.
func (m *Memory) GetX509SVID() (*x509svid.SVID, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.svid == nil {
		return nil, ErrNoIdentity
	}
	return m.svid, nil
}

// GetX509BundleForTrustDomain implements x509bundle.Source.
func (m *Memory) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	b, ok := m.bundles[td]
	if !ok {
		return nil, fmt.Errorf("no bundle for trust domain %q", td.Name())
	}
	return b, nil
}

// replace swaps everything at once.
func (m *Memory) replace(svid *x509svid.SVID, bundles []*x509bundle.Bundle) {
	byDomain := make(map[spiffeid.TrustDomain]*x509bundle.Bundle, len(bundles))
	for _, b := range bundles {
		byDomain[b.TrustDomain()] = b
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.svid, m.bundles = svid, byDomain
}

// sortedDomains returns the keys of a map by trust domain in a stable order.
func sortedDomains[V any](m map[spiffeid.TrustDomain]V) []spiffeid.TrustDomain {
	return slices.SortedFunc(maps.Keys(m), spiffeid.TrustDomain.Compare)
}
