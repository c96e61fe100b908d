package identity

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func openCA(t *testing.T, dir string, cfg CAConfig) *CA {
	t.Helper()
	cfg.TrustDomain = east
	ca, err := OpenCA(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// checkIssues checks that who trusts the roots trusts what the CA issues, which
// is a chain of so many certificates.
func checkIssues(t *testing.T, ca, roots *CA, length int) {
	t.Helper()
	svid, err := ca.Issue(bob, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(svid.Certificates) != length {
		t.Errorf("a chain of %d certificates, want %d", len(svid.Certificates), length)
	}
	if _, _, err := x509svid.Verify(svid.Certificates, roots.Bundle()); err != nil {
		t.Error(err)
	}
	server, err := ca.ServerCertificate([]string{"istiod.example.com", "192.0.2.1", "2001:db8::1"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	options := x509.VerifyOptions{Roots: pool(roots.Bundle().X509Authorities()), Intermediates: x509.NewCertPool(), DNSName: "istiod.example.com"}
	for _, der := range server.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		options.Intermediates.AddCert(c)
	}
	if _, err := server.Leaf.Verify(options); err != nil || len(server.Certificate) != length {
		t.Errorf("a server's chain of %d certificates: %v", len(server.Certificate), err)
	}
	for _, ip := range []string{"192.0.2.1", "2001:db8::1"} {
		if err := server.Leaf.VerifyHostname(ip); err != nil {
			t.Error(err)
		}
	}
	if _, err := CertificateID(server.Leaf); err == nil {
		t.Error("a server's certificate is an identity of the mesh")
	}
}

func TestCAIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "ca")
	first := openCA(t, dir, CAConfig{})
	second := openCA(t, dir+string(filepath.Separator), CAConfig{})
	if !first.Bundle().Equal(second.Bundle()) {
		t.Error("after a restart there is another root")
	}
	checkIssues(t, second, first, 1)
	for file, want := range map[string]fs.FileMode{".": 0o700, caKeyFile: 0o600, caCertFile: 0o644, caRootFile: 0o644} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %#o, %v; want %#o", file, info.Mode().Perm(), err, want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".ca-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if data, err := os.ReadFile(filepath.Join(dir, caRootFile)); err != nil || !bytes.Equal(data, first.RootsPEM()) {
		t.Errorf("RootsPEM is not what is in %s (%v)", caRootFile, err)
	}
}

// Of processes that start at once, one makes the root for all; an empty
// directory, such as a new volume, is as good as none.
func TestCAIsMadeOnce(t *testing.T) {
	for name, dir := range map[string]string{"no directory": filepath.Join(t.TempDir(), "ca"), "empty directory": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			cas, errs := make([]*CA, 16), make([]error, 16)
			var all sync.WaitGroup
			for i := range cas {
				all.Go(func() { cas[i], errs[i] = OpenCA(dir, CAConfig{TrustDomain: east}) })
			}
			all.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			for _, ca := range cas {
				if !ca.Bundle().Equal(cas[0].Bundle()) {
					t.Fatal("the roots differ")
				}
			}
		})
	}
}

// plugged is a root, an intermediate, and the CA below it that signs.
type plugged struct{ root, upper, lower *CA }

func newPlugged(t *testing.T) plugged {
	t.Helper()
	root := newTestCA(t, east)
	upper, err := root.Intermediate("upper", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	lower, err := upper.Intermediate("lower", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return plugged{root, upper, lower}
}

// write writes Istio's layout to a directory.
func (p plugged) write(t *testing.T, dir string, chain ...*CA) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(keyOf(p.lower))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, caKeyFile), pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}))
	writeFile(t, filepath.Join(dir, caCertFile), encodePEM([]*x509.Certificate{certOf(p.lower)}))
	writeFile(t, filepath.Join(dir, caRootFile), p.root.RootsPEM())
	var certs []*x509.Certificate
	for _, ca := range chain {
		certs = append(certs, certOf(ca))
	}
	if len(chain) > 0 {
		writeFile(t, filepath.Join(dir, caChainFile), encodePEM(certs))
	}
}

func TestPluggedInCA(t *testing.T) {
	p := newPlugged(t)
	for name, chain := range map[string][]*CA{
		"chain of what is above":          {p.upper},
		"chain as Istio's tools write it": {p.lower, p.upper, p.root},
		"chain without the root":          {p.lower, p.upper},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p.write(t, dir, chain...)
			ca := openCA(t, dir, CAConfig{})
			if !ca.Bundle().Equal(p.root.Bundle()) {
				t.Error("the bundle is not the root")
			}
			checkIssues(t, ca, p.root, 3)
			if left := ca.TTL(24 * time.Hour); left > time.Hour {
				t.Errorf("certificates live for %v, the CA for an hour", left)
			}
		})
	}
}

