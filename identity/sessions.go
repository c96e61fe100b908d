package identity

import (
	"crypto/tls"
	"crypto/x509"
)

// sessions are the TLS sessions that a client can resume. A resumed session
// speaks for the certificate of the handshake that began it: once the source has
// another one they are forgotten, as the peer would take us for who we were.
type sessions struct {
	cache  tls.ClientSessionCache
	source Source
	leaf   *x509.Certificate // that the sessions are made with; nil: none are
}

func (c *Credentials) newSessions(leaf *x509.Certificate) *sessions {
	return &sessions{cache: tls.NewLRUClientSessionCache(0), source: c.source, leaf: leaf}
}

// current reports whether our certificate is still that of the sessions.
func (s *sessions) current() bool {
	svid, err := s.source.GetX509SVID()
	return err == nil && len(svid.Certificates) > 0 && svid.Certificates[0].Equal(s.leaf)
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
