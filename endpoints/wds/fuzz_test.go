package wds_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	workloadpb "github.com/eastwest-mesh/eastwest/internal/pb/workload/v1"
)

// FuzzDecodeAddress: what can be decoded can be encoded, and then stays as it is.
func FuzzDecodeAddress(f *testing.F) {
	for _, file := range []string{"cluster1.wds.binpb", "cluster2.wds.binpb"} {
		for _, res := range golden(f, file) {
			f.Add(res.GetResource().GetValue())
		}
	}
	port := &workloadpb.Port{ServicePort: 80}
	strange(1, port)
	body, err := proto.Marshal(&workloadpb.Address{Type: &workloadpb.Address_Service{Service: &workloadpb.Service{
		Namespace: "ns", Hostname: "host", Ports: []*workloadpb.Port{{ServicePort: 80}, port}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := wds.DecodeAddress(nameOf(body), body)
		if err != nil {
			return
		}
		once, err := wds.EncodeAddress(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := wds.DecodeAddress(r.Name(), once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := wds.EncodeAddress(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x, then %x, %v", once, twice, err)
		}
	})
}

// nameOf returns the name that a resource gives itself.
func nameOf(body []byte) string {
	m := new(workloadpb.Address)
	if proto.Unmarshal(body, m) != nil {
		return ""
	}
	if s := m.GetService(); s != nil {
		return s.GetNamespace() + "/" + s.GetHostname()
	}
	return m.GetWorkload().GetUid()
}

// FuzzDecodeAuthorization does the same for policies.
func FuzzDecodeAuthorization(f *testing.F) {
	for _, res := range golden(f, "cluster1.rbac.binpb") {
		f.Add(res.GetName(), res.GetResource().GetValue())
	}
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		a, err := wds.DecodeAuthorization(name, body)
		if err != nil {
			return
		}
		once, err := wds.EncodeAuthorization(a)
		if err != nil {
			t.Fatal(err)
		}
		again, err := wds.DecodeAuthorization(name, once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := wds.EncodeAuthorization(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x, then %x, %v", once, twice, err)
		}
	})
}
