package kubefile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

// news is one step of a Watch: the names of the namespaces, or an error.
type news struct {
	names string
	err   error
}

func watch(t *testing.T, dir string) (next func() news) {
	ctx, cancel := context.WithCancel(context.Background())
	steps, done := make(chan news), make(chan struct{})
	go func() {
		defer close(done)
		for s, err := range kubefile.Watch(ctx, dir) {
			n := news{err: err}
			if s != nil {
				for _, ns := range s.Namespaces {
					n.names = strings.TrimSpace(n.names + " " + ns.Name)
				}
			}
			select {
			case steps <- n:
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func() news { return <-steps }
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func ns(name string) string {
	return "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + name + "}\n"
}

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), ns("a"))
	next := watch(t, dir)
	if n := next(); n.names != "a" || n.err != nil {
		t.Fatalf("first: %+v", n)
	}
	write(t, filepath.Join(dir, "b.yaml"), ns("b"))
	if n := next(); n.names != "a b" {
		t.Errorf("after a new file: %+v", n)
	}
	write(t, filepath.Join(dir, "sub", "c.yaml"), ns("c"))
	if n := next(); n.names != "a b c" {
		t.Errorf("after a new directory: %+v", n)
	}
	write(t, filepath.Join(dir, "b.yaml"), "kind: Namespice\n")
	var typed *kubefile.Error
	if n := next(); !errors.As(n.err, &typed) || n.names != "" {
		t.Errorf("broken: %+v", n)
	}
	write(t, filepath.Join(dir, "b.yaml"), ns("b"))
	if n := next(); n.names != "a b c" || n.err != nil {
		t.Errorf("repaired: %+v", n)
	}
	if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	if n := next(); n.names != "b c" {
		t.Errorf("after a file is gone: %+v", n)
	}
}

// A ConfigMap is mounted as links through ..data, which is replaced.
func TestWatchMountedConfigMap(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "..1", "a.yaml"), ns("one"))
	write(t, filepath.Join(dir, "..2", "a.yaml"), ns("two"))
	link(t, "..1", filepath.Join(dir, "..data"))
	link(t, filepath.Join("..data", "a.yaml"), filepath.Join(dir, "a.yaml"))
	next := watch(t, dir)
	if n := next(); n.names != "one" {
		t.Fatalf("first: %+v", n)
	}
	link(t, "..2", filepath.Join(dir, "..data_tmp"))
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if n := next(); n.names != "two" {
		t.Errorf("after the swap: %+v", n)
	}
}

// The directory may itself be a link that is replaced.
func TestWatchLinkToDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "v1", "a.yaml"), ns("one"))
	write(t, filepath.Join(dir, "v2", "a.yaml"), ns("two"))
	link(t, "v1", filepath.Join(dir, "current"))
	next := watch(t, filepath.Join(dir, "current"))
	if n := next(); n.names != "one" {
		t.Fatalf("first: %+v", n)
	}
	link(t, "v2", filepath.Join(dir, "new"))
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "current")); err != nil {
		t.Fatal(err)
	}
	if n := next(); n.names != "two" {
		t.Errorf("after the swap: %+v", n)
	}
}

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Skip(err)
	}
}
