package dnsproxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// TestDNSOverTLS: RFC 7858, with a server whose certificate counts, and one whose does not.
func TestDNSOverTLS(t *testing.T) {
	cert, roots := selfSigned(t, net.IPv4(127, 0, 0, 1))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsproxy.Server{Handler: echo}
	t.Cleanup(func() { s.Close() })
	go s.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}}))

	var attempts []dnsproxy.Attempt
	forward := func(roots *x509.CertPool) *dnsproxy.Forwarder {
		f := &dnsproxy.Forwarder{
			Upstreams: []dnsproxy.Upstream{{Address: l.Addr().String(), TLS: &tls.Config{RootCAs: roots}}},
			Attempts:  1,
			Observe:   func(a dnsproxy.Attempt) { attempts = append(attempts, a) },
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	good := forward(roots)
	for _, name := range []string{"a.", "b."} {
		resp, err := good.Exchange(t.Context(), queryFor(name))
		if err != nil {
			t.Fatal(err)
		}
		if got := lines(resp.Answer); !slices.Equal(got, []string{name + " A 192.0.2.1"}) {
			t.Errorf("answers are %v", got)
		}
	}
	if len(attempts) != 2 || attempts[0].Network != "tls" || attempts[0].Rcode != dns.RcodeSuccess {
		t.Errorf("attempts are %+v", attempts)
	}
	_, err = forward(x509.NewCertPool()).Exchange(t.Context(), queryFor("a."))
	if unknown := (x509.UnknownAuthorityError{}); !errors.As(err, &unknown) {
		t.Errorf("error is %v, want an x509.UnknownAuthorityError", err)
	}
}

func selfSigned(t *testing.T, ip net.IP) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{ip},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}
