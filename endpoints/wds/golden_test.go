package wds_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
	"google.golang.org/protobuf/proto"
)

// golden returns the resources that a real istiod sent: the file is a serialized DeltaDiscoveryResponse.
func golden(t testing.TB, file string) []*discoverypb.Resource {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var resp discoverypb.DeltaDiscoveryResponse
	if err := proto.Unmarshal(body, &resp); err != nil {
		t.Fatal(err)
	}
	if len(resp.GetResources()) == 0 {
		t.Fatalf("%s has no resources", file)
	}
	return resp.GetResources()
}

func TestGoldenAddresses(t *testing.T) {
	for _, file := range []string{"cluster1.wds.binpb", "cluster2.wds.binpb"} {
		for _, res := range golden(t, file) {
			t.Run(file+"/"+res.GetName(), func(t *testing.T) {
				if got := res.GetResource().GetTypeUrl(); got != wds.AddressTypeURL {
					t.Fatalf("type %s", got)
				}
				r, err := wds.DecodeAddress(res.GetName(), res.GetResource().GetValue())
				if err != nil {
					t.Fatal(err)
				}
				body, err := wds.EncodeAddress(r)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(body, res.GetResource().GetValue()) {
					t.Errorf("encoded to other bytes:\n got %x\nwant %x", body, res.GetResource().GetValue())
				}
			})
		}
	}
}

func TestGoldenAuthorizations(t *testing.T) {
	for _, file := range []string{"cluster1.rbac.binpb", "cluster2.rbac.binpb"} {
		for _, res := range golden(t, file) {
			a, err := wds.DecodeAuthorization(res.GetName(), res.GetResource().GetValue())
			if err != nil {
				t.Fatal(err)
			}
			if body, err := wds.EncodeAuthorization(a); err != nil || !bytes.Equal(body, res.GetResource().GetValue()) {
				t.Errorf("%s: encoded to other bytes: %x, %v; want %x", res.GetName(), body, err, res.GetResource().GetValue())
			}
			want := []wds.Group{{Rules: []wds.Rule{
				{Matches: []wds.Match{{DestinationPorts: []uint16{8080}}}},
				{Matches: []wds.Match{{Principals: []wds.StringMatch{{Kind: wds.MatchExact, Value: "cluster.local/ns/app/sa/client"}}}}},
			}}}
			if got := a.Groups; len(got) != 1 || len(got[0].Rules) != 2 ||
				!slices.Equal(got[0].Rules[0].Matches[0].DestinationPorts, want[0].Rules[0].Matches[0].DestinationPorts) ||
				!slices.Equal(got[0].Rules[1].Matches[0].Principals, want[0].Rules[1].Matches[0].Principals) {
				t.Errorf("groups %+v, want %+v", got, want)
			}
			if a.Scope != wds.ScopeWorkload || a.Action != wds.ActionAllow || a.ResourceName() != "app/only-client" {
				t.Errorf("got %s of scope %v and action %v", a.ResourceName(), a.Scope, a.Action)
			}
		}
	}
}

// TestGoldenFields reads one workload by eye, so that a field swapped both ways cannot hide.
func TestGoldenFields(t *testing.T) {
	for _, res := range golden(t, "cluster1.wds.binpb") {
		if res.GetName() != "network2/SplitHorizonWorkload/istio-system/istio-eastwestgateway/172.18.2.100/app/reviews.app.svc.cluster.local" {
			continue
		}
		r, err := wds.DecodeAddress(res.GetName(), res.GetResource().GetValue())
		if err != nil {
			t.Fatal(err)
		}
		w := r.Workload
		if w.Cluster != "cluster2" || w.Network != "network2" || w.Weight() != 2 || w.Tunnel != endpoints.TunnelHBONE || w.Type != endpoints.Pod ||
			w.NetworkGateway.String() != "network2/172.18.2.100:15008" || w.Namespace != "app" || len(w.Addresses) != 0 {
			t.Errorf("got %+v", w)
		}
		ports, ok := w.Ports("app/reviews.app.svc.cluster.local")
		if !ok || !slices.Equal(ports, []endpoints.Port{{ServicePort: 80, TargetPort: 8080, AppProtocol: endpoints.AppHTTP11}}) {
			t.Errorf("ports %v", ports)
		}
		return
	}
	t.Fatal("the golden file has no such workload")
}
