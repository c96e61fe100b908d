package pb_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	istio "istio.io/api/security/v1alpha1"

	capb "github.com/eastwest-mesh/eastwest/internal/pb/ca/v1"
)

// TestBesideIstio links Istio's own messages: that the test starts shows that no name is
// registered twice. They are the oracle for ours.
func TestBesideIstio(t *testing.T) {
	metadata, err := structpb.NewStruct(map[string]any{"ImpersonatedIdentity": "spiffe://cluster.local/ns/app/sa/client"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name         string
		ours, theirs proto.Message
	}{
		{
			"request",
			&capb.IstioCertificateRequest{Csr: "PEM", ValidityDuration: 86400, Metadata: metadata},
			&istio.IstioCertificateRequest{Csr: "PEM", ValidityDuration: 86400, Metadata: metadata},
		}, {
			"response",
			&capb.IstioCertificateResponse{CertChain: []string{"leaf", "root"}},
			&istio.IstioCertificateResponse{CertChain: []string{"leaf", "root"}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(test.theirs)
			if err != nil {
				t.Fatal(err)
			}
			got := test.ours.ProtoReflect().New().Interface()
			roundTrip(t, test.name, wire, got)
			if !proto.Equal(got, test.ours) {
				t.Errorf("Istio's %v decodes to %v", test.theirs, got)
			}
		})
	}
}
