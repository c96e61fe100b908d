// Package deptest keeps the import table: which package may depend on what,
// and why. A consumer of one package must not pay for another.
package deptest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/eastwest-mesh/eastwest"

// rule says what the non-test code of one package, and of the packages below
// it that have no rule of their own, may import besides the standard library
// and this module's internal packages. An entry allows the package of that
// path and those below it.
type rule struct {
	pkg   string
	allow []string
}

var importTable = []rule{
	{"hbone", []string{"golang.org/x/net/http2", "golang.org/x/sys"}},
	{"hbone/hbonetest", []string{"golang.org/x/net/http2"}},
	{"identity", []string{
		"github.com/spiffe/go-spiffe/v2/spiffeid", "github.com/spiffe/go-spiffe/v2/svid/x509svid", "github.com/spiffe/go-spiffe/v2/bundle",
	}},
	{"identity/istioca", []string{
		"identity", "google.golang.org/grpc", "google.golang.org/protobuf",
		"github.com/spiffe/go-spiffe/v2/spiffeid", "github.com/spiffe/go-spiffe/v2/svid/x509svid", "github.com/spiffe/go-spiffe/v2/bundle",
	}},
	{"identity/federation", []string{
		"github.com/spiffe/go-spiffe/v2/spiffeid", "github.com/spiffe/go-spiffe/v2/bundle",
		"github.com/spiffe/go-spiffe/v2/federation", "github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig",
	}},
	{"identity/authz", []string{"identity", "go.yaml.in/yaml", "github.com/spiffe/go-spiffe/v2/spiffeid"}},
	{"scope", []string{"k8s.io/apimachinery", "go.yaml.in/yaml"}},
	{"endpoints", nil},
	{"endpoints/wds", []string{"endpoints", "google.golang.org/protobuf"}},
	{"endpoints/eds", []string{"endpoints", "google.golang.org/protobuf"}},
	{"endpoints/mcs", []string{"endpoints"}},
	{"endpoints/xds", []string{"google.golang.org/grpc", "google.golang.org/protobuf"}},
	{"dnsproxy", []string{"github.com/miekg/dns", "golang.org/x/net/ipv4", "golang.org/x/net/ipv6", "golang.org/x/sys"}},
	{"dnsproxy/nds", []string{"dnsproxy", "google.golang.org/protobuf"}},
	{"lb", nil},
	{"internal/bench", []string{"hbone", "golang.org/x/sys"}},
	// What all packages stand on must not stand on them.
	{"internal", []string{"golang.org/x/net/http2", "golang.org/x/sys", "google.golang.org/protobuf"}},
}

// bans are direct or indirect imports that a package must never have, each
// with the reason.
var bans = []struct{ pkg, banned, reason string }{
	{"hbone", "google.golang.org/grpc", "a proxy that only tunnels must not link gRPC"},
	{"hbone", "google.golang.org/protobuf", "a proxy that only tunnels must not link protobuf"},
	{"hbone", "github.com/spiffe/go-spiffe/v2", "credentials are the caller's choice; hbone knows an interface"},
	{"hbone", "testing", "the conformance suite is a package of its own"},
	{"hbone/hbonetest", module + "/internal/h2", "a suite that shares the engine cannot judge it"},
	{"identity", "google.golang.org/grpc", "the Workload API client is the caller's choice; its X509Source satisfies our interface"},
	{"identity", "net/http", "who fetches bundles over HTTP imports identity/federation"},
	{"identity/federation", "google.golang.org/grpc", "a bundle endpoint is HTTP"},
	{"identity/authz", "google.golang.org/grpc", "checking a policy needs no network"},
	{"scope", "k8s.io/api", "selectors need apimachinery only"},
	{"scope", "k8s.io/client-go", "evaluating labels needs no API server"},
	{"endpoints", "google.golang.org/protobuf", "the model is plain types; codecs are packages of their own"},
	{"dnsproxy", "google.golang.org/protobuf", "a name table needs no wire format"},
	{"lb", "net/http", "picking an endpoint needs no HTTP; a RoundTripper belongs beside it"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Standard   bool
}

func TestImportTable(t *testing.T) {
	std := standardLibrary(t)
	checked := map[string]bool{}
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		r, ok := ruleFor(name)
		if !ok {
			if p.ImportPath != module && !strings.HasPrefix(name, "examples") {
				t.Errorf("%s: no rule in the import table", name)
			}
			continue
		}
		checked[r.pkg] = true
		for _, imp := range p.Imports {
			if !std[imp] && !r.allows(imp) {
				t.Errorf("%s imports %s, which the import table does not allow", name, imp)
			}
		}
	}
	for _, want := range []string{"hbone", "identity", "scope", "endpoints", "dnsproxy", "lb"} {
		if !checked[want] {
			t.Errorf("package %s was not checked: is it gone?", want)
		}
	}
}

