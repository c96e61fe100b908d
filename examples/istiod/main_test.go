package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"github.com/eastwest-mesh/eastwest/examples/internal/cmdline"
	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
	"github.com/eastwest-mesh/eastwest/examples/internal/istiod"
	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/identity/federation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clusters copies the two clusters of the mesh example.
func clusters(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "clusters")
	if err := os.CopyFS(dir, os.DirFS("../mesh/clusters")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func noEnv(string) string { return "" }

func TestBadCommandLines(t *testing.T) {
	dir := clusters(t)
	good := []string{"-config", filepath.Join(dir, "east"), "-state", t.TempDir()}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, "-config and -state are required"},
		{"no state", good[:2], "-config and -state are required"},
		{"no config", good[2:], "-config and -state are required"},
		{"unknown flag", append([]string{"-plaintext"}, good...), "-plaintext"},
		{"argument", append(good[:4:4], "east"), `unexpected argument "east"`},
		{"remote without name", append(good[:4:4], "-remote", "=x"), "want NAME=DIR"},
		{"remote without directory", append(good[:4:4], "-remote", "west"), "want NAME=DIR"},
		{"remote twice", append(good[:4:4], "-remote", "west=a", "-remote", "west=b"), "cluster west is there twice"},
		{"remote is own", append(good[:4:4], "-cluster", "east", "-remote", "east=a"), "name of the own cluster"},
		{"compat is no bool", append(good[:4:4], "-istio-compat=perhaps"), "perhaps"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stderr bytes.Buffer
			err := run(t.Context(), tt.args, noEnv, io.Discard, &stderr)
			var usage *cmdline.UsageError
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a UsageError: %s", err, tt.want)
			}
			if status := cmdline.Exit(io.Discard, "istiod", err); status != 2 {
				t.Errorf("exit status %d", status)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	var stderr bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, noEnv, io.Discard, &stderr); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"-config", "-remote NAME=DIR", "-state", "-ca", "-listen", "-admin", "-network", "CLUSTER_ID", "127.0.0.1:15012"} {
		if !strings.Contains(stderr.String(), name) {
			t.Errorf("the help does not tell of %s:\n%s", name, &stderr)
		}
	}
}

// What is wrong is told in one clear error, and nothing is started.
func TestBadState(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, dir string) []string // more arguments
		want   string                                  // after the directory
	}{
		{"no directory", func(t *testing.T, dir string) []string {
			return []string{"-config", filepath.Join(dir, "north")}
		}, "north: no such file or directory"},
		{"no remote directory", func(t *testing.T, dir string) []string {
			return []string{"-remote", "north=" + filepath.Join(dir, "north")}
		}, "north: no such file or directory"},
		{"bad object", func(t *testing.T, dir string) []string {
			write(t, filepath.Join(dir, "west", "bad.yaml"), "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: app}\nspec: {prots: []}\n")
			return nil
		}, "west/bad.yaml:4:8: Service app/x: spec.prots: unknown field"},
		{"bad trust domain", func(t *testing.T, dir string) []string {
			write(t, filepath.Join(dir, "east", "mesh.yaml"), "trustDomain: not a domain\n")
			return nil
		}, "east/mesh.yaml:1"},
		{"CA that is not whole", func(t *testing.T, dir string) []string {
			write(t, filepath.Join(dir, "ca", "root-cert.pem"), "")
			return []string{"-ca", filepath.Join(dir, "ca")}
		}, "ca/ca-cert.pem"},
		{"server name", func(*testing.T, string) []string { return []string{"-server-name", "a b"} }, `server name "a b"`},
		{"state is a file", func(t *testing.T, dir string) []string {
			write(t, filepath.Join(dir, "file"), "")
			return []string{"-state", filepath.Join(dir, "file")}
		}, "-state: "},
		{"address", func(*testing.T, string) []string { return []string{"-listen", "nowhere"} }, "-listen: "},
		{"admin address", func(*testing.T, string) []string { return []string{"-admin", "nowhere"} }, "-admin: "},
		{"bundle address", func(*testing.T, string) []string { return []string{"-bundle", "nowhere"} }, "-bundle: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := clusters(t)
			args := []string{"-cluster", "east", "-config", filepath.Join(dir, "east"), "-remote", "west=" + filepath.Join(dir, "west"),
				"-state", filepath.Join(dir, "state"), "-listen", "127.0.0.1:0"}
			var stdout, stderr bytes.Buffer
			err := run(t.Context(), append(args, tt.change(t, dir)...), noEnv, &stdout, &stderr)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tt.want)
			}
			if stdout.Len() > 0 {
				t.Errorf("it says %q", &stdout)
			}
			if status := cmdline.Exit(io.Discard, "istiod", err); status != 1 {
				t.Errorf("exit status %d", status)
			}
		})
	}
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

// start runs the program until stop is called, and returns what it says when it
// is ready.
func start(t *testing.T, getenv cmdline.Getenv, args ...string) (ready string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stdout, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, args, getenv, w, io.Discard)
		_ = w.CloseWithError(io.EOF)
		done <- err
	}()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	line := make([]byte, 1024)
	n, err := stdout.Read(line)
	if err != nil {
		t.Fatalf("it ended: %v", stop())
	}
	return string(line[:n]), stop
}

