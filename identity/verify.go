package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// maxChain bounds the certificates that a peer may send.
const maxChain = 8

// Verify makes all checks of a handshake on the peer of a connection, with what
// the source knows now. Configurations of Config call it by themselves; it is
// for checking a live connection again, and for connections that were made in
// another way. Errors are PeerErrors.
//
// It is the VerifyConnection hook of both roles: unlike VerifyPeerCertificate
// that runs on resumed sessions too, so whatever was withdrawn since (a bundle,
// a certificate) counts there as well.
func (c *Credentials) Verify(cs tls.ConnectionState) error {
	chain, err := c.verifiedChain(cs)
	if err != nil {
		return err
	}
	c.accepted.add(chain)
	return nil
}

// verifiedChain makes all checks and returns the chain that passed, leaf first
// and root last.
func (c *Credentials) verifiedChain(cs tls.ConnectionState) ([]*x509.Certificate, error) {
	id, err := c.claimedID(cs.PeerCertificates)
	if err != nil {
		return nil, err
	}
	bundle, err := c.bundleFor(id.TrustDomain())
	if err != nil {
		return nil, c.refuse(CheckBundle, id, err)
	}
	options := x509.VerifyOptions{
		Roots:       c.roots.of(bundle),
		KeyUsages:   c.peerUse,
		CurrentTime: c.now(),
	}
	if len(cs.PeerCertificates) > 1 {
		options.Intermediates = pool(cs.PeerCertificates[1:])
	}
	chains, err := cs.PeerCertificates[0].Verify(options)
	if err != nil {
		return nil, c.refuse(c.failedCheck(cs.PeerCertificates[0], err), id, err)
	}
	return c.unrevoked(chains, id)
}

// bundleFor returns the roots of a trust domain. An alias without roots of its
// own has those of what it stands for.
func (c *Credentials) bundleFor(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	bundle, err := bundleIn(c.source, td)
	if err != nil && c.bundles != nil {
		var err2 error
		if bundle, err2 = bundleIn(c.bundles, td); err2 == nil {
			return bundle, nil
		}
		err = errors.Join(err, err2)
	}
	if to := c.aliases.resolve(td); err != nil && to != td {
		return c.bundleFor(to)
	}
	return bundle, err
}

// bundleIn takes no other trust domain's roots for those of td, whatever a source
// returns.
func bundleIn(source x509bundle.Source, td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	bundle, err := source.GetX509BundleForTrustDomain(td)
	if err == nil && (bundle == nil || bundle.TrustDomain() != td) {
		return nil, fmt.Errorf("%T has another bundle for trust domain %q", source, td.Name())
	}
	return bundle, err
}

// unrevoked returns the first chain of which nothing is revoked.
func (c *Credentials) unrevoked(chains [][]*x509.Certificate, id spiffeid.ID) ([]*x509.Certificate, error) {
	if c.revoked == nil {
		return chains[0], nil
	}
	var first error
	for _, chain := range chains {
		err := c.revoked.CheckRevoked(chain)
		if err == nil {
			return chain, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, c.refuse(CheckRevoked, id, first)
}

// claimedID makes the checks that need no signature: the shape of the
// certificate, its ID, and whether that is one we accept.
func (c *Credentials) claimedID(certs []*x509.Certificate) (spiffeid.ID, error) {
	switch {
	case len(certs) == 0:
		return spiffeid.ID{}, c.refuse(CheckCertificate, spiffeid.ID{}, errors.New("none was presented"))
	case len(certs) > maxChain:
		return spiffeid.ID{}, c.refuse(CheckCertificate, spiffeid.ID{}, fmt.Errorf("%d certificates were sent, at most %d are allowed", len(certs), maxChain))
	}
	leaf := certs[0]
	id, err := CertificateID(leaf)
	if err != nil {
		return spiffeid.ID{}, c.refuse(CheckID, spiffeid.ID{}, err)
	}
	// X.509-SVID §4.3 and §5.2: a leaf must not be able to sign.
	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return spiffeid.ID{}, c.refuse(CheckCertificate, id, errors.New("a certificate of an authority is not an identity"))
	}
	if !c.peers.accepts(id) {
		if !c.peers.knowsDomain(id.TrustDomain()) {
			return spiffeid.ID{}, c.refuse(CheckTrustDomain, id, nil)
		}
		return spiffeid.ID{}, c.refuse(CheckPeer, id, nil)
	}
	return id, nil
}

// failedCheck tells which check an error of x509's Verify belongs to.
func (c *Credentials) failedCheck(leaf *x509.Certificate, err error) Check {
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) {
		return CheckChain
	}
	switch {
	case invalid.Reason == x509.IncompatibleUsage:
		return CheckUsage
	case invalid.Reason != x509.Expired:
		return CheckChain
	case c.now().Before(leaf.NotBefore):
		return CheckNotYetValid
	default:
		return CheckExpired
	}
}

func (c *Credentials) refuse(check Check, peer spiffeid.ID, err error) error {
	e := &PeerError{Check: check, Peer: peer, Want: c.peers.peers, Err: err, Role: RoleServer}
	if c.role == RoleServer {
		e.Role = RoleClient
	}
	if svid, err := c.source.GetX509SVID(); err == nil {
		e.Local = svid.ID
	}
	return e
}

// rootPools keeps the pool of each trust domain's roots, as making one hashes
// them all.
type rootPools struct {
	mu       sync.Mutex
	byDomain map[spiffeid.TrustDomain]rootPool
}

type rootPool struct {
	roots []*x509.Certificate
	pool  *x509.CertPool
}

// maxRootPools bounds what is kept: peers choose the trust domain, but only of
// those that are accepted.
const maxRootPools = 64

// of returns the pool of a bundle as it is now, whichever object it comes in.
func (r *rootPools) of(b *x509bundle.Bundle) *x509.CertPool {
	roots := b.X509Authorities() // a copy
	r.mu.Lock()
	defer r.mu.Unlock()
	if have, ok := r.byDomain[b.TrustDomain()]; ok && slices.Equal(have.roots, roots) {
		return have.pool
	}
	if r.byDomain == nil || len(r.byDomain) >= maxRootPools {
		r.byDomain = make(map[spiffeid.TrustDomain]rootPool)
	}
	made := rootPool{roots, pool(roots)}
	r.byDomain[b.TrustDomain()] = made
	return made.pool
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}
