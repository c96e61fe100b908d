package main

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/eastwest-mesh/eastwest/examples/internal/cmdline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	networks := []string{"-podnet", filepath.Join(dir, "pods"), "-underlay", filepath.Join(dir, "underlay")}
	tests := []struct {
		name  string
		args  []string
		usage bool
		want  string
	}{
		{"no node", nil, true, "-node is required"},
		{"a bad exposure", []string{"-node", "n", "-expose", "127.0.0.1:1080"}, true, "want LISTEN=POD"},
		{"a bad trust domain", []string{"-node", "n", "-trust-domain", "A B"}, true, "-trust-domain"},
		{"a federated mesh without URL", []string{"-node", "n", "-federate", "west.example"}, true, "want DOMAIN=URL"},
		{"an unknown policy", []string{"-node", "n", "-compliance-policy", "fips"}, true, "-compliance-policy"},
		{"no revocation list", []string{"-node", "n", "-crl", filepath.Join(dir, "crl.pem")}, false, "-crl"},
		{"no networks", []string{"-node", "n"}, true, "-podnet and -underlay are required"},
		{"no root certificate", append(networks, "-node", "n", "-root-cert", filepath.Join(dir, "nope")), false, "-root-cert"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := run(t.Context(), tt.args, func(string) string { return "" }, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			var usage *cmdline.UsageError
			if errors.As(err, &usage) != tt.usage {
				t.Errorf("%v is a *UsageError: %t", err, !tt.usage)
			}
		})
	}
}
