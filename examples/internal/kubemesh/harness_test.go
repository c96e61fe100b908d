package kubemesh_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
)

// snapshot reads YAML as the directory "east" with one file and a Namespace
// app.
func snapshot(t testing.TB, yaml string) *kubefile.Snapshot {
	t.Helper()
	s, err := kubefile.Loader{}.LoadFS(fstest.MapFS{
		"app.yaml": {Data: []byte(strings.TrimSpace(yaml) + "\n")},
		"ns.yaml":  {Data: []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: app}\n")},
	}, "east")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// factsOf converts YAML as the objects of cluster east, on network net.
func factsOf(t testing.TB, yaml string) *kubemesh.Facts {
	t.Helper()
	return convert(t, kubemesh.Config{Cluster: "east", Network: "net", VIPs: vips{}}, snapshot(t, yaml))
}

// vips gives every host an address but those that say no.
type vips struct{}

func (vips) Assign(host string) ([]netip.Addr, error) {
	if strings.HasPrefix(host, "no.") {
		return nil, errors.New("exhausted")
	}
	return []netip.Addr{netip.MustParseAddr("240.240.0.7")}, nil
}

func serviceNamed(t testing.TB, f *kubemesh.Facts, key string) *endpoints.Service {
	t.Helper()
	i := slices.IndexFunc(f.Services, func(s *endpoints.Service) bool { return s.Key() == key })
	if i < 0 {
		t.Fatalf("there is no service %s; warnings %v", key, f.Warnings)
	}
	return f.Services[i]
}

func workloadNamed(t testing.TB, f *kubemesh.Facts, uid string) *endpoints.Workload {
	t.Helper()
	i := slices.IndexFunc(f.Workloads, func(w *endpoints.Workload) bool { return w.UID == uid })
	if i < 0 {
		t.Fatalf("there is no workload %s; warnings %v", uid, f.Warnings)
	}
	return f.Workloads[i]
}

func uids(f *kubemesh.Facts) string {
	var out []string
	for _, w := range f.Workloads {
		out = append(out, w.UID)
	}
	return strings.Join(out, " ")
}

// wantWarnings checks that each warning has its text, and that there are no
// others.
func wantWarnings(t testing.TB, f *kubemesh.Facts, texts ...string) {
	t.Helper()
	for i, w := range f.Warnings {
		if i >= len(texts) || !strings.Contains(w.String(), texts[i]) {
			t.Errorf("warning %d: %s; want %q", i, w, texts)
		}
	}
	if len(f.Warnings) < len(texts) {
		t.Errorf("%d warnings, want %q", len(f.Warnings), texts)
	}
}
