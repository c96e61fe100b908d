package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"slices"
	"sync/atomic"
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

	// Chain are the intermediates above Certificate; they follow each issued
	// leaf. As in Istio's cert-chain.pem it may begin with Certificate and end
	// with a root: they are not sent twice, and not sent.
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

	// Interval is how often Run looks for changed files, Changed is called when
	// they were taken into service, and Logger is told about that and about
	// failures. They are of use with OpenCA. If zero, 10 s; if nil, nobody is.
	Interval time.Duration
	Changed  func()
	Logger   *slog.Logger
}

// CA is a certificate authority of one trust domain. It issues X.509-SVIDs of
// that, and certificates of servers that are known by name (see ServerCertificate).
// It is safe for concurrent use.
type CA struct {
	cfg     CAConfig
	signs   atomic.Pointer[authority]
	files   watchedFiles // of OpenCA
	fromDir bool
}

// authority is what a CA signs with.
type authority struct {
	cert    *x509.Certificate
	key     crypto.Signer
	issuers []*x509.Certificate // what follows a leaf, up to the root and without it
	roots   *x509bundle.Bundle
	end     time.Time // of what stands above a leaf, the root included; set by check
}

// NewCA returns a CA that lives in memory. With no certificate in the config it
// makes a new P-256 key and a self-signed root.
func NewCA(cfg CAConfig) (*CA, error) {
	ca, err := newCA(cfg)
	if err != nil {
		return nil, err
	}
	if (cfg.Certificate == nil) != (cfg.Key == nil) {
		return nil, errors.New("identity: CAConfig needs both Certificate and Key, or neither")
	}
	if cfg.Certificate == nil {
		cert, key, err := ca.newRoot()
		if err != nil {
			return nil, err
		}
		return ca, ca.use(cert, key, nil, nil)
	}
	return ca, ca.use(cfg.Certificate, cfg.Key, cfg.Chain, cfg.Roots)
}

func newCA(cfg CAConfig) (*CA, error) {
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
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &CA{cfg: cfg}, nil
}

func setDefault(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}

// newRoot makes a self-signed authority.
func (ca *CA) newRoot() (*x509.Certificate, crypto.Signer, error) {
	name := pkix.Name{Organization: []string{ca.cfg.TrustDomain.Name()}}
	cert, key, err := ca.newAuthority(name, ca.cfg.RootTTL, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("identity: making a root: %w", err)
	}
	return cert, key, nil
}

// newAuthority makes a certificate that may sign others, below a parent or, if
// that is nil, below itself.
func (ca *CA) newAuthority(name pkix.Name, ttl time.Duration, parent *authority) (*x509.Certificate, crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := ca.cfg.Time()
	tmpl := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               name,
		URIs:                  []*url.URL{ca.cfg.TrustDomain.ID().URL()}, // X.509-SVID §2: a signing certificate may name its trust domain
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(ttl),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	issuer, signer := tmpl, crypto.Signer(key)
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, key.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

// Intermediate returns a CA whose authority this one certifies, with a key of
// its own: one root, and a CA for each cluster. It lives no longer than this one.
func (ca *CA) Intermediate(name string, ttl time.Duration) (*CA, error) {
	parent := ca.signs.Load()
	ttl = min(ttl, parent.end.Sub(ca.cfg.Time()))
	if ttl <= 0 {
		return nil, fmt.Errorf("identity: intermediate %q: no time to live", name)
	}
	subject := pkix.Name{Organization: []string{ca.cfg.TrustDomain.Name()}, CommonName: name}
	cert, key, err := ca.newAuthority(subject, ttl, parent)
	if err != nil {
		return nil, fmt.Errorf("identity: making the intermediate %q: %w", name, err)
	}
	cfg := ca.cfg
	cfg.Certificate, cfg.Key = cert, key
	cfg.Chain, cfg.Roots = parent.issuers, parent.roots.X509Authorities()
	return NewCA(cfg)
}

// use puts an authority into service, unless nobody would accept its leaves.
func (ca *CA) use(cert *x509.Certificate, key crypto.Signer, chain, roots []*x509.Certificate) error {
	if len(roots) == 0 {
		roots = []*x509.Certificate{cert}
	}
	a := &authority{cert: cert, key: key, roots: x509bundle.FromX509Authorities(ca.cfg.TrustDomain, roots)}
	if !a.roots.HasX509Authority(cert) {
		a.issuers = []*x509.Certificate{cert}
	}
	for _, c := range chain {
		if !c.Equal(cert) && !a.roots.HasX509Authority(c) {
			a.issuers = append(a.issuers, c)
		}
	}
	if err := a.check(ca.cfg.Time()); err != nil {
		return err
	}
	ca.signs.Store(a)
	return nil
}

// check signs a leaf on trial: paths that are too long, constraints of names and
// of uses show only then.
func (a *authority) check(now time.Time) error {
	c := a.cert
	if !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("identity: the certificate of the CA may not sign certificates")
	}
	pub, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(a.key.Public()) {
		return errors.New("identity: the private key does not match the certificate of the CA")
	}
	chain, err := a.sign(a.key.Public(), svidTemplate(a.roots.TrustDomain().ID()), now, time.Minute)
	if err != nil {
		return fmt.Errorf("identity: trying the CA: %w", err)
	}
	for _, usage := range chain[0].ExtKeyUsage {
		verified, err := chain[0].Verify(x509.VerifyOptions{
			Roots:         pool(a.roots.X509Authorities()),
			Intermediates: pool(chain[1:]),
			KeyUsages:     []x509.ExtKeyUsage{usage},
			CurrentTime:   now,
		})
		if err != nil {
			return fmt.Errorf("identity: what the CA signs does not chain to its roots: %w", err)
		}
		a.end = endOf(verified[0][1:])
	}
	return nil
}

