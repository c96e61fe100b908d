package dnsproxy_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

func TestFileStoreLasts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vips.json")
	first := openVIPs(t, dnsproxy.VIPConfig{Store: &dnsproxy.FileStore{Path: path}})
	allocate(t, first, "a.example.com", "b.example.com", "c.example.com")
	if err := first.Release("b.example.com"); err != nil {
		t.Fatal(err)
	}
	want := first.Leases()

	second := openVIPs(t, dnsproxy.VIPConfig{Store: &dnsproxy.FileStore{Path: path}})
	same := func(a, b dnsproxy.Lease) bool {
		return a.Host == b.Host && a.VIP == b.VIP && a.Released.Equal(b.Released)
	}
	if got := second.Leases(); len(want) != 3 || !slices.EqualFunc(got, want, same) {
		t.Errorf("after a restart there are %v, want %v", got, want)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("temporary files were left: %v", left)
	}
}

func TestFileStoreErrors(t *testing.T) {
	tests := map[string]string{
		"no JSON":           `leases: none`,
		"unknown field":     `{"version": 1, "lease": []}`,
		"unknown version":   `{"version": 2, "leases": []}`,
		"no address":        `{"version": 1, "leases": [{"host": "a.example.com", "ipv4": "240.240.0"}]}`,
		"host twice":        `{"version": 1, "leases": [{"host": "a.example.com", "ipv4": "240.240.0.1"}, {"host": "a.example.com", "ipv4": "240.240.0.2"}]}`,
		"cut in the middle": `{"version": 1, "leases": [{"host"`,
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "vips.json")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := dnsproxy.OpenVIPs(dnsproxy.VIPConfig{Store: &dnsproxy.FileStore{Path: path}})
			var file *dnsproxy.FileError
			if !errors.As(err, &file) || file.Path != path {
				t.Errorf("error is %v, want a *FileError of the path", err)
			}
		})
	}
	t.Run("two hosts with one address", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "vips.json")
		content := `{"version": 1, "leases": [{"host": "a.example.com", "ipv4": "240.240.0.1"}, {"host": "b.example.com", "ipv4": "240.240.0.1"}]}`
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := dnsproxy.OpenVIPs(dnsproxy.VIPConfig{Store: &dnsproxy.FileStore{Path: path}})
		var taken *dnsproxy.TakenError
		if !errors.As(err, &taken) || taken.Host != "b.example.com" || taken.Owner != "a.example.com" {
			t.Errorf("error is %v, want a *TakenError", err)
		}
	})
}

// TestStoreFails: what cannot be stored is not handed out.
func TestStoreFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state", "vips.json")
	v := openVIPs(t, dnsproxy.VIPConfig{Store: &dnsproxy.FileStore{Path: path}})
	if _, err := v.Allocate("a.example.com"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "storing") {
		t.Errorf("without a directory: %v, want fs.ErrNotExist from storing", err)
	}
	if vip, ok := v.Lookup("a.example.com"); ok {
		t.Errorf("a has %v, which is not stored", vip)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	allocate(t, v, "a.example.com")
}