func TestOpenCARefuses(t *testing.T) {
	p, stranger := newPlugged(t), newPlugged(t)
	other := t.TempDir()
	stranger.write(t, other)
	in := func(file, content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, file), []byte(content)) }
	}
	without := func(file string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	from := func(file string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { copyFile(t, filepath.Join(dir, file), filepath.Join(other, file)) }
	}
	for name, tc := range map[string]struct {
		change func(*testing.T, string)
		want   string
	}{
		"no key":           {without(caKeyFile), caKeyFile},
		"no certificate":   {without(caCertFile), caCertFile},
		"no root":          {without(caRootFile), caRootFile},
		"no chain":         {without(caChainFile), "chain to its roots"},
		"key of another":   {from(caKeyFile), "private key does not match"},
		"root of another":  {from(caRootFile), "chain to its roots"},
		"key in the chain": {in(caChainFile, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), `is of type "PRIVATE KEY"`},
		"bad certificate":  {in(caRootFile, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "certificate 1"},
		"empty root":       {in(caRootFile, ""), "no PEM certificate"},
		"no PEM":           {in(caChainFile, "certificate"), "no PEM certificate"},
		"half a root":      {in(caRootFile, string(p.root.RootsPEM()[:99])+"\n"+string(p.root.RootsPEM())), "malformed PEM"},
		"key others write": {func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, caKeyFile), 0o620) }, "may be written by others"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p.write(t, dir, p.upper)
			ca := openCA(t, dir, CAConfig{})
			tc.change(t, dir)
			before, _ := os.ReadDir(dir)
			if _, err := OpenCA(dir, CAConfig{TrustDomain: east}); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if after, _ := os.ReadDir(dir); len(after) != len(before) {
				t.Error("files were written beside those that are there")
			}
			if strings.Contains(name, "others") {
				return // contents did not change
			}
			if changed, err := ca.Reload(); changed || err == nil {
				t.Errorf("reload: %t, %v", changed, err)
			}
			checkIssues(t, ca, p.root, 3)
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, nil)
	if _, err := OpenCA(file, CAConfig{TrustDomain: east}); err == nil {
		t.Error("a file was opened as a directory")
	}
	if _, err := OpenCA(t.TempDir(), CAConfig{}); err == nil {
		t.Error("no trust domain was accepted")
	}
	if _, err := OpenCA(t.TempDir(), CAConfig{TrustDomain: east, Certificate: certOf(p.root), Key: keyOf(p.root)}); err == nil {
		t.Error("both a directory and a given authority were accepted")
	}
}

func chmod(t *testing.T, name string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func TestReadableKeyIsTold(t *testing.T) {
	dir := t.TempDir()
	openCA(t, filepath.Join(dir, "ca"), CAConfig{})
	chmod(t, filepath.Join(dir, "ca", caKeyFile), 0o644)
	var log bytes.Buffer
	openCA(t, filepath.Join(dir, "ca"), CAConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if !strings.Contains(log.String(), "may be read by others") {
		t.Errorf("nobody was told: %s", &log)
	}
}

// TestCAIsReplaced moves a running CA to a new root, in the two steps that
// Istio's documentation has: first both roots, then the new one signs.
func TestCAIsReplaced(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		old, next := newPlugged(t), newPlugged(t)
		old.write(t, dir, old.upper)
		var changes atomic.Int32
		ca := openCA(t, dir, CAConfig{Interval: time.Minute, Changed: func() { changes.Add(1) }})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- ca.Run(ctx) }()
		writeFile(t, filepath.Join(dir, caRootFile), append(old.root.RootsPEM(), next.root.RootsPEM()...))
		time.Sleep(2 * time.Minute)
		if n := len(ca.Bundle().X509Authorities()); n != 2 || changes.Load() != 1 {
			t.Errorf("%d roots after %d changes, want 2 after 1", n, changes.Load())
		}
		checkIssues(t, ca, old.root, 3)
		next.write(t, dir, next.upper)
		time.Sleep(2 * time.Minute)
		checkIssues(t, ca, next.root, 3)
		if n := changes.Load(); n != 2 {
			t.Errorf("%d changes, want 2", n)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestCAInMemoryHasNoFiles(t *testing.T) {
	ca := newTestCA(t, east)
	if _, err := ca.Reload(); err == nil {
		t.Error("reloaded from nowhere")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ca.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

func TestIntermediateLivesNoLonger(t *testing.T) {
	root, err := NewCA(CAConfig{TrustDomain: east, RootTTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	inter, err := root.Intermediate("cluster", 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if certOf(inter).NotAfter.After(certOf(root).NotAfter) {
		t.Error("it outlives its root")
	}
	if _, err := root.Intermediate("dead", -time.Hour); err == nil {
		t.Error("one that never lived")
	}
	checkIssues(t, inter, root, 2)
}
