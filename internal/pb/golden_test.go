package pb_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
	ndspb "github.com/eastwest-mesh/eastwest/internal/pb/nds/v1"
	securitypb "github.com/eastwest-mesh/eastwest/internal/pb/security/v1"
	workloadpb "github.com/eastwest-mesh/eastwest/internal/pb/workload/v1"
)

// newMessage makes an empty message for each type URL that a mesh control plane serves.
var newMessage = map[string]func() proto.Message{
	"type.googleapis.com/istio.workload.Address":            func() proto.Message { return new(workloadpb.Address) },
	"type.googleapis.com/istio.security.Authorization":      func() proto.Message { return new(securitypb.Authorization) },
	"type.googleapis.com/istio.networking.nds.v1.NameTable": func() proto.Message { return new(ndspb.NameTable) },
}

// TestGolden holds our messages to what a real istiod sent: each response is one serialized
// DeltaDiscoveryResponse, decodes with nothing unknown, and encodes to what it was.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.binpb")
	if err != nil || len(files) != 6 {
		t.Fatalf("got %d golden files, %v; want 6", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".binpb"), func(t *testing.T) {
			wire, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			resp := new(discoverypb.DeltaDiscoveryResponse)
			roundTrip(t, "response", wire, resp)
			if len(resp.GetResources()) == 0 {
				t.Error("no resources")
			}
			for _, r := range resp.GetResources() {
				if r.GetResource().GetTypeUrl() != resp.GetTypeUrl() {
					t.Errorf("resource %q has type %q in a response of type %q", r.GetName(), r.GetResource().GetTypeUrl(), resp.GetTypeUrl())
				}
				roundTrip(t, r.GetName(), r.GetResource().GetValue(), newMessage[resp.GetTypeUrl()]())
			}
		})
	}
}

// roundTrip decodes wire into m and fails unless m is all of it, and encodes to it again.
func roundTrip(t *testing.T, name string, wire []byte, m proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(wire, m); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if paths := unknownFields(m.ProtoReflect()); len(paths) > 0 {
		t.Errorf("%s: unknown fields in %v", name, paths)
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if !bytes.Equal(again, wire) {
		t.Errorf("%s: encodes to %d bytes unlike the %d that it came from:\n%s", name, len(again), len(wire), prototext.Format(m))
	}
}

// unknownFields returns the name of each message in m that was sent a field it does not know.
func unknownFields(m protoreflect.Message) []protoreflect.FullName {
	var found []protoreflect.FullName
	if len(m.GetUnknown()) > 0 {
		found = append(found, m.Descriptor().FullName())
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					found = append(found, unknownFields(v.Message())...)
					return true
				})
			}
		case fd.IsList():
			if fd.Message() != nil {
				for i := range v.List().Len() {
					found = append(found, unknownFields(v.List().Get(i).Message())...)
				}
			}
		case fd.Message() != nil:
			found = append(found, unknownFields(v.Message())...)
		}
		return true
	})
	return found
}
