package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Defaults of CAConfig: those of istiod.
const (
	DefaultTTL     = 24 * time.Hour
	DefaultMaxTTL  = 90 * 24 * time.Hour
	DefaultRootTTL = 10 * 365 * 24 * time.Hour
)

// backdate lets verifiers' clocks be behind ours. Istiod uses two minutes.
const backdate = 2 * time.Minute

// defaultNextUpdate is when a new revocation list is to be expected.
const defaultNextUpdate = 24 * time.Hour

// CAConfig describes a CA. Only TrustDomain is required.
type CAConfig struct {
	// TrustDomain is the one that the CA vouches for. Required.
	TrustDomain spiffeid.TrustDomain

	// Certificate and Key are the authority that signs: a root, or an
	// intermediate with Chain and Roots. If both are nil, NewCA makes a
	// self-signed root.
	Certificate *x509.Certificate
	Key         crypto.Signer

	// Chain are the intermediates above Certificate, without the root; they
	// follow each issued leaf.
	Chain []*x509.Certificate

	// Roots are what verifiers must trust. If empty, Certificate.
	Roots []*x509.Certificate

	// DefaultTTL is the life of a certificate if none is asked for. If zero, 24h.
	DefaultTTL time.Duration

	// MaxTTL bounds the life that may be asked for. If zero, 90 days.
	MaxTTL time.Duration

	// RootTTL is the life of a self-signed root. If zero, 10 years.
	RootTTL time.Duration

	// Time is the clock. If nil, time.Now.
	Time func() time.Time
}

// CA is a certificate authority of one trust domain, in memory. It issues
// nothing but X.509-SVIDs of its trust domain. It is safe for concurrent use.
type CA struct {
	cfg  CAConfig
	cert *x509.Certificate
	key  crypto.Signer
}

// NewCA returns a CA. With no certificate in the config it makes a new P-256
// key and a self-signed root.
func NewCA(cfg CAConfig) (*CA, error) {
	if cfg.TrustDomain.IsZero() {
		return nil, errors.New("identity: CAConfig.TrustDomain is not set")
	}
	if cfg.DefaultTTL < 0 || cfg.MaxTTL < 0 || cfg.RootTTL < 0 {
		return nil, errors.New("identity: negative TTL in CAConfig")
	}
	setDefault(&cfg.DefaultTTL, DefaultTTL)
	setDefault(&cfg.MaxTTL, DefaultMaxTTL)
	setDefault(&cfg.RootTTL, DefaultRootTTL)
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	if (cfg.Certificate == nil) != (cfg.Key == nil) {
		return nil, errors.New("identity: CAConfig needs both Certificate and Key, or neither")
	}
	ca := &CA{cfg: cfg, cert: cfg.Certificate, key: cfg.Key}
	if ca.cert == nil {
		return ca, ca.selfSign()
	}
	return ca, ca.checkAuthority()
}

func setDefault(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}

func (ca *CA) selfSign() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("identity: making the key of a CA: %w", err)
	}
	now := ca.cfg.Time()
	tmpl := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{ca.cfg.TrustDomain.Name()}},
		URIs:                  []*url.URL{ca.cfg.TrustDomain.ID().URL()}, // X.509-SVID §2: a signing certificate may name its trust domain
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(ca.cfg.RootTTL),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return fmt.Errorf("identity: self-signing a CA: %w", err)
	}
	ca.cert, err = x509.ParseCertificate(der)
	ca.key = key
	return err
}

// checkAuthority refuses a given authority whose leaves nobody would accept.
func (ca *CA) checkAuthority() error {
	c := ca.cert
	if !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("identity: the certificate of the CA may not sign certificates")
	}
	pub, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(ca.key.Public()) {
		return errors.New("identity: the key of the CA does not belong to its certificate")
	}
	if len(ca.cfg.Roots) == 0 {
		return nil
	}
	_, err := c.Verify(x509.VerifyOptions{
		Roots:         pool(ca.cfg.Roots),
		Intermediates: pool(ca.cfg.Chain),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		CurrentTime:   ca.cfg.Time(),
	})
	if err != nil {
		return fmt.Errorf("identity: the CA does not chain to its roots: %w", err)
	}
	return nil
}

// TrustDomain returns the trust domain that the CA vouches for.
func (ca *CA) TrustDomain() spiffeid.TrustDomain { return ca.cfg.TrustDomain }

// Bundle returns the roots that verifiers of this CA's certificates need.
func (ca *CA) Bundle() *x509bundle.Bundle {
	roots := ca.cfg.Roots
	if len(roots) == 0 {
		roots = []*x509.Certificate{ca.cert}
	}
	return x509bundle.FromX509Authorities(ca.cfg.TrustDomain, roots)
}

