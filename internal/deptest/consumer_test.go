package deptest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// consumers say what a module that imports one package, and nothing else, has
// to download and build: the modules whose code ends up in its binary. Decision
// 001 rests on it.
var consumers = map[string][]string{
	"lb":                  {},
	"endpoints":           {},
	"endpoints/wds":       {"google.golang.org/protobuf"},
	"hbone":               {"golang.org/x/net", "golang.org/x/text"},
	"identity":            {"github.com/spiffe/go-spiffe/v2"},
	"identity/federation": {"github.com/go-jose/go-jose/v4", "github.com/spiffe/go-spiffe/v2"},
	"identity/authz":      {"github.com/spiffe/go-spiffe/v2", "go.yaml.in/yaml/v3"},
	"dnsproxy":            {"github.com/miekg/dns", "golang.org/x/net", "golang.org/x/sys"},
	"endpoints/xds": {
		"golang.org/x/net", "golang.org/x/sys", "golang.org/x/text",
		"google.golang.org/genproto/googleapis/rpc", "google.golang.org/grpc", "google.golang.org/protobuf",
	},
}

func TestWhatConsumersPullIn(t *testing.T) {
	if testing.Short() {
		t.Skip("tidies a module for each package")
	}
	for pkg, want := range consumers {
		t.Run(pkg, func(t *testing.T) {
			t.Parallel()
			c := newConsumer(t, pkg)
			c.run("mod", "tidy")
			if got := c.modules(); !slices.Equal(got, want) {
				t.Errorf("a consumer of %s builds %v, want %v", pkg, got, want)
			}
			c.run("build", "-o", os.DevNull, ".")
		})
	}
}

// A consumer is a scratch module that imports one package of this one.
type consumer struct {
	t   *testing.T
	dir string
}

func newConsumer(t *testing.T, pkg string) *consumer {
	c := &consumer{t, t.TempDir()}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	c.write("main.go", fmt.Sprintf("package main\n\nimport _ %q\n\nfunc main() {}\n", module+"/"+pkg))
	c.write("go.mod", fmt.Sprintf("module consumer\n\ngo 1.26.0\n\nrequire %s v0.0.0\n\nreplace %s => %s\n", module, module, root))
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	c.write("go.sum", string(sums))
	return c
}

func (c *consumer) write(name, content string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *consumer) run(args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "go", args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// modules are those of the packages that are built, besides the consumer and
// this module.
func (c *consumer) modules() []string {
	found := []string{}
	for line := range strings.Lines(c.run("list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".")) {
		path := strings.TrimSpace(line)
		if path != "" && path != "consumer" && path != module && !slices.Contains(found, path) {
			found = append(found, path)
		}
	}
	slices.Sort(found)
	return found
}
