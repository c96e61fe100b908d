package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func TestCertificateLife(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ca, err := NewCA(CAConfig{TrustDomain: east, RootTTL: 100 * 24 * time.Hour, Time: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name      string
		ask, want time.Duration
	}{
		{"default", 0, 24 * time.Hour},
		{"negative", -time.Hour, 24 * time.Hour},
		{"as asked", time.Hour, time.Hour},
		{"maximum", 1000 * 24 * time.Hour, 90 * 24 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			svid, err := ca.Issue(bob, tc.ask)
			if err != nil {
				t.Fatal(err)
			}
			leaf := svid.Certificates[0]
			if got := leaf.NotAfter.Sub(now); got != tc.want {
				t.Errorf("lives for %v, want %v", got, tc.want)
			}
			if got := now.Sub(leaf.NotBefore); got != backdate {
				t.Errorf("backdated by %v", got)
			}
		})
	}
	now = now.Add(99 * 24 * time.Hour)
	if got := ca.TTL(0); got != 24*time.Hour {
		t.Errorf("near the root's end: %v", got)
	}
	now = now.Add(20 * time.Hour)
	if got := ca.TTL(0); got != 4*time.Hour {
		t.Errorf("outlives the root: %v", got)
	}
	now = now.Add(5 * time.Hour)
	if _, err := ca.Issue(bob, 0); err == nil {
		t.Error("an expired CA issued a certificate")
	}
}

func TestIssuedCertificateIsAnSVID(t *testing.T) {
	ca := newTestCA(t, east)
	svid, err := ca.Issue(bob, 0)
	if err != nil {
		t.Fatal(err)
	}
	leaf := svid.Certificates[0]
	if len(leaf.URIs) != 1 || leaf.IsCA || len(leaf.ExtKeyUsage) != 2 || len(svid.Certificates) != 1 || leaf.Subject.String() != "" {
		t.Errorf("unexpected leaf: URIs %v, CA %t, usages %v, subject %q, chain of %d", leaf.URIs, leaf.IsCA, leaf.ExtKeyUsage, leaf.Subject, len(svid.Certificates))
	}
	// go-spiffe's own verification is an independent judge.
	if id, _, err := x509svid.Verify(svid.Certificates, ca.Bundle()); err != nil || id != bob {
		t.Errorf("go-spiffe says %v, %v", id, err)
	}
}

func TestSignRefusesOtherTrustDomains(t *testing.T) {
	ca := newTestCA(t, east)
	for _, id := range []spiffeid.ID{carol, east.ID(), {}} {
		if _, err := ca.Issue(id, 0); err == nil {
			t.Errorf("issued a certificate for %q", id)
		}
	}
}

func TestSignCSRTakesOnlyTheKey(t *testing.T) {
	ca := newTestCA(t, east)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "root"},
		URIs:     []*url.URL{alice.URL()},
		DNSNames: []string{"istiod.istio-system.svc"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.SignCSR(csr, bob, 0)
	if err != nil {
		t.Fatal(err)
	}
	leaf := chain[0]
	if id, err := CertificateID(leaf); err != nil || id != bob || len(leaf.DNSNames) > 0 || leaf.Subject.CommonName != "" {
		t.Errorf("got %v, %v, DNS %v, CN %q", id, err, leaf.DNSNames, leaf.Subject.CommonName)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("the key is not the requester's")
	}
	csr.Signature[len(csr.Signature)-1] ^= 1
	if _, err := ca.SignCSR(csr, bob, 0); err == nil {
		t.Error("a request without proof of possession was signed")
	}
}

// TestAuthorityWhoseLeavesNobodyAccepts: the certificate of each may sign, and
// each has the right key.
func TestAuthorityWhoseLeavesNobodyAccepts(t *testing.T) {
	for name, tc := range map[string]struct {
		root, signer x509.Certificate // as far as they are special
	}{
		"expired root":         {root: x509.Certificate{NotAfter: time.Now().Add(-time.Minute)}},
		"root of the future":   {root: x509.Certificate{NotBefore: time.Now().Add(time.Hour)}},
		"expired intermediate": {signer: x509.Certificate{NotAfter: time.Now().Add(-time.Minute)}},
		"too long a path":      {root: x509.Certificate{MaxPathLenZero: true}, signer: x509.Certificate{MaxPathLen: -1}},
		"other names only":     {root: x509.Certificate{PermittedURIDomains: []string{"west.example"}}},
		"for other uses":       {signer: x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}},
		"for clients only":     {root: x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}},
	} {
		t.Run(name, func(t *testing.T) {
			root, rootKey := forgeAuthority(t, tc.root, nil, nil)
			cfg := CAConfig{TrustDomain: east, Certificate: root, Key: rootKey}
			if !reflect.ValueOf(tc.signer).IsZero() {
				cfg.Certificate, cfg.Key = forgeAuthority(t, tc.signer, root, rootKey)
				cfg.Roots = []*x509.Certificate{root}
			}
			if _, err := NewCA(cfg); err == nil {
				t.Error("it is in service")
			}
		})
	}
	good, key := forgeAuthority(t, x509.Certificate{PermittedURIDomains: []string{"east.example"}, ExtKeyUsage: bothUsages}, nil, nil)
	if _, err := NewCA(CAConfig{TrustDomain: east, Certificate: good, Key: key}); err != nil {
		t.Errorf("one that fits: %v", err)
	}
}

// forgeAuthority makes an authority out of what is given; self-signed without
// an issuer.
func forgeAuthority(t *testing.T, tmpl x509.Certificate, issuer *x509.Certificate, issuerKey crypto.Signer) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber, tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = newSerial(), true, true, x509.KeyUsageCertSign
	tmpl.Subject.CommonName = tmpl.SerialNumber.String()
	if tmpl.NotBefore.IsZero() {
		tmpl.NotBefore = time.Now().Add(-time.Hour)
	}
	if tmpl.NotAfter.IsZero() {
		tmpl.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if issuer == nil {
		issuer, issuerKey = &tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, issuer, key.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestGivenAuthority(t *testing.T) {
	root, other := newTestCA(t, east), newTestCA(t, east)
	leaf, err := root.Issue(bob, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]CAConfig{
		"no trust domain": {},
		"no key":          {TrustDomain: east, Certificate: certOf(root)},
		"other key":       {TrustDomain: east, Certificate: certOf(root), Key: keyOf(other)},
		"other root":      {TrustDomain: east, Certificate: certOf(root), Key: keyOf(root), Roots: other.Bundle().X509Authorities()},
		"a leaf":          {TrustDomain: east, Certificate: leaf.Certificates[0], Key: leaf.PrivateKey},
		"negative TTL":    {TrustDomain: east, MaxTTL: -1},
	} {
		if _, err := NewCA(cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	again, err := NewCA(CAConfig{TrustDomain: east, Certificate: certOf(root), Key: keyOf(root)})
	if err != nil || !again.Bundle().Equal(root.Bundle()) {
		t.Errorf("the same authority again: %v", err)
	}
}
