package istiod

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"log/slog"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/identity"
)

func TestAuthorityIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "ca")
	td := trustDomain(t, "cluster.local")
	first := openAuthority(t, dir, td)
	second := openAuthority(t, dir+string(filepath.Separator), td)
	if !bytes.Equal(first.RootPEM(), second.RootPEM()) {
		t.Error("after a restart there is another root")
	}
	checkLeaf(t, second, first.RootPEM(), 1)
	for file, want := range map[string]fs.FileMode{".": 0o700, caKeyFile: 0o600, caCertFile: 0o644, rootCertFile: 0o644} {
		if mode := fileMode(t, filepath.Join(dir, file)); mode != want {
			t.Errorf("%s has mode %#o, want %#o", file, mode, want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".ca-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if data, err := os.ReadFile(filepath.Join(dir, rootCertFile)); err != nil || !bytes.Equal(data, first.RootPEM()) {
		t.Errorf("RootPEM is not what is in %s (%v)", rootCertFile, err)
	}
}

func openAuthority(t *testing.T, dir string, td spiffeid.TrustDomain) *Authority {
	t.Helper()
	a, err := OpenAuthority(dir, td)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// checkLeaf checks that who trusts the roots trusts what the authority issues,
// which is a chain of so many certificates.
func checkLeaf(t *testing.T, a *Authority, roots []byte, length int) {
	t.Helper()
	id, err := identity.WorkloadID(a.TrustDomain(), "app", "reviews")
	if err != nil {
		t.Fatal(err)
	}
	svid, err := a.Issue(id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	verifyChain(t, svid.Certificates, roots, length)
}

func verifyChain(t *testing.T, chain []*x509.Certificate, roots []byte, length int) {
	t.Helper()
	if len(chain) != length {
		t.Errorf("the chain has %d certificates, want %d", len(chain), length)
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	options.Roots.AppendCertsFromPEM(roots)
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(options); err != nil {
		t.Error(err)
	}
}

// Of processes that start at once, one makes the root for all; an empty
// directory, such as a new volume, is as good as none.
func TestAuthorityIsMadeOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		dir  func(t *testing.T) string
	}{
		{"no directory", func(t *testing.T) string { return filepath.Join(t.TempDir(), "ca") }},
		{"empty directory", func(t *testing.T) string { return t.TempDir() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tt.dir(t)
			td := trustDomain(t, "cluster.local")
			roots, errs := make([][]byte, 16), make([]error, 16)
			var all sync.WaitGroup
			for i := range roots {
				all.Go(func() {
					a, err := OpenAuthority(dir, td)
					if errs[i] = err; err == nil {
						roots[i] = a.RootPEM()
					}
				})
			}
			all.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			for _, root := range roots {
				if !bytes.Equal(root, roots[0]) {
					t.Fatal("the roots differ")
				}
			}
		})
	}
}

// A pluggedCA is a root, and an intermediate below another intermediate.
type pluggedCA struct {
	root, upper, lower *x509.Certificate
	key                crypto.Signer // of lower
}

func newPluggedCA(t *testing.T) pluggedCA {
	t.Helper()
	root, rootKey := newCACertificate(t, nil, nil)
	upper, upperKey := newCACertificate(t, root, rootKey)
	lower, key := newCACertificate(t, upper, upperKey)
	return pluggedCA{root, upper, lower, key}
}

// newCACertificate makes a CA below a parent, or, without one, a root.
func newCACertificate(t *testing.T, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	template.Subject.CommonName = template.SerialNumber.String()
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// write makes a directory as for Istio's secret cacerts.
func (p pluggedCA) write(t *testing.T, chain ...*x509.Certificate) string {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		caCertFile:   encodeCertificates([]*x509.Certificate{p.lower}),
		caKeyFile:    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		rootCertFile: encodeCertificates([]*x509.Certificate{p.root}),
	}
	if len(chain) > 0 {
		files[chainFile] = encodeCertificates(chain)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestPluggedInAuthority(t *testing.T) {
	p := newPluggedCA(t)
	for _, tt := range []struct {
		name  string
		chain []*x509.Certificate
	}{
		{"chain of what is above", []*x509.Certificate{p.upper}},
		{"chain as Istio's tools write it", []*x509.Certificate{p.lower, p.upper, p.root}},
		{"chain without the root", []*x509.Certificate{p.lower, p.upper}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := openAuthority(t, p.write(t, tt.chain...), trustDomain(t, "mesh.example"))
			roots := encodeCertificates([]*x509.Certificate{p.root})
			if !bytes.Equal(a.RootPEM(), roots) {
				t.Error("RootPEM is not the root")
			}
			checkLeaf(t, a, roots, 3)
			verifyChain(t, parseChain(t, serving(t, a)), roots, 3)
		})
	}
}

func serving(t *testing.T, a *Authority, names ...string) *tls.Certificate {
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

func parseChain(t *testing.T, cert *tls.Certificate) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return chain
}

func TestOpenAuthorityRefuses(t *testing.T) {
	p := newPluggedCA(t)
	stranger := newPluggedCA(t)
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   string
	}{
		{"no key", remove(caKeyFile), caKeyFile},
		{"no certificate", remove(caCertFile), caCertFile},
		{"no root", remove(rootCertFile), rootCertFile},
		{"no chain", remove(chainFile), "chain to its roots"},
		{"key of another", replace(caKeyFile, stranger.write(t)), "private key does not match"},
		{"root of another", replace(rootCertFile, stranger.write(t)), "chain to its roots"},
		{"key in the chain", replaceBy(chainFile, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), `a block of type "PRIVATE KEY"`},
		{"bad certificate", replaceBy(rootCertFile, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "certificate 1"},
		{"empty root", replaceBy(rootCertFile, ""), "no certificate"},
		{"no PEM", replaceBy(chainFile, "certificate"), "is no PEM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := p.write(t, p.upper)
			tt.change(t, dir)
			before, _ := os.ReadDir(dir)
			_, err := OpenAuthority(dir, trustDomain(t, "cluster.local"))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if after, _ := os.ReadDir(dir); len(after) != len(before) {
				t.Error("files were written beside those that are there")
			}
		})
	}
	t.Run("not a directory", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenAuthority(file, trustDomain(t, "cluster.local")); err == nil {
			t.Error("no error")
		}
	})
}

func remove(file string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
}

func replace(file, from string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		data, err := os.ReadFile(filepath.Join(from, file))
		if err != nil {
			t.Fatal(err)
		}
		replaceBy(file, string(data))(t, dir)
	}
}

func replaceBy(file, content string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServingCertificateNames(t *testing.T) {
	a, err := NewAuthority(trustDomain(t, "cluster.local"))
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
		a, err := NewAuthority(trustDomain(t, "cluster.local"))
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
		time.Sleep(time.Until(a.cert.NotAfter) - time.Hour)
		if last := get(); !last.NotAfter.Equal(a.cert.NotAfter) {
			t.Errorf("it lives until %s, the CA until %s", last.NotAfter, a.cert.NotAfter)
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

// The certificate is what clients get to see.
func TestServesItsCertificate(t *testing.T) {
	w := newWorld(t)
	w.config.ServerNames = []string{"istiod.example.com"}
	w.serve()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.config.Authority.RootPEM())
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
