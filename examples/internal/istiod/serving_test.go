package istiod

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/identity"
)

func serving(t *testing.T, a *identity.CA, names ...string) *tls.Certificate {
	t.Helper()
	s, err := newServingCertificate(a, names, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := s.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestServingCertificateNames(t *testing.T) {
	a, err := identity.NewCA(identity.CAConfig{TrustDomain: trustDomain(t, "cluster.local")})
	if err != nil {
		t.Fatal(err)
	}
	leaf := serving(t, a, "istiod.example.com", "192.0.2.1").Leaf
	for _, name := range []string{"istiod.istio-system.svc", "istiod.istio-system.svc.cluster.local", "localhost", "127.0.0.1", "::1", "istiod.example.com", "192.0.2.1"} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if leaf.VerifyHostname("other.example.com") == nil {
		t.Error("it is good for any name")
	}
	if leaf.IsCA || len(leaf.URIs) > 0 || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		t.Errorf("it can be used as more than a server's: CA %t, URIs %v, usages %v", leaf.IsCA, leaf.URIs, leaf.ExtKeyUsage)
	}
}

func TestServingCertificateIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := identity.NewCA(identity.CAConfig{TrustDomain: trustDomain(t, "cluster.local")})
		if err != nil {
			t.Fatal(err)
		}
		s, err := newServingCertificate(a, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		get := func() *x509.Certificate {
			cert, err := s.get(nil)
			if err != nil {
				t.Fatal(err)
			}
			if now := time.Now(); now.Before(cert.Leaf.NotBefore) || now.After(cert.Leaf.NotAfter) {
				t.Fatalf("at %s it is not valid", now)
			}
			return cert.Leaf
		}
		first := get()
		time.Sleep(servingLife/2 - time.Second)
		if !get().Equal(first) {
			t.Error("renewed before half of its life")
		}
		time.Sleep(2 * time.Second)
		if get().Equal(first) {
			t.Error("not renewed at half of its life")
		}

		// Near the end of the CA it lives no longer than that.
		end := a.Bundle().X509Authorities()[0].NotAfter
		time.Sleep(time.Until(end) - time.Hour)
		if last := get(); !last.NotAfter.Equal(end) {
			t.Errorf("it lives until %s, the CA until %s", last.NotAfter, end)
		}
		last := get()
		time.Sleep(20 * time.Minute)
		if !get().Equal(last) {
			t.Error("a short one is made anew for each connection")
		}
		time.Sleep(time.Hour)
		if cert, err := s.get(nil); err == nil {
			t.Errorf("with an expired CA there is one until %s", cert.Leaf.NotAfter)
		}
	})
}

// A CA that is replaced signs for the control plane at once: proxies may know
// the new root only.
func TestServingCertificateFollowsTheCA(t *testing.T) {
	td, dir := trustDomain(t, "cluster.local"), t.TempDir()
	a, err := identity.OpenCA(dir, identity.CAConfig{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServingCertificate(a, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "ca")
	if _, err := identity.OpenCA(other, identity.CAConfig{TrustDomain: td}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca-cert.pem", "ca-key.pem", "root-cert.pem"} {
		if err := os.Rename(filepath.Join(other, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if changed, err := a.Reload(); !changed || err != nil {
		t.Fatal(changed, err)
	}
	cert, err := s.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.RootsPEM())
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "localhost"}); err != nil {
		t.Error(err)
	}
}

// The certificate is what clients get to see.
func TestServesItsCertificate(t *testing.T) {
	w := newWorld(t)
	w.config.ServerNames = []string{"istiod.example.com"}
	w.serve()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.config.Authority.RootsPEM())
	for _, tt := range []struct {
		name    string
		version uint16
		works   bool
	}{
		{"istiod.istio-system.svc", 0, true},
		{"istiod.example.com", 0, true},
		{"other.example.com", 0, false},
		{"istiod.istio-system.svc", tls.VersionTLS12, false},
	} {
		conn, err := tls.Dial("tcp", w.address, &tls.Config{RootCAs: roots, ServerName: tt.name, MaxVersion: tt.version, NextProtos: []string{"h2"}})
		if (err == nil) != tt.works {
			t.Errorf("as %s with at most TLS %#x: %v", tt.name, tt.version, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
	plain, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_, _ = plain.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	answer := make([]byte, 9)
	if n, _ := plain.Read(answer); n == 9 && answer[3] == 4 {
		t.Error("it speaks HTTP/2 without TLS")
	}
}
