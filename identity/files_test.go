package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// writeFiles writes a new certificate of that identity; it returns its serial.
func writeFiles(t testing.TB, cfg FilesConfig, ca *CA, id spiffeid.ID) string {
	t.Helper()
	svid, err := ca.Issue(id, 0)
	if err != nil {
		t.Fatal(err)
	}
	certs, key, err := svid.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, cfg.Certificates, certs)
	writeFile(t, cfg.Key, key)
	writeRoots(t, cfg.Roots, ca)
	return svid.Certificates[0].SerialNumber.String()
}

func writeRoots(t testing.TB, name string, ca *CA) {
	t.Helper()
	writeFile(t, name, pemOfRoots(t, ca))
}

func pemOfRoots(t testing.TB, ca *CA) []byte {
	t.Helper()
	roots, err := ca.Bundle().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func writeFile(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func serialOf(t testing.TB, src Source) string {
	t.Helper()
	svid, err := src.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	return svid.Certificates[0].SerialNumber.String()
}

// TestFilesThatVerifyNowhere: a certificate that nobody with these roots would
// accept does not replace one that works.
func TestFilesThatVerifyNowhere(t *testing.T) {
	past, err := NewCA(CAConfig{TrustDomain: east, Time: func() time.Time { return time.Now().Add(time.Minute - DefaultTTL) }})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := NewCA(CAConfig{TrustDomain: east, Certificate: certOf(past), Key: keyOf(past)})
	if err != nil {
		t.Fatal(err)
	}
	other := newTestCA(t, east)
	for _, tc := range []struct {
		name string
		next *CA
		ttl  time.Duration
	}{
		{"expired", past, time.Hour},
		{"of another root", other, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := IstioFiles(t.TempDir())
			first := writeFiles(t, cfg, ca, bob)
			f, err := OpenFiles(cfg)
			if err != nil {
				t.Fatal(err)
			}
			svid, err := tc.next.Issue(bob, tc.ttl)
			if err != nil {
				t.Fatal(err)
			}
			certs, key, err := svid.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, cfg.Certificates, certs)
			writeFile(t, cfg.Key, key)
			if _, err := f.Reload(); err == nil || !strings.Contains(err.Error(), cfg.Certificates) || !strings.Contains(err.Error(), cfg.Roots) {
				t.Errorf("got %v, want an error that names certificate and roots", err)
			}
			if serialOf(t, f) != first {
				t.Error("the working certificate was replaced")
			}
			// The roots follow: then it is good.
			second := writeFiles(t, cfg, other, bob)
			if changed, err := f.Reload(); !changed || err != nil || serialOf(t, f) != second {
				t.Errorf("good files: changed %t, %v", changed, err)
			}
		})
	}
}

// TestFilesKeyForms reads keys as Istio's agent writes them: in the older forms,
// unless it is told PKCS8_KEY=true.
func TestFilesKeyForms(t *testing.T) {
	ca := newTestCA(t, east)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}})
	ecPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ecDER})
	for _, tc := range []struct {
		name string
		key  crypto.Signer
		pem  []byte
	}{
		{"SEC 1", ecKey, ecPEM},
		{"SEC 1 after its parameters, as of openssl", ecKey, append(parameters, ecPEM...)},
		{"PKCS 1", rsaKey, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := IstioFiles(t.TempDir())
			writeFiles(t, cfg, ca, bob)
			chain, err := ca.Sign(tc.key.Public(), bob, 0)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, cfg.Certificates, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[0].Raw}))
			writeFile(t, cfg.Key, tc.pem)
			f, err := OpenFiles(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if got := serialOf(t, f); got != chain[0].SerialNumber.String() {
				t.Errorf("serves certificate %s", got)
			}
			writeFile(t, cfg.Key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("broken")}))
			if _, err := f.Reload(); err == nil || !strings.Contains(err.Error(), cfg.Key) {
				t.Errorf("broken key: %v, want an error that names %s", err, cfg.Key)
			}
		})
	}
}

