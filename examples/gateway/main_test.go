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
		{"no address", nil, true, "-listen is required"},
		{"a bad trust domain", []string{"-listen", "172.18.1.100:15008", "-trust-domain", "A B"}, true, "-trust-domain"},
		{"an alias of itself", []string{"-listen", "172.18.1.100:15008", "-trust-domain-alias", "cluster.local"}, true, "-trust-domain-alias"},
		{"no revocation list", []string{"-listen", "172.18.1.100:15008", "-crl", filepath.Join(dir, "crl.pem")}, false, "-crl"},
		{"no networks", []string{"-listen", "172.18.1.100:15008"}, true, "-podnet and -underlay are required"},
		{"no root certificate", append(networks, "-listen", "172.18.1.100:15008", "-root-cert", filepath.Join(dir, "nope")), false, "-root-cert"},
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
