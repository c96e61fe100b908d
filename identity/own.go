package identity

import (
	"crypto/x509"
	"errors"
	"sync"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// ownChains watches whether our own certificate is revoked. Peers that know it
// refuse us; we stop by ourselves, with an error that says why.
type ownChains struct {
	mu     sync.Mutex
	leaf   *x509.Certificate  // of these chains
	bundle *x509bundle.Bundle // that they lead to
	chains []ownChain         // none if the certificate leads to no root of ours
}

type ownChain struct {
	certs   []*x509.Certificate
	revoked <-chan struct{}
}

var errOwnRevoked = errors.New("the certificate is revoked")

// ownRevoked returns an error, best a RevokedError, if no chain of our
// certificate is good any more. Whether there is a current list is the peers'
// question: what is not known to be revoked is used.
func (c *Credentials) ownRevoked(svid *x509svid.SVID) error {
	if c.revoked == nil {
		return nil
	}
	bundle, err := c.bundleFor(svid.ID.TrustDomain())
	if err != nil {
		return nil // a list counts for its issuer, which is not known
	}
	o := &c.own
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.leaf != svid.Certificates[0] || o.bundle != bundle {
		o.leaf, o.bundle, o.chains = svid.Certificates[0], bundle, c.watchOwn(svid, bundle)
	}
	if len(o.chains) == 0 {
		return nil
	}
	for _, chain := range o.chains {
		select {
		case <-chain.revoked:
		default:
			return nil
		}
	}
	if err := c.revoked.CheckRevoked(o.chains[0].certs); err != nil && !errors.Is(err, ErrNoCurrentList) {
		return err
	}
	return errOwnRevoked
}

// watchOwn finds the chains of our certificate and has them watched.
func (c *Credentials) watchOwn(svid *x509svid.SVID, bundle *x509bundle.Bundle) []ownChain {
	chains, err := svid.Certificates[0].Verify(x509.VerifyOptions{
		Roots:         pool(bundle.X509Authorities()),
		Intermediates: pool(svid.Certificates[1:]),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		CurrentTime:   c.now(),
	})
	if err != nil {
		return nil // peers with other roots may accept it
	}
	out := make([]ownChain, len(chains))
	for i, chain := range chains {
		out[i] = ownChain{chain, c.revoked.WatchRevoked(chain)}
	}
	return out
}
