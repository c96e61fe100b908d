package identity

import (
	"crypto/tls"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// handshakeSpan is how long a handshake may have lasted when Retire is called
// for its connection.
const handshakeSpan = time.Minute

// Retire says how long a connection may be used: no new work after drain, which
// is the earlier end of our certificate and the peer's; and cut is closed when
// a certificate of the peer's chain is revoked, at which the connection must
// end at once. A nil cut never closes. Call it once, soon after the handshake.
//
// ztunnel keeps pooled tunnels beyond the end of the certificates that they
// were made with; we do not.
func (c *Credentials) Retire(cs tls.ConnectionState) (drain time.Time, cut <-chan struct{}) {
	drain = c.localEnd()
	if len(cs.PeerCertificates) == 0 {
		return drain, closedChan()
	}
	if end := cs.PeerCertificates[0].NotAfter; drain.IsZero() || end.Before(drain) {
		drain = end
	}
	if c.revoked == nil {
		return drain, nil
	}
	chain, err := c.verifiedChain(cs)
	if err != nil {
		// What cannot be verified any more cannot be watched either.
		return drain, closedChan()
	}
	return drain, c.revoked.WatchRevoked(chain)
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
	if c.current.svid != nil && c.current.svid != svid {
		c.before = c.current
	}
	c.current = served{svid, c.now()}
}

// localEnd returns the end of the certificate that a recent handshake presented.
// Just after a rotation it may have been either of two: the earlier end counts.
func (c *Credentials) localEnd() time.Time {
	c.mu.Lock()
	current, before := c.current, c.before
	c.mu.Unlock()
	if current.svid == nil { // not presented here: the caller has its own config
		svid, err := c.local()
		if err != nil {
			return c.now()
		}
		return svid.Certificates[0].NotAfter
	}
	end := current.svid.Certificates[0].NotAfter
	if before.svid == nil || c.now().Sub(before.last) > handshakeSpan {
		return end
	}
	if b := before.svid.Certificates[0].NotAfter; b.Before(end) {
		return b
	}
	return end
}