// endOf returns when the first of some certificates ends.
func endOf(certs []*x509.Certificate) time.Time {
	return slices.MinFunc(certs, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
}

// svidTemplate is the part of an X.509-SVID that does not depend on when it is
// signed, and by whom.
func svidTemplate(id spiffeid.ID) *x509.Certificate {
	return &x509.Certificate{
		URIs:        []*url.URL{id.URL()},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// TrustDomain returns the trust domain that the CA vouches for.
func (ca *CA) TrustDomain() spiffeid.TrustDomain { return ca.cfg.TrustDomain }

// Bundle returns the roots that verifiers of this CA's certificates need.
func (ca *CA) Bundle() *x509bundle.Bundle { return ca.signs.Load().roots.Clone() }

// GetX509BundleForTrustDomain implements x509bundle.Source, with the roots that
// there are now.
func (ca *CA) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return ca.signs.Load().roots.GetX509BundleForTrustDomain(td)
}

// RootsPEM returns the roots as PEM.
func (ca *CA) RootsPEM() []byte { return encodePEM(ca.signs.Load().roots.X509Authorities()) }

// TTL returns the life that a request for ttl gets: the default if it is not
// positive, the maximum if it is more, and in any case no longer than the CA's
// own certificate lives and those above it.
func (ca *CA) TTL(ttl time.Duration) time.Duration { return ca.ttl(ttl, ca.signs.Load()) }

func (ca *CA) ttl(asked time.Duration, a *authority) time.Duration {
	if asked <= 0 {
		asked = ca.cfg.DefaultTTL
	}
	return min(asked, ca.cfg.MaxTTL, a.end.Sub(ca.cfg.Time()))
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
	chain, err := ca.sign(pub, svidTemplate(id), ttl)
	if err != nil {
		return nil, fmt.Errorf("identity: signing for %s: %w", id, err)
	}
	return chain, nil
}

// ServerCertificate makes a P-256 key and a certificate for a server that its
// clients know by DNS names and IP addresses, as they know a control plane. It
// is nobody's identity in the mesh: it has no SPIFFE ID, and is no client's.
func (ca *CA) ServerCertificate(names []string, ttl time.Duration) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity: making a key for a server: %w", err)
	}
	tmpl := &x509.Certificate{
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, name)
		}
	}
	chain, err := ca.sign(key.Public(), tmpl, ttl)
	if err != nil {
		return nil, fmt.Errorf("identity: signing for the server %v: %w", names, err)
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

// sign signs a leaf with what the CA has now.
func (ca *CA) sign(pub crypto.PublicKey, tmpl *x509.Certificate, ttl time.Duration) ([]*x509.Certificate, error) {
	a := ca.signs.Load() // one and the same, if it is replaced meanwhile
	life := ca.ttl(ttl, a)
	if life <= 0 {
		return nil, fmt.Errorf("the certificate of the CA, or one above it, expired at %s", a.end.Format(time.RFC3339))
	}
	return a.sign(pub, tmpl, ca.cfg.Time(), life)
}

// sign completes a leaf and signs it. It returns the intermediates after it.
func (a *authority) sign(pub crypto.PublicKey, tmpl *x509.Certificate, now time.Time, life time.Duration) ([]*x509.Certificate, error) {
	tmpl.SerialNumber = newSerial()
	tmpl.NotBefore, tmpl.NotAfter = now.Add(-backdate), now.Add(life)
	tmpl.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, pub, a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return append([]*x509.Certificate{leaf}, a.issuers...), nil
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
	a := ca.signs.Load()
	der, err := x509.CreateRevocationList(rand.Reader, &l, a.cert, a.key)
	if err != nil {
		return nil, fmt.Errorf("identity: signing a revocation list: %w", err)
	}
	return x509.ParseRevocationList(der)
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
