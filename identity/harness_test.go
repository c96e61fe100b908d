package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	east   = spiffeid.RequireTrustDomainFromString("east.example")
	west   = spiffeid.RequireTrustDomainFromString("west.example")
	north  = spiffeid.RequireTrustDomainFromString("north.example")
	alice  = spiffeid.RequireFromString("spiffe://east.example/ns/app/sa/alice")
	bob    = spiffeid.RequireFromString("spiffe://east.example/ns/app/sa/bob")
	carol  = spiffeid.RequireFromString("spiffe://west.example/ns/app/sa/carol")
	onlyID = func(ids ...spiffeid.ID) Peers { return Peers{IDs: ids} }
)

func newTestCA(t testing.TB, td spiffeid.TrustDomain) *CA {
	t.Helper()
	ca, err := NewCA(CAConfig{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func certOf(ca *CA) *x509.Certificate { return ca.signs.Load().cert }

func keyOf(ca *CA) crypto.Signer { return ca.signs.Load().key }

func newTestSource(t testing.TB, ca *CA, id spiffeid.ID) *Memory {
	t.Helper()
	src, err := ca.Source(id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func mustClient(t testing.TB, cfg Config) *Credentials {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustServer(t testing.TB, cfg Config) *Credentials {
	t.Helper()
	c, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustCRLs(t testing.TB, cfg CRLConfig) *CRLs {
	t.Helper()
	c, err := OpenCRLs(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func configOf(t testing.TB, c *Credentials) *tls.Config {
	t.Helper()
	cfg, err := c.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// side is how one side of a connection fared.
type side struct {
	state tls.ConnectionState
	err   error
}

// connect makes a connection and passes a byte each way. A TLS 1.3 client
// learns that it was refused only when it reads, hence the bytes.
func connect(client, server *tls.Config) (c, s side) {
	cp, sp := memnet.Pipe()
	done := make(chan struct{})
	run := func(conn *tls.Conn, out *side, first func() error) {
		defer conn.NetConn().Close()
		if out.err = conn.Handshake(); out.err != nil {
			return
		}
		out.state = conn.ConnectionState()
		out.err = first()
	}
	buf := make([]byte, 1)
	go func() {
		defer close(done)
		conn := tls.Server(sp, server)
		run(conn, &s, func() error {
			if _, err := conn.Write([]byte{1}); err != nil {
				return err
			}
			_, err := conn.Read(make([]byte, 1))
			return err
		})
	}()
	conn := tls.Client(cp, client)
	run(conn, &c, func() error {
		if _, err := conn.Read(buf); err != nil {
			return err
		}
		_, err := conn.Write(buf)
		return err
	})
	<-done
	return c, s
}

// forgery describes a certificate that a CA of ours would not issue.
type forgery struct {
	uris       []string // as they are, in this order
	dnsName    string   // instead of uris
	commonName string
	notBefore  time.Time
	notAfter   time.Time
	usages     []x509.ExtKeyUsage
	isCA       bool
	keyUsage   x509.KeyUsage
}

// forge signs with the authority of a CA, whatever the forgery says.
func forge(t testing.TB, f forgery, issuer *x509.Certificate, issuerKey crypto.Signer) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: f.commonName},
		NotBefore:             f.notBefore,
		NotAfter:              f.notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature | f.keyUsage,
		ExtKeyUsage:           f.usages,
		BasicConstraintsValid: true,
		IsCA:                  f.isCA,
	}
	if tmpl.NotBefore.IsZero() {
		tmpl.NotBefore = time.Now().Add(-time.Minute)
	}
	if tmpl.NotAfter.IsZero() {
		tmpl.NotAfter = time.Now().Add(time.Hour)
	}
	if len(f.uris) > 0 {
		tmpl.ExtraExtensions = []pkix.Extension{{Id: oidSubjectAltName, Value: encodeURIs(t, f.uris)}}
	}
	if f.dnsName != "" {
		tmpl.DNSNames = []string{f.dnsName}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, key.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func encodeURIs(t testing.TB, uris []string) []byte {
	t.Helper()
	var names []asn1.RawValue
	for _, u := range uris {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(u)})
	}
	der, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// naive is what a peer would use that presents a certificate and checks nothing.
func naive(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates:       []tls.Certificate{cert},
		InsecureSkipVerify: true,
		ClientAuth:         tls.RequireAnyClientCert,
		NextProtos:         []string{"h2"},
		MinVersion:         tls.VersionTLS13,
	}
}

// naiveOf is naive with a certificate that a CA issues.
func naiveOf(t testing.TB, ca *CA, id spiffeid.ID) *tls.Config {
	t.Helper()
	svid, err := ca.Issue(id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, c := range svid.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return naive(cert)
}
