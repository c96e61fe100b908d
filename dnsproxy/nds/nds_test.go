package nds_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/dnsproxy/nds"
	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
	ndspb "github.com/eastwest-mesh/eastwest/internal/pb/nds/v1"
)

// golden returns the name table that an istiod (1.32-dev) sent to a sidecar.
func golden(t testing.TB, cluster string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + cluster + ".nds.binpb")
	if err != nil {
		t.Fatal(err)
	}
	resp := new(discoverypb.DeltaDiscoveryResponse)
	if err := proto.Unmarshal(raw, resp); err != nil {
		t.Fatal(err)
	}
	if len(resp.GetResources()) != 1 || resp.GetTypeUrl() != nds.TypeURL {
		t.Fatalf("%d resources of type %s, want one of %s", len(resp.GetResources()), resp.GetTypeUrl(), nds.TypeURL)
	}
	return resp.GetResources()[0].GetResource().GetValue()
}

func TestGoldenDecodes(t *testing.T) {
	k8s := func(name, namespace, addr string) dnsproxy.Entry {
		return dnsproxy.Entry{
			Host:      name + "." + namespace + ".svc.cluster.local",
			Namespace: namespace,
			ShortName: name,
			Registry:  dnsproxy.Kubernetes,
			Addresses: []netip.Addr{netip.MustParseAddr(addr)},
		}
	}
	mongo := dnsproxy.Entry{
		Host:      "mymongodb.somedomain",
		Registry:  dnsproxy.External,
		Addresses: []netip.Addr{netip.MustParseAddr("240.240.0.1")},
	}
	want := map[string][]dnsproxy.Entry{
		"cluster1": {
			k8s("db", "app", "10.1.0.13"),
			k8s("istio-eastwestgateway", "istio-system", "10.91.169.180"),
			k8s("kubernetes", "default", "10.91.0.1"),
			k8s("local", "app", "10.91.56.214"),
			mongo,
			k8s("reviews", "app", "10.91.41.107"),
		},
		"cluster2": {
			k8s("db", "app", "10.1.0.13"),
			k8s("istio-eastwestgateway", "istio-system", "10.92.229.177"),
			k8s("kubernetes", "default", "10.92.0.1"),
			k8s("local", "app", "10.92.160.233"),
			mongo,
			k8s("reviews", "app", "10.92.71.251"),
		},
	}
	for cluster, want := range want {
		t.Run(cluster, func(t *testing.T) {
			got, err := nds.Decode(golden(t, cluster))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGoldenEncodesAgain(t *testing.T) {
	for _, cluster := range []string{"cluster1", "cluster2"} {
		t.Run(cluster, func(t *testing.T) {
			raw := golden(t, cluster)
			entries, err := nds.Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			again, err := nds.Encode(entries)
			if err != nil {
				t.Fatal(err)
			}
			want, got := new(ndspb.NameTable), new(ndspb.NameTable)
			if err := errors.Join(proto.Unmarshal(raw, want), proto.Unmarshal(again, got)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEncode(t *testing.T) {
	ips := func(texts ...string) (out []netip.Addr) {
		for _, text := range texts {
			out = append(out, netip.MustParseAddr(text))
		}
		return out
	}
	raw, err := nds.Encode([]dnsproxy.Entry{
		{Host: "db.app.svc.cluster.local", Namespace: "app", Registry: dnsproxy.Kubernetes, Headless: true, Pods: []dnsproxy.Pod{
			{Name: "db-0", Addresses: ips("10.1.0.13", "fd00::13")},
			{Addresses: ips("10.1.0.14")},
		}},
		{Host: "reviews.app.svc.clusterset.local", Namespace: "app", Registry: dnsproxy.Kubernetes, Addresses: ips("10.2.0.1")},
		{Host: "API.example.com.", Namespace: "app", Registry: dnsproxy.External, Addresses: ips("::ffff:192.0.2.1"), AltHosts: []string{"api.example.org"}},
		{Host: "nothing.example.com", Registry: dnsproxy.External},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := new(ndspb.NameTable)
	if err := proto.Unmarshal(raw, got); err != nil {
		t.Fatal(err)
	}
	want := &ndspb.NameTable{Table: map[string]*ndspb.NameTable_NameInfo{
		"db.app.svc.cluster.local":           {Ips: []string{"10.1.0.13", "fd00::13", "10.1.0.14"}, Registry: "Kubernetes", Shortname: "db", Namespace: "app"},
		"db-0.db.app.svc.cluster.local":      {Ips: []string{"10.1.0.13", "fd00::13"}, Registry: "Kubernetes", Shortname: "db-0.db", Namespace: "app"},
		"10-1-0-14.db.app.svc.cluster.local": {Ips: []string{"10.1.0.14"}, Registry: "Kubernetes", Shortname: "10-1-0-14.db", Namespace: "app"},
		"reviews.app.svc.clusterset.local":   {Ips: []string{"10.2.0.1"}, Registry: "Kubernetes"},
		"api.example.com":                    {Ips: []string{"192.0.2.1"}, Registry: "External", AltHosts: []string{"api.example.org"}},
	}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestErrors(t *testing.T) {
	bad, err := proto.Marshal(&ndspb.NameTable{Table: map[string]*ndspb.NameTable_NameInfo{
		"a.example.com": {Ips: []string{"192.0.2.1", "10.0.0.0/8"}},
		"b.example.com": {Ips: []string{"192.0.2.1"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	twice := []dnsproxy.Entry{
		{Host: "a.example.com", Namespace: "one", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
		{Host: "A.example.com", Namespace: "two", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}},
	}
	tests := []struct {
		name        string
		run         func() error
		host, field string
	}{
		{"no protobuf", func() error { _, err := nds.Decode([]byte{0xff}); return err }, "", ""},
		{"no address", func() error { _, err := nds.Decode(bad); return err }, "a.example.com", "ips[1]"},
		{"host twice", func() error { _, err := nds.Encode(twice); return err }, "a.example.com", "table"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.run()
			var got *nds.Error
			if !errors.As(err, &got) {
				t.Fatalf("error is %v, want an *nds.Error", err)
			}
			if got.Host != tt.host || got.Field != tt.field || got.Err == nil {
				t.Errorf("error is about %q %q (%v), want %q %q", got.Host, got.Field, got.Err, tt.host, tt.field)
			}
			if !strings.HasPrefix(err.Error(), "nds: ") {
				t.Errorf("error %q does not say where it is from", err)
			}
		})
	}
}

// FuzzDecode: what decodes and makes a table encodes again, to the same table.
func FuzzDecode(f *testing.F) {
	f.Add(golden(f, "cluster1"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		entries, err := nds.Decode(raw)
		if err != nil {
			return
		}
		if _, err := dnsproxy.Build(entries); err != nil {
			return
		}
		once, err := nds.Encode(entries)
		if err != nil {
			return // hosts that only differ by case
		}
		again, err := nds.Decode(once)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := nds.Encode(again)
		if err != nil {
			t.Fatal(err)
		}
		if string(once) != string(twice) {
			t.Errorf("encodes to %x and then to %x", once, twice)
		}
	})
}

func Example() {
	raw, err := nds.Encode([]dnsproxy.Entry{{
		Host:      "reviews.app.svc.cluster.local",
		Namespace: "app",
		Registry:  dnsproxy.Kubernetes,
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.10")},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	entries, err := nds.Decode(raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range entries {
		fmt.Println(e.Host, e.ShortName, e.Namespace, e.Addresses)
	}
	// Output: reviews.app.svc.cluster.local reviews app [10.0.0.10]
}
