package istiod

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/identity"
)

// Files of an Authority's directory, named as in Istio's secret cacerts.
const (
	caCertFile   = "ca-cert.pem"
	caKeyFile    = "ca-key.pem"
	chainFile    = "cert-chain.pem"
	rootCertFile = "root-cert.pem"
)

const (
	rootLife    = 10 * 365 * 24 * time.Hour
	servingLife = 24 * time.Hour
)

// An Authority certifies the workloads of a mesh, and the control plane
// itself.
type Authority struct {
	*identity.CA
	cert  *x509.Certificate
	key   crypto.Signer
	chain []*x509.Certificate
	roots []*x509.Certificate
}

// NewAuthority returns an Authority with a new root, in memory.
func NewAuthority(td spiffeid.TrustDomain) (*Authority, error) {
	cert, key, err := newRoot(td)
	if err != nil {
		return nil, err
	}
	return newAuthority(td, cert, key, nil, []*x509.Certificate{cert})
}

// OpenAuthority reads an Authority from a directory, in the layout of Istio's
// secret cacerts. If the directory has none, it makes a root there; of several
// processes that do so at once, one makes it for all.
func OpenAuthority(dir string, td spiffeid.TrustDomain) (*Authority, error) {
	if _, err := os.Stat(filepath.Join(dir, caKeyFile)); errors.Is(err, os.ErrNotExist) {
		if err := createRoot(dir, td); err != nil {
			return nil, fmt.Errorf("istiod: new root: %w", err)
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, caCertFile), filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, fmt.Errorf("istiod: CA: %w", err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("istiod: CA: %s holds a key that cannot sign", caKeyFile)
	}
	roots, err := readCertificates(filepath.Join(dir, rootCertFile))
	if err != nil {
		return nil, err
	}
	chain, err := readCertificates(filepath.Join(dir, chainFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return newAuthority(td, pair.Leaf, key, chain, roots)
}

func newAuthority(td spiffeid.TrustDomain, cert *x509.Certificate, key crypto.Signer, chain, roots []*x509.Certificate) (*Authority, error) {
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: td, Certificate: cert, Key: key, Chain: chain, Roots: roots})
	if err != nil {
		return nil, err
	}
	return &Authority{CA: ca, cert: cert, key: key, chain: chain, roots: roots}, nil
}

// RootPEM returns what clients must trust.
func (a *Authority) RootPEM() []byte { return encodeCertificates(a.roots) }

func newRoot(td spiffeid.TrustDomain) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{td.Name()}, CommonName: "eastwest root"},
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

// createRoot makes the files in a directory beside dir and moves that there:
// dir then holds all of them or none.
func createRoot(dir string, td spiffeid.TrustDomain) error {
	cert, key, err := newRoot(td)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".ca-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	certPEM := encodeCertificates([]*x509.Certificate{cert})
	err = errors.Join(
		os.WriteFile(filepath.Join(temp, caKeyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
		os.WriteFile(filepath.Join(temp, caCertFile), certPEM, 0o644),
		os.WriteFile(filepath.Join(temp, rootCertFile), certPEM, 0o644),
	)
	if err != nil {
		return err
	}
	err = os.Rename(temp, dir)
	if _, stat := os.Stat(filepath.Join(dir, caKeyFile)); err != nil && stat == nil {
		return nil // another process was first
	}
	return err
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("istiod: %w", err)
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("istiod: %s: %w", path, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("istiod: %s: no certificate", path)
	}
	return certs, nil
}

func encodeCertificates(certs []*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// A servingCertificate is what the control plane shows to its clients, which
// know it by name and not by SPIFFE ID. It is renewed at half of its life.
type servingCertificate struct {
	authority *Authority
	names     []string

	mu   sync.Mutex
	cert *tls.Certificate
}

func (a *Authority) servingCertificate(names []string) (*servingCertificate, error) {
	s := &servingCertificate{authority: a, names: append([]string{
		"istiod.istio-system.svc", "istiod.istio-system.svc.cluster.local", "localhost", "127.0.0.1", "::1",
	}, names...)}
	_, err := s.get(nil)
	return s, err
}

// get implements tls.Config.GetCertificate.
func (s *servingCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cert != nil && time.Until(s.cert.Leaf.NotAfter) > servingLife/2 {
		return s.cert, nil
	}
	cert, err := s.issue()
	if err != nil {
		return nil, fmt.Errorf("istiod: serving certificate: %w", err)
	}
	s.cert = cert
	return cert, nil
}

func (s *servingCertificate) issue() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(servingLife),
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
	a := s.authority
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	for _, c := range a.chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}