func TestRun(t *testing.T) {
	dir := clusters(t)
	state := filepath.Join(dir, "state")
	env := func(key string) string { return map[string]string{"CLUSTER_ID": "east"}[key] }
	ready, stop := start(t, env, "-config", filepath.Join(dir, "east"), "-remote", "west="+filepath.Join(dir, "west"),
		"-state", state, "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0")
	found := regexp.MustCompile(`^istiod of east serves on (127\.0\.0\.1:\d+), status on (http://127\.0\.0\.1:\d+/debug/status)\n$`).FindStringSubmatch(ready)
	if found == nil {
		t.Fatalf("it says %q", ready)
	}
	checkFiles(t, state)
	checkStatus(t, found[2])
	session := connect(t, state, found[1])
	<-session.Client.Synced(session.Client.Types[1].URL)
	if session.State.Index().ServiceByHostname("ratings.app.svc.cluster.local", "") == nil {
		t.Error("the proxy does not see a service of west")
	}

	if err := stop(); err != nil {
		t.Errorf("stopped, it returned %v", err)
	}
	if _, err := http.Get(found[2]); err == nil {
		t.Error("the status is still served")
	}

	// The next start finds what this one left.
	before, err := os.ReadFile(filepath.Join(state, "root-cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	ready, stop = start(t, noEnv, "-cluster", "east", "-config", filepath.Join(dir, "east"), "-state", state, "-listen", "127.0.0.1:0")
	if strings.Contains(ready, "status") {
		t.Errorf("without -admin it says %q", ready)
	}
	if after, err := os.ReadFile(filepath.Join(state, "root-cert.pem")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the root is another (%v)", err)
	}
	if err := stop(); err != nil {
		t.Errorf("stopped, it returned %v", err)
	}
}

// TestBundle has another mesh fetch the roots.
func TestBundle(t *testing.T) {
	dir := clusters(t)
	state := filepath.Join(dir, "state")
	ready, stop := start(t, noEnv, "-cluster", "east", "-config", filepath.Join(dir, "east"), "-state", state, "-listen", "127.0.0.1:0", "-bundle", "127.0.0.1:0")
	found := regexp.MustCompile(`, roots on (https://127\.0\.0\.1:\d+/)\n$`).FindStringSubmatch(ready)
	if found == nil {
		t.Fatalf("it says %q", ready)
	}
	pem, err := os.ReadFile(filepath.Join(state, "root-cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	td := spiffeid.RequireTrustDomainFromString("cluster.local")
	bundles, err := federation.New(federation.Config{Endpoints: []federation.Endpoint{{TrustDomain: td, URL: found[1], Roots: roots}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := bundles.Refresh(t.Context(), td); err != nil {
		t.Fatal(err)
	}
	want, err := x509bundle.Parse(td, pem)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := bundles.GetX509BundleForTrustDomain(td); err != nil || !got.Equal(want) {
		t.Errorf("fetched %v, %v; want what is in root-cert.pem", got, err)
	}
	if err := stop(); err != nil {
		t.Errorf("stopped, it returned %v", err)
	}
	if err := bundles.Refresh(t.Context(), td); err == nil {
		t.Error("the roots are still served")
	}
}

// TestReplacedCA plugs another CA in while it runs: clients get to know.
func TestReplacedCA(t *testing.T) {
	state, dir, other := t.TempDir(), filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "ca")
	td := spiffeid.RequireTrustDomainFromString("cluster.local")
	o := &options{state: &state, ca: &dir, logger: slog.New(slog.DiscardHandler)}
	ca, err := o.authority(td)
	if err != nil {
		t.Fatal(err)
	}
	next, err := identity.OpenCA(other, identity.CAConfig{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, dir); err != nil {
		t.Fatal(err)
	}
	if changed, err := ca.Reload(); !changed || err != nil {
		t.Fatal(changed, err)
	}
	if got, err := os.ReadFile(filepath.Join(state, "root-cert.pem")); err != nil || !bytes.Equal(got, next.RootsPEM()) {
		t.Errorf("root-cert.pem is not that of the new CA (%v)", err)
	}
}

// checkFiles checks what proxies need, and that it is not for everybody.
func checkFiles(t *testing.T, state string) {
	t.Helper()
	for file, mode := range map[string]os.FileMode{
		"root-cert.pem": 0o644,
		"ca/ca-key.pem": 0o600,
		"vips.json":     0o600,
		"tokens/east.istio-system.ztunnel.east-node":     0o600,
		"tokens/west.istio-system.ztunnel.west-node":     0o600,
		"tokens/east.istio-system.istio-eastwestgateway": 0o600,
	} {
		info, err := os.Stat(filepath.Join(state, file))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode || info.Size() == 0 {
			t.Errorf("%s: %d bytes, mode %#o, want %#o", file, info.Size(), info.Mode().Perm(), mode)
		}
	}
}

func checkStatus(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close(); http.DefaultClient.CloseIdleConnections() }()
	var status istiod.Status
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil || status.Cluster != "east" || len(status.Clusters) != 2 {
		t.Errorf("status %+v, %v", status, err)
	}
}

// connect begins the session of the node proxy of east, with the files that it
// would have.
func connect(t *testing.T, state, address string) *discovery.Session {
	t.Helper()
	roots, err := os.ReadFile(filepath.Join(state, "root-cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	session, err := discovery.Connect(discovery.ControlPlane{
		Address: address, RootCerts: roots, ServerName: "istiod.istio-system.svc", ClusterID: "east",
		Token: discovery.TokenFile(filepath.Join(state, "tokens", "east.istio-system.ztunnel.east-node")),
	}, discovery.Proxy{
		Kind: discovery.NodeProxy, Pod: "ztunnel", Namespace: "istio-system", ServiceAccount: "ztunnel", Cluster: "east", Node: "east-node",
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = session.Run(context.Background())
	}()
	t.Cleanup(func() { _ = session.Close(); <-done })
	return session
}