// TTL returns the life that a request for ttl gets: the default if it is not
// positive, the maximum if it is more, and in any case no longer than the CA's
// own certificate lives.
func (ca *CA) TTL(ttl time.Duration) time.Duration {
	if ttl <= 0 {
		ttl = ca.cfg.DefaultTTL
	}
	return min(ttl, ca.cfg.MaxTTL, ca.cert.NotAfter.Sub(ca.cfg.Time()))
}

// Issue makes a P-256 key and a certificate for an identity. See TTL for how
// long it lives.
func (ca *CA) Issue(id spiffeid.ID, ttl time.Duration) (*x509svid.SVID, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity: making a key for %s: %w", id, err)
	}
	chain, err := ca.Sign(key.Public(), id, ttl)
	if err != nil {
		return nil, err
	}
	return &x509svid.SVID{ID: id, Certificates: chain, PrivateKey: key}, nil
}

// Sign certifies that a public key belongs to an identity, which must be a
// workload of the CA's trust domain. It returns the leaf first, then the
// intermediates, without the root. Whoever calls it has authenticated the
// holder of the key as id.
func (ca *CA) Sign(pub crypto.PublicKey, id spiffeid.ID, ttl time.Duration) ([]*x509.Certificate, error) {
	if !id.MemberOf(ca.cfg.TrustDomain) || id.Path() == "" {
		return nil, fmt.Errorf("identity: %q is not a workload of trust domain %q", id, ca.cfg.TrustDomain.Name())
	}
	life := ca.TTL(ttl)
	if life <= 0 {
		return nil, fmt.Errorf("identity: the certificate of the CA expired at %s", ca.cert.NotAfter.Format(time.RFC3339))
	}
	now := ca.cfg.Time()
	tmpl := &x509.Certificate{
		SerialNumber:          newSerial(),
		URIs:                  []*url.URL{id.URL()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, pub, ca.key)
	if err != nil {
		return nil, fmt.Errorf("identity: signing for %s: %w", id, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("identity: signing for %s: %w", id, err)
	}
	return append([]*x509.Certificate{leaf}, ca.issuers()...), nil
}

// SignCSR is Sign for the public key of a certificate signing request, whose
// signature proves that the requester holds the private key. Nothing else of
// the request is used: the identity comes from the caller.
func (ca *CA) SignCSR(csr *x509.CertificateRequest, id spiffeid.ID, ttl time.Duration) ([]*x509.Certificate, error) {
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("identity: CSR for %s: %w", id, err)
	}
	return ca.Sign(csr.PublicKey, id, ttl)
}

// SignCRL signs a certificate revocation list. Of the template it uses the
// entries; and the number and the times where they are set: by default the
// number is the time in seconds, and the next update is in a day.
func (ca *CA) SignCRL(template *x509.RevocationList) (*x509.RevocationList, error) {
	l := x509.RevocationList{
		RevokedCertificateEntries: template.RevokedCertificateEntries,
		Number:                    template.Number,
		ThisUpdate:                template.ThisUpdate,
		NextUpdate:                template.NextUpdate,
	}
	now := ca.cfg.Time()
	if l.Number == nil {
		l.Number = big.NewInt(now.Unix())
	}
	if l.ThisUpdate.IsZero() {
		l.ThisUpdate = now.Add(-backdate)
	}
	if l.NextUpdate.IsZero() {
		l.NextUpdate = now.Add(defaultNextUpdate)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &l, ca.cert, ca.key)
	if err != nil {
		return nil, fmt.Errorf("identity: signing a revocation list: %w", err)
	}
	return x509.ParseRevocationList(der)
}

// issuers returns what follows a leaf: the CA's certificate and those above it
// unless it is a root itself.
func (ca *CA) issuers() []*x509.Certificate {
	if ca.Bundle().HasX509Authority(ca.cert) {
		return nil
	}
	return append([]*x509.Certificate{ca.cert}, ca.cfg.Chain...)
}

// Source issues a certificate and returns a source of it that knows the roots
// of this CA. It does not renew.
func (ca *CA) Source(id spiffeid.ID, ttl time.Duration) (*Memory, error) {
	svid, err := ca.Issue(id, ttl)
	if err != nil {
		return nil, err
	}
	return NewMemory(svid, ca.Bundle()), nil
}

// newSerial returns 127 random bits: RFC 5280 §4.1.2.2 wants them positive,
// unique and of 20 octets at most.
func newSerial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}
