package istiod

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

const servingLife = 24 * time.Hour

// A servingCertificate is what the control plane shows to its clients, which
// know it by name and not by SPIFFE ID. It is renewed at half of its life.
type servingCertificate struct {
	authority *Authority
	names     []string
	logger    *slog.Logger

	mu      sync.Mutex
	cert    *tls.Certificate
	renewAt time.Time
}

func newServingCertificate(a *Authority, names []string, logger *slog.Logger) (*servingCertificate, error) {
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
	if s.cert != nil && now.Before(s.renewAt) {
		return s.cert, nil
	}
	cert, err := s.issue(now)
	switch {
	case err == nil:
		s.cert = cert
		s.renewAt = now.Add(cert.Leaf.NotAfter.Sub(now) / 2)
	case s.cert != nil && now.Before(s.cert.Leaf.NotAfter):
		s.logger.Error("the serving certificate cannot be renewed", "expires", s.cert.Leaf.NotAfter, "error", err)
	default:
		return nil, fmt.Errorf("istiod: serving certificate: %w", err)
	}
	return s.cert, nil
}

func (s *servingCertificate) issue(now time.Time) (*tls.Certificate, error) {
	a := s.authority
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	life := min(servingLife, a.cert.NotAfter.Sub(now))
	if life <= 0 {
		return nil, fmt.Errorf("the certificate of the CA expired at %s", a.cert.NotAfter.Format(time.RFC3339))
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range s.names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	for _, c := range a.issuers {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}
