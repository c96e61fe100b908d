package identity

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// handshakeSpan is how long a handshake may have lasted when Retire is called
// for its connection.
const handshakeSpan = time.Minute

// Retire says how long a connection may be used: no new work after drain, which
// is the earliest end of our certificates and the peer's; and cut is closed when
// a certificate of the peer's chain is revoked, at which the connection must
// end at once. It is closed already if the peer was not accepted here of late,
// and would not be now. A nil cut never closes. Call it once, soon after the
// handshake.
//
// ztunnel keeps pooled tunnels beyond the end of the certificates that they
// were made with; we do not.
func (c *Credentials) Retire(cs tls.ConnectionState) (drain time.Time, cut <-chan struct{}) {
	drain = c.localEnd()
	chain, err := c.chainOf(cs)
	if err != nil {
		// What cannot be verified any more cannot be watched either.
		return drain, closedChan()
	}
	if end := endOf(chain); end.Before(drain) {
		drain = end
	}
	if c.revoked == nil {
		return drain, nil
	}
	return drain, c.revoked.WatchRevoked(chain)
}

// chainOf returns the chain that the peer was accepted with.
func (c *Credentials) chainOf(cs tls.ConnectionState) ([]*x509.Certificate, error) {
	if len(cs.PeerCertificates) > 0 {
		if chain := c.accepted.of(cs.PeerCertificates[0]); chain != nil {
			return chain, nil
		}
	}
	return c.verifiedChain(cs)
}

// chains are those of the last handshakes: crypto/tls does not tell which chain
// VerifyConnection found, and finding it again costs as much as it did then.
type chains struct {
	mu   sync.Mutex
	ring [64][]*x509.Certificate
	next int
}

func (c *chains) add(chain []*x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ring[c.next] = chain
	c.next = (c.next + 1) % len(c.ring)
}

// of returns the last chain of a leaf, or nil.
func (c *chains) of(leaf *x509.Certificate) []*x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.ring {
		chain := c.ring[(c.next+len(c.ring)-1-i)%len(c.ring)]
		if len(chain) > 0 && chain[0] == leaf {
			return chain
		}
	}
	return nil
}

func closedChan() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// remember keeps the last two certificates that were presented, with the time:
// crypto/tls does not tell which one a connection was made with.
func (c *Credentials) remember(svid *x509svid.SVID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current.svid != nil && !c.current.svid.Certificates[0].Equal(svid.Certificates[0]) {
		c.before = c.current
	}
	c.current = served{svid, c.now()}
}

// rotatedLately reports whether a handshake that ended just now may have
// presented the certificate before the current one. The lock is held.
func (c *Credentials) rotatedLately() bool {
	return c.before.svid != nil && c.now().Sub(c.before.last) <= handshakeSpan
}

// localEnd returns the end of the certificates that a recent handshake presented.
// Just after a rotation they may have been either of two: the earlier end counts.
func (c *Credentials) localEnd() time.Time {
	certs := c.presentedLately()
	if len(certs) > 0 {
		return endOf(certs)
	}
	svid, err := c.local() // not presented here: the caller has its own config
	if err != nil {
		return c.now()
	}
	return endOf(svid.Certificates)
}

func (c *Credentials) presentedLately() []*x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current.svid == nil {
		return nil
	}
	certs := c.current.svid.Certificates
	if c.rotatedLately() {
		certs = slices.Concat(certs, c.before.svid.Certificates)
	}
	return certs
}
