package cmdline

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/identity"
)

func domain(name string) spiffeid.TrustDomain { return spiffeid.RequireTrustDomainFromString(name) }

// openTrust parses a command line.
func openTrust(env map[string]string, args ...string) (*Trusted, error) {
	var out bytes.Buffer
	fs := NewFlagSet("prog", &out)
	trust := AddTrust(fs, func(key string) string { return env[key] })
	if err := Parse(fs, args); err != nil {
		return nil, err
	}
	return trust.Open(slog.New(slog.DiscardHandler))
}

// writeCRL writes a list of nothing, and the roots of the CA that signed it.
func writeCRL(t *testing.T) (crl, roots string) {
	t.Helper()
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: domain("east.example")})
	if err != nil {
		t.Fatal(err)
	}
	list, err := ca.SignCRL(&x509.RevocationList{})
	if err != nil {
		t.Fatal(err)
	}
	crl, roots = filepath.Join(t.TempDir(), "crl.pem"), filepath.Join(t.TempDir(), "roots.pem")
	for name, data := range map[string][]byte{crl: pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list.Raw}), roots: ca.RootsPEM()} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return crl, roots
}

func TestTrust(t *testing.T) {
	crl, roots := writeCRL(t)
	t.Run("defaults", func(t *testing.T) {
		got, err := openTrust(nil)
		if err != nil {
			t.Fatal(err)
		}
		c := got.Config
		if got.Domain != domain("cluster.local") || len(got.Federated) > 0 || len(c.Aliases) > 0 || c.Bundles != nil || c.Revocations != nil || c.RequirePQ {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("environment", func(t *testing.T) {
		got, err := openTrust(map[string]string{"TRUST_DOMAIN": "east.example", "CRL_PATH": crl, "COMPLIANCE_POLICY": "pqc"})
		if err != nil {
			t.Fatal(err)
		}
		if got.Domain != domain("east.example") || got.Config.Revocations == nil || !got.Config.RequirePQ {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("all", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "bundles")
		got, err := openTrust(nil, "-trust-domain-alias", "old.example", "-trust-domain", "east.example", "-crl", crl,
			"-federate", "west.example=https://127.0.0.1:1/", "-federate", "north.example=https://127.0.0.1:1/",
			"-federation-roots", roots, "-federation-dir", dir)
		if err != nil {
			t.Fatal(err)
		}
		if got.Config.Aliases[domain("old.example")] != domain("east.example") {
			t.Errorf("aliases %v", got.Config.Aliases)
		}
		want := []spiffeid.TrustDomain{domain("east.example"), domain("west.example"), domain("north.example")}
		if !slices.Equal(got.Peers().TrustDomains, want) {
			t.Errorf("peers %v, want %v", got.Peers(), want)
		}
		if _, err := got.Config.Bundles.GetX509BundleForTrustDomain(domain("west.example")); err == nil {
			t.Error("a bundle out of nowhere")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := got.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestTrustThatMakesNoSense(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	west := "west.example=https://127.0.0.1/"
	for _, tt := range []struct {
		name  string
		args  []string
		usage bool
		want  string
	}{
		{"a bad trust domain", []string{"-trust-domain", "A B"}, true, "-trust-domain"},
		{"a bad alias", []string{"-trust-domain-alias", "A B"}, true, "-trust-domain-alias"},
		{"an alias of itself", []string{"-trust-domain-alias", "cluster.local"}, true, "is the trust domain itself"},
		{"a bad policy", []string{"-compliance-policy", "fips"}, true, `"fips" is not known`},
		{"no revocation list", []string{"-crl", empty}, false, "-crl: identity: " + empty},
		{"federated without URL", []string{"-federate", "west.example"}, true, "want DOMAIN=URL"},
		{"federated with a bad name", []string{"-federate", "A B=https://x/"}, true, "-federate"},
		{"federated by plain HTTP", []string{"-federate", "west.example=http://x/"}, true, "want an https URL"},
		{"federated twice", []string{"-federate", west, "-federate", west}, true, "another endpoint"},
		{"federated with itself", []string{"-federate", "cluster.local=https://x/"}, true, "our own trust domain"},
		{"no roots of endpoints", []string{"-federate", west, "-federation-roots", empty}, false, "no certificates in"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := openTrust(nil, tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			var usage *UsageError
			if errors.As(err, &usage) != tt.usage {
				t.Errorf("%v is a *UsageError: %t", err, !tt.usage)
			}
		})
	}
}
