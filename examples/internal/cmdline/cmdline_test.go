package cmdline

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// flags are those of a program that has all there are.
type flags struct {
	set     *flag.FlagSet
	control ControlPlane
	pods    PodNetwork
	out     bytes.Buffer
}

func newFlags(env map[string]string) *flags {
	f := &flags{}
	f.set = NewFlagSet("prog", &f.out)
	f.control = AddControlPlane(f.set, func(key string) string { return env[key] })
	f.pods = AddPodNetwork(f.set)
	AddLogger(f.set)
	return f
}

func TestParse(t *testing.T) {
	tests := []struct {
		name, args string
		status     int
		want       string // in what Exit and the flags write
	}{
		{"nothing", "", 0, ""},
		{"help", "-h", 0, "-xds-address"},
		{"an unknown flag", "-nope", 2, "flag provided but not defined: -nope"},
		{"a bad value", "-log-level loud", 2, `invalid value "loud"`},
		{"an argument", "extra", 2, `unexpected argument "extra"; -h explains`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFlags(nil)
			err := Parse(f.set, strings.Fields(tt.args))
			if got := Exit(&f.out, "prog", err); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
			out := f.out.String()
			if !strings.Contains(out, tt.want) || tt.want == "" && out != "" {
				t.Errorf("wrote %q, want %q", out, tt.want)
			}
			if tt.status == 2 && strings.Count(out, tt.want) != 1 {
				t.Errorf("told it more than once: %q", out)
			}
		})
	}
}

func TestExit(t *testing.T) {
	var out bytes.Buffer
	if got := Exit(&out, "prog", fs.ErrPermission); got != 1 || out.String() != "prog: permission denied\n" {
		t.Errorf("status %d, %q", got, &out)
	}
	wrapped := fmt.Errorf("x: %w", &UsageError{Err: fs.ErrInvalid})
	if got := Exit(&out, "prog", wrapped); got != 2 || !errors.Is(wrapped, fs.ErrInvalid) {
		t.Errorf("status %d", got)
	}
}

// TestEnvironment: a flag goes before the environment, and that before the
// default.
func TestEnvironment(t *testing.T) {
	for _, tt := range []struct {
		env, args, want string
	}{
		{"", "", "Kubernetes"}, {"east", "", "east"}, {"east", "-cluster west", "west"}, {"east", "-cluster=", ""},
	} {
		f := newFlags(map[string]string{"CLUSTER_ID": tt.env})
		if err := Parse(f.set, strings.Fields(tt.args)); err != nil {
			t.Fatal(err)
		}
		if got := *f.control.Cluster; got != tt.want {
			t.Errorf("%+v: got %s", tt, got)
		}
	}
}

func TestControlPlane(t *testing.T) {
	dir := t.TempDir()
	root, token := filepath.Join(dir, "root.pem"), filepath.Join(dir, "token")
	for path, content := range map[string]string{root: "roots", token: "secret\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := newFlags(map[string]string{"XDS_ADDRESS": "https://istiod:15012", "CLUSTER_ID": "east"})
	if err := Parse(f.set, []string{"-root-cert", root, "-token", token}); err != nil {
		t.Fatal(err)
	}
	c, err := f.control.Config()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := c.Token()
	if c.Address != "istiod:15012" || string(c.RootCerts) != "roots" || c.ServerName != "istiod.istio-system.svc" || c.ClusterID != "east" || secret != "secret" || err != nil {
		t.Errorf("got %+v, token %q, %v", c, secret, err)
	}
	if err := f.set.Set("root-cert", filepath.Join(dir, "nope")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.control.Config(); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "-root-cert: ") {
		t.Errorf("got %v", err)
	}
}

func TestPodNetwork(t *testing.T) {
	dir := t.TempDir()
	pods, underlay, file := filepath.Join(dir, "pods"), filepath.Join(dir, "underlay"), filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		args  []string
		usage bool
		want  string // in the error; empty if there is none
	}{
		{"both", []string{"-podnet", pods, "-underlay", underlay, "-pod-cidrs", "10.1.0.0/24, 2001:db8::/64"}, false, ""},
		{"one", []string{"-podnet", pods}, true, "-podnet and -underlay are required"},
		{"no prefix", []string{"-podnet", pods, "-underlay", underlay, "-pod-cidrs", "10.1.0.0"}, true, "-pod-cidrs"},
		{"the underlay is a file", []string{"-podnet", pods, "-underlay", file}, false, "file"},
		{"the pod network is a file", []string{"-podnet", file, "-underlay", underlay}, false, "file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFlags(nil)
			if err := Parse(f.set, tt.args); err != nil {
				t.Fatal(err)
			}
			inner, outer, err := f.pods.Open()
			var usage *UsageError
			if errors.As(err, &usage) != tt.usage {
				t.Errorf("%v is a *UsageError: %t", err, !tt.usage)
			}
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			l, err := inner.Listen(t.Context(), "tcp", "[2001:db8::1]:80")
			if err != nil {
				t.Error(err)
			} else {
				l.Close()
			}
			if err := errors.Join(inner.Close(), outer.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	set := NewFlagSet("prog", &out)
	logger := AddLogger(set)
	if err := Parse(set, []string{"-log-level", "warn"}); err != nil {
		t.Fatal(err)
	}
	l := logger(&out)
	l.Info("quiet")
	l.Warn("loud", slog.Int("n", 1))
	if got := out.String(); !strings.Contains(got, "loud n=1") || strings.Contains(got, "quiet") {
		t.Errorf("logged %q", got)
	}
}

// TestWriteFile replaces at once, and leaves nothing else behind.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"one", "two"} {
		if err := WriteFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); string(got) != content || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
	if err := WriteFile(filepath.Join(dir, "no", "file"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
