// Package testca makes certificates for tests and examples: roots,
// intermediates and SPIFFE leaves, good ones and bad ones.
//
// It depends on the standard library only, and panics where a real CA would
// return an error: a failure here is a mistake in the test itself.
//
// Everything is valid from 1990 to 2100 unless a Leaf says otherwise, so the
// certificates hold in the real world and in a testing/synctest bubble, whose
// clock starts in the year 2000.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

var (
	validFrom  = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

// A CA issues certificates for one trust domain.
type CA struct {
	// TrustDomain is the SPIFFE trust domain, such as "cluster.local".
	TrustDomain string

	root  *x509.Certificate // the trust anchor
	cert  *x509.Certificate // what signs: root itself, or an intermediate
	key   *ecdsa.PrivateKey
	chain [][]byte // intermediates, from cert towards (without) root
}

// New makes a self-signed root for trustDomain.
func New(trustDomain string) *CA {
	key := newKey()
	template := authority("root of " + trustDomain)
	cert, _ := sign(template, template, key.Public(), key)
	return &CA{TrustDomain: trustDomain, root: cert, cert: cert, key: key}
}

// Intermediate makes a CA below ca. Its leaves carry the whole chain.
func (ca *CA) Intermediate() *CA {
	key := newKey()
	cert, der := sign(authority("intermediate of "+ca.TrustDomain), ca.cert, key.Public(), ca.key)
	return &CA{
		TrustDomain: ca.TrustDomain,
		root:        ca.root,
		cert:        cert,
		key:         key,
		chain:       append([][]byte{der}, ca.chain...),
	}
}

// A Leaf describes an end-entity certificate. The zero value of every field
// but ID is what a workload gets from Istio.
type Leaf struct {
	ID        string // a path such as "/ns/app/sa/web", or a whole "spiffe://" URI; "" means no SAN
	MoreIDs   []string
	NotBefore time.Time          // default 1990
	NotAfter  time.Time          // default 2100
	Usages    []x509.ExtKeyUsage // default client and server authentication
}

// Issue makes a leaf for id, a path such as "/ns/app/sa/web" in the trust
// domain of ca, or a whole "spiffe://" URI of any trust domain.
func (ca *CA) Issue(id string) tls.Certificate { return ca.IssueLeaf(Leaf{ID: id}) }

// Expired makes a leaf for id that ended an hour ago.
func (ca *CA) Expired(id string) tls.Certificate {
	return ca.IssueLeaf(Leaf{ID: id, NotAfter: time.Now().Add(-time.Hour)})
}

// IssueLeaf makes the certificate that l describes, with a new key.
func (ca *CA) IssueLeaf(l Leaf) tls.Certificate {
	template := &x509.Certificate{
		SerialNumber: serial(),
		NotBefore:    orTime(l.NotBefore, validFrom),
		NotAfter:     orTime(l.NotAfter, validUntil),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  l.Usages,
	}
	if template.ExtKeyUsage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	}
	for _, id := range append([]string{l.ID}, l.MoreIDs...) {
		if id != "" {
			template.URIs = append(template.URIs, ca.uri(id))
		}
	}
	key := newKey()
	leaf, der := sign(template, ca.cert, key.Public(), ca.key)
	return tls.Certificate{
		Certificate: append([][]byte{der}, ca.chain...),
		PrivateKey:  key,
		Leaf:        leaf,
	}
}

// ID returns the whole SPIFFE ID for a path in the trust domain of ca.
func (ca *CA) ID(path string) string { return ca.uri(path).String() }

// Root returns the trust anchor of ca.
func (ca *CA) Root() *x509.Certificate { return ca.root }

// Pool holds the root of ca.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.root)
	return pool
}

func (ca *CA) uri(id string) *url.URL {
	u, err := url.Parse(id)
	must(err)
	if u.Scheme == "" {
		u = &url.URL{Scheme: "spiffe", Host: ca.TrustDomain, Path: id}
	}
	return u
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             validFrom,
		NotAfter:              validUntil,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func sign(template, parent *x509.Certificate, pub any, key *ecdsa.PrivateKey) (*x509.Certificate, []byte) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	must(err)
	cert, err := x509.ParseCertificate(der)
	must(err)
	return cert, der
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return key
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	must(err)
	return n
}

func orTime(t, fallback time.Time) time.Time {
	if t.IsZero() {
		return fallback
	}
	return t
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("testca: %v", err))
	}
}
