package istiod

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

func TestNewRefusesConfig(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no cluster", func(c *Config) { c.Cluster = "" }, "the cluster has no name"},
		{"no directory", func(c *Config) { c.Dir = "" }, "the cluster has no directory"},
		{"no authority", func(c *Config) { c.Authority = nil }, "Authority and Tokens are required"},
		{"no tokens", func(c *Config) { c.Tokens = nil }, "Authority and Tokens are required"},
		{"remote without name", func(c *Config) { c.Remotes[""] = c.Dir }, "needs a name"},
		{"remote without directory", func(c *Config) { c.Remotes["west"] = "" }, "needs a name and a directory"},
		{"remote is own", func(c *Config) { c.Remotes["east"] = c.Dir }, "the remote cluster east has the name of the own one"},
		{"cluster with a slash", func(c *Config) { c.Cluster = "a/b" }, `"a/b"`},
		{"server name", func(c *Config) { c.ServerNames = []string{"no name"} }, `server name "no name"`},
		{"empty server name", func(c *Config) { c.ServerNames = []string{""} }, `server name ""`},
		{"VIP store", func(c *Config) { c.VIPs.Store = &dnsproxy.FileStore{Path: c.Dir} }, "virtual addresses"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.change(&w.config)
			if _, err := New(w.config); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New returned %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNewNamesFileAndLine(t *testing.T) {
	for _, tt := range []struct {
		name, cluster, file string
		from, to            string
		want                string // after the directory
		line                int
	}{
		{"unknown field", "east", "apps.yaml", "nodeName: east-node-1", "nodeNaem: east-node-1", "apps.yaml:9:8: Pod app/reviews-1: spec.nodeNaem: unknown field", 9},
		{"remote cluster", "west", "apps.yaml", "nodeName: west-node-1, serviceAccountName: ratings", "nodeName: [], serviceAccountName: ratings", "apps.yaml:23:18", 23},
		{"scope", "west", "mesh.yaml", "operator: In", "operator: Inn", "mesh.yaml:4", 4},
		{"trust domain", "east", "mesh.yaml", "serviceScopeConfigs:", "trustDomain: other.example\nserviceScopeConfigs:",
			"mesh.yaml:1:1: MeshConfig: trustDomain: is other.example, but the CA was started for cluster.local", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.edit(tt.cluster, tt.file, tt.from, tt.to)
			_, err := New(w.config)
			if err == nil || !strings.HasPrefix(err.Error(), filepath.Join(w.dirs[tt.cluster], tt.want)) {
				t.Fatalf("New returned %v, want %s", err, tt.want)
			}
			if e := new(kubefile.Error); errors.As(err, &e) && e.Line != tt.line {
				t.Errorf("the error is at line %d, want %d", e.Line, tt.line)
			}
		})
	}
}

// Both directories are wrong: both are told of, always in the same order.
func TestNewReportsAllClusters(t *testing.T) {
	w := newWorld(t)
	w.edit("west", "apps.yaml", "nodeName:", "nodeNaem:")
	if err := os.RemoveAll(w.dirs["east"]); err != nil {
		t.Fatal(err)
	}
	_, err := New(w.config)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("New returned %v", err)
	}
	east, west := strings.Index(err.Error(), w.dirs["east"]), strings.Index(err.Error(), w.dirs["west"])
	if east < 0 || west < east {
		t.Errorf("New returned %v, want first east, then west", err)
	}
}

func TestTrustDomain(t *testing.T) {
	for _, tt := range []struct{ name, mesh, want string }{
		{"default", "", "cluster.local"},
		{"named", "trustDomain: mesh.example\n", "mesh.example"},
		{"wrong", "trustDomain: not a domain\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "mesh.yaml"), []byte(tt.mesh), 0o600); err != nil {
				t.Fatal(err)
			}
			td, err := TrustDomain(dir)
			if tt.want == "" {
				if err == nil || !strings.HasPrefix(err.Error(), filepath.Join(dir, "mesh.yaml:")) {
					t.Errorf("got %v, want an error in mesh.yaml", err)
				}
				return
			}
			if err != nil || td.Name() != tt.want {
				t.Errorf("got %v, %v, want %s", td, err, tt.want)
			}
		})
	}
	if _, err := TrustDomain(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no directory: %v", err)
	}
}
