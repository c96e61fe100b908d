package identity

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"slices"
)

// A resumed session speaks for the certificates of the handshake that began it.
// Once our source has another one, or ours may not be used any more, sessions
// are not resumed: the peer would take us for who we were.

// sessions are the TLS sessions that a client can resume.
type sessions struct {
	cache tls.ClientSessionCache
	creds *Credentials
	leaf  *x509.Certificate // that the sessions are made with; nil: none are
}

func (c *Credentials) newSessions(leaf *x509.Certificate) *sessions {
	return &sessions{cache: tls.NewLRUClientSessionCache(0), creds: c, leaf: leaf}
}

// current reports whether our certificate is still that of the sessions.
func (s *sessions) current() bool {
	svid, err := s.creds.local()
	return err == nil && svid.Certificates[0].Equal(s.leaf)
}

// Get implements tls.ClientSessionCache.
func (s *sessions) Get(key string) (*tls.ClientSessionState, bool) {
	if !s.current() {
		return nil, false
	}
	return s.cache.Get(key)
}

// Put implements tls.ClientSessionCache.
func (s *sessions) Put(key string, session *tls.ClientSessionState) {
	if session == nil || s.current() {
		s.cache.Put(key, session)
	}
}

// resumeOnlyCurrent has a server name its certificate in each ticket, and take
// only tickets that name the one that it would present now.
func (c *Credentials) resumeOnlyCurrent(t *tls.Config) {
	t.WrapSession = func(cs tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		if leaf := c.presented(); leaf != nil {
			session.Extra = append(session.Extra, leaf.Signature) // names it, and costs no hashing
		}
		return t.EncryptTicket(cs, session)
	}
	t.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		session, err := t.DecryptTicket(ticket, cs)
		if err != nil || session == nil {
			return nil, err
		}
		if svid, err := c.local(); err == nil && names(session, svid.Certificates[0]) {
			c.remember(svid)
			return session, nil
		}
		return nil, nil // a full handshake, which says what is wrong
	}
}

// names reports whether a session was begun with a certificate of ours.
func names(session *tls.SessionState, leaf *x509.Certificate) bool {
	return slices.ContainsFunc(session.Extra, func(name []byte) bool { return bytes.Equal(name, leaf.Signature) })
}

// presented returns the certificate that the handshakes of now are made with,
// or nil if there were two of late.
func (c *Credentials) presented() *x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current.svid == nil || c.rotatedLately() {
		return nil
	}
	return c.current.svid.Certificates[0]
}