func TestFilesLayouts(t *testing.T) {
	ca := newTestCA(t, east)
	for name, layout := range map[string]func(string) FilesConfig{"istio": IstioFiles, "spiffe": SPIFFEFiles} {
		t.Run(name, func(t *testing.T) {
			cfg := layout(t.TempDir())
			first := writeFiles(t, cfg, ca, bob)
			f, err := OpenFiles(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if changed, err := f.Reload(); changed || err != nil {
				t.Errorf("reload of the same: %t, %v", changed, err)
			}
			second := writeFiles(t, cfg, ca, bob)
			if serialOf(t, f) != first {
				t.Error("changed without a reload")
			}
			if changed, err := f.Reload(); !changed || err != nil || serialOf(t, f) != second {
				t.Errorf("reload: %t, %v", changed, err)
			}
		})
	}
}

func TestBrokenFilesKeepTheOld(t *testing.T) {
	ca, other := newTestCA(t, east), newTestCA(t, west)
	for name, breakIt := range map[string]func(t *testing.T, cfg FilesConfig){
		"no certificates": func(t *testing.T, cfg FilesConfig) { writeFile(t, cfg.Certificates, []byte("nothing\n")) },
		"empty key":       func(t *testing.T, cfg FilesConfig) { writeFile(t, cfg.Key, nil) },
		"no roots":        func(t *testing.T, cfg FilesConfig) { writeFile(t, cfg.Roots, nil) },
		"roots are a key": func(t *testing.T, cfg FilesConfig) { copyFile(t, cfg.Roots, cfg.Key) },
		"a root cut off": func(t *testing.T, cfg FilesConfig) {
			writeFile(t, cfg.Roots, append(pemOfRoots(t, ca), pemOfRoots(t, other)[:200]...))
		},
		"missing":          func(t *testing.T, cfg FilesConfig) { _ = os.Remove(cfg.Certificates) },
		"huge":             func(t *testing.T, cfg FilesConfig) { writeFile(t, cfg.Roots, make([]byte, maxFile+1)) },
		"federated broken": func(t *testing.T, cfg FilesConfig) { writeFile(t, cfg.Federated[west], []byte("x")) },
		"key of another certificate": func(t *testing.T, cfg FilesConfig) {
			old, err := os.ReadFile(cfg.Certificates)
			if err != nil {
				t.Fatal(err)
			}
			writeFiles(t, cfg, ca, bob)
			writeFile(t, cfg.Certificates, old)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := IstioFiles(t.TempDir())
			cfg.Federated = map[spiffeid.TrustDomain]string{west: filepath.Join(t.TempDir(), "west.pem")}
			writeRoots(t, cfg.Federated[west], other)
			first := writeFiles(t, cfg, ca, bob)
			f, err := OpenFiles(cfg)
			if err != nil {
				t.Fatal(err)
			}
			breakIt(t, cfg)
			if changed, err := f.Reload(); changed || err == nil {
				t.Errorf("reload: %t, %v", changed, err)
			}
			if serialOf(t, f) != first {
				t.Error("the old certificate is gone")
			}
			for _, td := range []spiffeid.TrustDomain{east, west} {
				if b, err := f.GetX509BundleForTrustDomain(td); err != nil || b.Empty() {
					t.Errorf("the roots of %s are gone: %v", td, err)
				}
			}
			if _, err := OpenFiles(cfg); err == nil || !strings.Contains(err.Error(), ".pem") {
				t.Errorf("opening broken files: %v, want an error that names the file", err)
			}
			second := writeFiles(t, cfg, ca, bob)
			writeRoots(t, cfg.Federated[west], other)
			if changed, err := f.Reload(); !changed || err != nil || serialOf(t, f) != second {
				t.Errorf("after repair: %t, %v", changed, err)
			}
		})
	}
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, to, b)
}

func TestRunReloads(t *testing.T) {
	cfg := IstioFiles(t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		ca := newTestCA(t, east) // by the clock in here
		var log bytes.Buffer
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		writeFiles(t, cfg, ca, bob)
		f, err := OpenFiles(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()

		pass := func() { <-time.After(cfg.Interval + 11*time.Second); synctest.Wait() }
		second := writeFiles(t, cfg, ca, bob)
		pass()
		if serialOf(t, f) != second {
			t.Error("the new certificate was not loaded")
		}
		writeFile(t, cfg.Key, []byte("broken"))
		pass()
		if serialOf(t, f) != second || !strings.Contains(log.String(), "stay in service") {
			t.Errorf("broken files were not reported: %s", log.String())
		}
		stop := errors.New("stop")
		cancel(stop)
		if err := <-done; !errors.Is(err, stop) {
			t.Errorf("Run returned %v", err)
		}
	})
}

// FuzzFiles loads any bytes as the roots, the key and the certificates.
func FuzzFiles(f *testing.F) {
	cfg := IstioFiles(f.TempDir())
	ca := newTestCA(f, east)
	writeFiles(f, cfg, ca, bob)
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	certs, key, roots := read(cfg.Certificates), read(cfg.Key), read(cfg.Roots)
	f.Add(certs, key, roots)
	f.Add(certs, []byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"), roots)
	f.Add(roots, key, roots)
	f.Add(certs, key, append(certs, roots...))
	f.Fuzz(func(t *testing.T, certs, key, roots []byte) {
		files := &Files{cfg: cfg}
		svid, bundles, err := files.parse(map[string][]byte{cfg.Certificates: certs, cfg.Key: key, cfg.Roots: roots})
		if err != nil {
			return
		}
		if _, err := CertificateID(svid.Certificates[0]); err != nil || len(bundles) != 1 || bundles[0].Empty() {
			t.Fatalf("accepted: %v, %d bundles", err, len(bundles))
		}
	})
}
