package istiod

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"

	"github.com/eastwest-mesh/eastwest/identity"
)

const servingLife = 24 * time.Hour

// A servingCertificate is what the control plane shows to its clients, which
// know it by name and not by SPIFFE ID. It is renewed at half of its life, and
// when the CA is replaced.
type servingCertificate struct {
	authority *identity.CA
	names     []string
	logger    *slog.Logger

	mu      sync.Mutex
	cert    *tls.Certificate
	roots   *x509bundle.Bundle // of the CA when it signed: another one is another CA
	renewAt time.Time
}

func newServingCertificate(a *identity.CA, names []string, logger *slog.Logger) (*servingCertificate, error) {
	s := &servingCertificate{authority: a, logger: logger, names: append([]string{
		"istiod.istio-system.svc", "istiod.istio-system.svc.cluster.local", "localhost", "127.0.0.1", "::1",
	}, names...)}
	_, err := s.get(nil)
	return s, err
}

// get implements tls.Config.GetCertificate.
func (s *servingCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	roots, err := s.authority.GetX509BundleForTrustDomain(s.authority.TrustDomain())
	if err != nil {
		return nil, fmt.Errorf("istiod: serving certificate: %w", err)
	}
	if s.cert != nil && roots == s.roots && now.Before(s.renewAt) {
		return s.cert, nil
	}
	cert, err := s.authority.ServerCertificate(s.names, servingLife)
	switch {
	case err == nil:
		s.cert, s.roots = cert, roots
		s.renewAt = now.Add(cert.Leaf.NotAfter.Sub(now) / 2)
	case s.cert != nil && now.Before(s.cert.Leaf.NotAfter):
		s.logger.Error("the serving certificate cannot be renewed", "expires", s.cert.Leaf.NotAfter, "error", err)
	default:
		return nil, fmt.Errorf("istiod: serving certificate: %w", err)
	}
	return s.cert, nil
}
