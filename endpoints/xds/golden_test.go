package xds

import (
	"cmp"
	"os"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

const address = "type.googleapis.com/istio.workload.Address"

// fromIstiod is the first response of a real istiod to a wildcard subscription, with its
// resources in the order of their names.
func fromIstiod(t testing.TB) *discoverypb.DeltaDiscoveryResponse {
	t.Helper()
	wire, err := os.ReadFile("testdata/istiod.wds.binpb")
	if err != nil {
		t.Fatal(err)
	}
	resp := new(discoverypb.DeltaDiscoveryResponse)
	if err := proto.Unmarshal(wire, resp); err != nil {
		t.Fatal(err)
	}
	sortResources(resp)
	return resp
}

func sortResources(resp *discoverypb.DeltaDiscoveryResponse) {
	slices.SortFunc(resp.Resources, func(a, b *discoverypb.Resource) int { return cmp.Compare(a.GetName(), b.GetName()) })
}

// TestGolden gives the client what a real istiod sent, and asks the server for the same with the
// requests of a real ztunnel.
func TestGolden(t *testing.T) {
	istiod := fromIstiod(t)
	var received []Resource
	s, n := serveRaw(t)
	client := &Client{Conn: n.dial(), Types: []Type{{URL: address, Handle: func(u Update) map[string]error {
		received = append(received, u.Upserts...)
		return nil
	}}}}
	start(t, client)
	stream := s.accept()
	stream.receive()
	stream.send(istiod)
	if req := stream.receive(); req.GetResponseNonce() != istiod.GetNonce() || req.GetErrorDetail() != nil {
		t.Fatalf("answer %v, want an ACK of %s", req, istiod.GetNonce())
	}
	await(t, "sync", client.Synced(address))

	c := new(Collection)
	c.Replace(received)
	ztunnel := serveXDS(t, &Server{Source: ByType{address: c}}).openRaw()
	ztunnel.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: address})
	resp := ztunnel.receive()
	sortResources(resp)
	if len(resp.GetResources()) != len(istiod.GetResources()) || len(istiod.GetResources()) == 0 {
		t.Fatalf("%d resources, want %d", len(resp.GetResources()), len(istiod.GetResources()))
	}
	for i, want := range istiod.GetResources() {
		if got := resp.GetResources()[i]; !proto.Equal(got, want) {
			t.Errorf("serves %v, want what istiod does, %v", got, want)
		}
	}
	ztunnel.ack(resp)
}
