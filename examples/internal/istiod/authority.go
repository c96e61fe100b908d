package istiod

import (
	"bytes"
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
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
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

// An Authority certifies the workloads of a mesh, and the control plane
// itself.
type Authority struct {
	*identity.CA
	cert    *x509.Certificate
	key     crypto.Signer
	issuers []*x509.Certificate // what follows a leaf: up to the root, without it
	roots   []*x509.Certificate
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
// secret cacerts. If the directory is empty or not there, it makes a root there;
// of several processes that do so at once, one makes it for all. Files that are
// replaced later are not read again.
func OpenAuthority(dir string, td spiffeid.TrustDomain) (*Authority, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("istiod: CA: %w", err)
	}
	if len(entries) == 0 {
		if err := createRoot(dir, td); err != nil {
			return nil, fmt.Errorf("istiod: new root: %w", err)
		}
	}
	a, err := readAuthority(dir, td)
	if err != nil {
		return nil, fmt.Errorf("istiod: CA in %s: %w", dir, err)
	}
	return a, nil
}

func readAuthority(dir string, td spiffeid.TrustDomain) (*Authority, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, caCertFile), filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds a key that cannot sign", caKeyFile)
	}
	roots, err := readCertificates(filepath.Join(dir, rootCertFile))
	if err != nil {
		return nil, err
	}
	chain, err := readCertificates(filepath.Join(dir, chainFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return newAuthority(td, pair.Leaf, key, chain, roots)
}

// newAuthority takes the chain as Istio has it in cert-chain.pem: it may begin
// with the CA's own certificate, and end with a root, which are not sent twice
// and not sent.
func newAuthority(td spiffeid.TrustDomain, cert *x509.Certificate, key crypto.Signer, chain, roots []*x509.Certificate) (*Authority, error) {
	chain = slices.DeleteFunc(chain, func(c *x509.Certificate) bool {
		return c.Equal(cert) || slices.ContainsFunc(roots, c.Equal)
	})
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: td, Certificate: cert, Key: key, Chain: chain, Roots: roots})
	if err != nil {
		return nil, err
	}
	issuers := chain
	if !slices.ContainsFunc(roots, cert.Equal) {
		issuers = append([]*x509.Certificate{cert}, chain...)
	}
	return &Authority{CA: ca, cert: cert, key: key, issuers: issuers, roots: roots}, nil
}

// RootPEM returns what clients must trust.
func (a *Authority) RootPEM() []byte { return encodeCertificates(a.roots) }

// backdate lets clients' clocks be behind ours, as in istiod.
const backdate = 2 * time.Minute

// newSerial returns 127 random bits: RFC 5280 section 4.1.2.2 wants serial
// numbers positive, unique and of 20 octets at most.
func newSerial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

func newRoot(td spiffeid.TrustDomain) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{td.Name()}, CommonName: "eastwest root"},
		URIs:                  []*url.URL{td.ID().URL()},
		NotBefore:             time.Now().Add(-backdate),
		NotAfter:              time.Now().Add(identity.DefaultRootTTL),
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
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".ca-*") // with mode 0700
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	if err := writeRoot(temp, cert, key); err != nil {
		return err
	}
	_ = os.Remove(dir) // which succeeds if it is empty: Rename wants it gone
	err = os.Rename(temp, dir)
	if _, stat := os.Stat(filepath.Join(dir, caKeyFile)); err != nil && stat == nil {
		return nil // another process was first
	}
	return err
}

func writeRoot(dir string, cert *x509.Certificate, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certPEM := encodeCertificates([]*x509.Certificate{cert})
	return errors.Join(
		os.WriteFile(filepath.Join(dir, caKeyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
		os.WriteFile(filepath.Join(dir, caCertFile), certPEM, 0o644),
		os.WriteFile(filepath.Join(dir, rootCertFile), certPEM, 0o644),
	)
}

// readCertificates reads a file of PEM blocks, all of them certificates. Text
// may stand before a block, as openssl writes it.
func readCertificates(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	block, rest := pem.Decode(data)
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: a block of type %q", path, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", path, len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%s: what follows certificate %d is no PEM", path, len(certs))
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s: no certificate", path)
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
