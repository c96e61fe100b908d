package kubemesh_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The golden files are the objects of two real clusters, as their API servers
// returned them, and what the real istiod of each sent to its node proxies. So
// reading, converting and merging together do what istiod does.
func TestGolden(t *testing.T) {
	clusters := map[string]*kubefile.Snapshot{"cluster1": load(t, "cluster1"), "cluster2": load(t, "cluster2")}
	for home, network := range map[string]string{"cluster1": "network1", "cluster2": "network2"} {
		t.Run(home, func(t *testing.T) {
			mesh := endpoints.New(endpoints.Config{Compat: endpoints.Istio})
			var policies []*wds.Authorization
			for id, snapshot := range clusters {
				facts := convert(t, kubemesh.Config{Cluster: id, Home: clusters[home], Compat: endpoints.Istio}, snapshot)
				if err := mesh.SetCluster(facts.Cluster); err != nil {
					t.Fatal(err)
				}
				if err := mesh.Apply(facts.Since(nil)); err != nil {
					t.Fatal(err)
				}
				policies = append(policies, facts.Policies...)
			}
			view := mesh.View(endpoints.Client{Network: network, Cluster: home})
			defer view.Close()
			if diff := cmp.Diff(goldenResources(t, home), viewResources(view), byValue); diff != "" {
				t.Errorf("addresses: -istiod +ours\n%s", diff)
			}
			if diff := cmp.Diff(goldenPolicies(t, home), policies, byValue); diff != "" {
				t.Errorf("policies: -istiod +ours\n%s", diff)
			}
		})
	}
}

// byValue compares addresses as they are.
var byValue = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func load(t testing.TB, cluster string) *kubefile.Snapshot {
	t.Helper()
	s, err := kubefile.Load(filepath.Join("testdata", "golden", cluster))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func convert(t testing.TB, c kubemesh.Config, s *kubefile.Snapshot) *kubemesh.Facts {
	t.Helper()
	facts, err := kubemesh.Convert(c, s)
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

// response reads a DeltaDiscoveryResponse of istiod.
func response(t *testing.T, cluster, file string) []*discoverypb.Resource {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", "golden", cluster, cluster+file))
	if err != nil {
		t.Fatal(err)
	}
	var response discoverypb.DeltaDiscoveryResponse
	if err := proto.Unmarshal(body, &response); err != nil {
		t.Fatal(err)
	}
	return response.GetResources()
}

func goldenResources(t *testing.T, cluster string) map[string]endpoints.Resource {
	all := make(map[string]endpoints.Resource)
	for _, r := range response(t, cluster, ".wds.binpb") {
		resource, err := wds.DecodeAddress(r.GetName(), r.GetResource().GetValue())
		if err != nil {
			t.Fatal(err)
		}
		all[r.GetName()] = resource
	}
	return all
}

func goldenPolicies(t *testing.T, cluster string) (all []*wds.Authorization) {
	for _, r := range response(t, cluster, ".rbac.binpb") {
		policy, err := wds.DecodeAuthorization(r.GetName(), r.GetResource().GetValue())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, policy)
	}
	return all
}

// viewResources leaves out what is not on the wire.
func viewResources(view *endpoints.View) map[string]endpoints.Resource {
	all := make(map[string]endpoints.Resource)
	for r := range view.Snapshot().All() {
		if r.Service != nil {
			onWire := *r.Service
			onWire.Scope, onWire.Created = endpoints.ScopeLocal, time.Time{}
			r.Service = &onWire
		}
		all[r.Name()] = r
	}
	return all
}