func TestBans(t *testing.T) {
	for _, b := range bans {
		pkgs := list(t, "./"+b.pkg)
		if len(pkgs) != 1 {
			t.Fatalf("%s: listed %d packages, want 1", b.pkg, len(pkgs))
		}
		if i := slices.IndexFunc(pkgs[0].Deps, func(d string) bool { return below(d, b.banned) }); i >= 0 {
			t.Errorf("%s depends on %s: %s", b.pkg, pkgs[0].Deps[i], b.reason)
		}
	}
}

// TestTableCanFail shows that the matching which the table rests on says no.
func TestTableCanFail(t *testing.T) {
	tests := []struct {
		pkg, imp string
		allowed  bool
	}{
		{"hbone", "golang.org/x/net/http2/hpack", true},
		{"hbone", "golang.org/x/net/http2x", false},
		{"hbone", module + "/internal/h2", true},
		{"hbone", module + "/identity", false},
		{"lb", module + "/scope", false},
		{"identity/authz", module + "/identity", true},
		{"identity/authz", "google.golang.org/grpc", false},
		{"dnsproxy/nds", module + "/internal/pb/nds/v1", true},
		{"hbone/sni", module + "/lb", false},
		{"hbone/hbonetest", module + "/hbone", false},
	}
	for _, tt := range tests {
		r, ok := ruleFor(tt.pkg)
		if !ok {
			t.Fatalf("no rule for %s", tt.pkg)
		}
		if got := r.allows(tt.imp); got != tt.allowed {
			t.Errorf("%s importing %s: allowed = %v, want %v", tt.pkg, tt.imp, got, tt.allowed)
		}
	}
}

// ruleFor returns the rule of the longest path at or above name.
func ruleFor(name string) (best rule, ok bool) {
	for _, r := range importTable {
		if below(name, r.pkg) && len(r.pkg) >= len(best.pkg) {
			best, ok = r, true
		}
	}
	return best, ok
}

func (r rule) allows(imp string) bool {
	if local, ok := strings.CutPrefix(imp, module+"/"); ok {
		return below(local, "internal") || below(local, r.pkg) || slices.Contains(r.allow, local)
	}
	return slices.ContainsFunc(r.allow, func(a string) bool {
		return below(imp, a) || strings.HasPrefix(imp, a+"/v")
	})
}

func below(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}

func standardLibrary(t *testing.T) map[string]bool {
	t.Helper()
	std := map[string]bool{"C": true, "unsafe": true}
	for _, p := range list(t, "std") {
		std[p.ImportPath] = true
	}
	return std
}

func list(t *testing.T, pattern string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps,Standard", pattern)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list %s: %v\n%s", pattern, err, exit.Stderr)
		}
		t.Fatalf("go list %s: %v", pattern, err)
	}
	var pkgs []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("go list %s: %v", pattern, err)
		}
		pkgs = append(pkgs, p)
	}
}
