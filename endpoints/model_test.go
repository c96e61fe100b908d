package endpoints_test

import (
	"net/netip"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

var longAgo = time.Unix(1000, 0)

// TestSeveralNetworksInOneCluster: pods are on the network that they name, else on that of their range, else
// on the cluster's; the cluster's virtual addresses are good on all of them.
func TestSeveralNetworksInOneCluster(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east")
	at := func(address string) func(*endpoints.Workload) {
		return func(w *endpoints.Workload) { w.Addresses = []netip.Addr{netip.MustParseAddr(address)} }
	}
	ranges := []endpoints.NetworkAddress{
		{Network: "edge", Prefix: netip.MustParsePrefix("10.1.0.0/16")}, {Network: "lab", Prefix: netip.MustParsePrefix("10.1.9.0/24")},
	}
	if err := m.SetCluster(endpoints.Cluster{ID: "east", Network: "east-net", Local: true, Ranges: ranges}); err != nil {
		t.Fatal(err)
	}
	edge, lab := gateway("edge", 1), gateway("lab", 2)
	edge.Network, lab.Network = "edge", "lab"
	apply(t, m, endpoints.Change{
		Cluster: "east", Services: []*endpoints.Service{service("10.91.0.1")}, Gateways: []*endpoints.Gateway{edge, lab},
		Workloads: []*endpoints.Workload{
			pod("east", "home", at("10.2.0.1")), pod("east", "edge", at("10.1.0.1")), pod("east", "lab", at("10.1.9.1")),
			pod("east", "named", at("10.1.9.2"), func(w *endpoints.Workload) { w.Network = "edge" }),
		},
	})
	for network, want := range map[string][]string{
		"east-net": {
			"reviews at east-net/10.91.0.1",
			"reviews: 1 of east through 172.18.2.100 as istio-system/lab", "reviews: 2 of east through 172.18.1.100 as istio-system/edge",
			"reviews: east//Pod/app/home",
		},
		"lab": {
			"reviews at east-net/10.91.0.1 lab/10.91.0.1",
			"reviews: 1 of east through 172.18.0.100 as istio-system/ew", "reviews: 2 of east through 172.18.1.100 as istio-system/edge",
			"reviews: east//Pod/app/lab",
		},
	} {
		if diff := gocmp.Diff(want, describe(t, m, node(network, "east"))); diff != "" {
			t.Errorf("%s: -want +got\n%s", network, diff)
		}
	}
	if err := m.SetCluster(endpoints.Cluster{ID: "east", Network: "east-net", Local: true}); err != nil {
		t.Fatal(err)
	}
	want := []string{"reviews at east-net/10.91.0.1", "reviews: 1 of east through 172.18.1.100 as istio-system/edge",
		"reviews: east//Pod/app/edge", "reviews: east//Pod/app/home", "reviews: east//Pod/app/lab"}
	if diff := gocmp.Diff(want, describe(t, m, node("east-net", "east"))); diff != "" {
		t.Errorf("without ranges: -want +got\n%s", diff)
	}
}

// TestPodNames: the pods of a headless service can be named from another network; in their own cluster a
// name means that cluster's pod, whatever others have.
func TestPodNames(t *testing.T) {
	vips := &fakeVIPs{max: 100, assigned: make(map[string]netip.Addr)}
	m := newMesh(t, endpoints.Config{VIPs: vips}, "east", "west", "south")
	headless := service("")
	behind := func(names ...string) func(*endpoints.Workload) {
		return func(w *endpoints.Workload) {
			for _, name := range names {
				w.Services = append(w.Services, endpoints.ServicePorts{Service: headless.ForPod(name).Key(), Ports: headless.Ports})
			}
		}
	}
	both := func(cluster, name string) endpoints.Change {
		return endpoints.Change{Cluster: cluster, Services: []*endpoints.Service{headless, headless.ForPod(name)},
			Workloads: []*endpoints.Workload{pod(cluster, name, behind(name))}}
	}
	apply(t, m, both("west", "db-0"), both("south", "db-1"))
	if s := headless.ForPod("db-0"); s.Hostname != "db-0.reviews.app.svc.cluster.local" || s.Name != "db-0.reviews" {
		t.Errorf("a pod is named %s, %s", s.Hostname, s.Name)
	}
	want := []string{
		"db-0.reviews at east-net/240.240.0.2", "db-0.reviews: 1 of west through 172.18.1.100 as istio-system/ew",
		"db-1.reviews at east-net/240.240.0.3", "db-1.reviews: 1 of south through 172.18.2.100 as istio-system/ew",
		"reviews at east-net/240.240.0.1",
		"reviews: 1 of south through 172.18.2.100 as istio-system/ew", "reviews: 1 of west through 172.18.1.100 as istio-system/ew",
	}
	got := describe(t, m, eastNode)
	if len(got) != len(want) { // addresses are given out in no order
		t.Errorf("east sees %q", got)
	}
	if w := seen(t, m, ewGateway("west-net", "west"))["west//Pod/app/db-0"].Workload; w == nil || len(w.Services) != 2 {
		t.Errorf("the gateway of west has %+v behind the name", w)
	}
	apply(t, m, both("east", "db-0"))
	for _, line := range describe(t, m, eastNode) {
		if line == "db-0.reviews: 1 of west through 172.18.1.100 as istio-system/ew" {
			t.Error("east has a db-0 of its own, and sees that of west")
		}
	}
	name := headless.ForPod("db-0").Key()
	if w := seen(t, m, eastNode)["east//Pod/app/db-0"].Workload; w == nil || len(w.Services) != 2 || w.Services[0].Service != name {
		t.Errorf("east's own db-0 is %+v", w)
	}
	if s := seen(t, m, eastNode)[name].Service; s == nil || len(s.Addresses) != 0 {
		t.Errorf("east's own db-0 is %+v, want it to be found by its pod's address", s)
	}
}

// TestStale: a cluster whose API server is gone keeps its endpoints, marked, for as long as was said.
func TestStale(t *testing.T) {
	m := newMesh(t, endpoints.Config{KeepStale: time.Hour}, "east", "west", "south")
	for _, id := range []string{"west", "south"} {
		apply(t, m, endpoints.Change{Cluster: id, Services: []*endpoints.Service{service("")}, Workloads: []*endpoints.Workload{pod(id, "a")}})
	}
	behind := func() (clusters []string) {
		for _, w := range horizon(t, m, eastNode) {
			clusters = append(clusters, w.Cluster)
		}
		return clusters
	}
	check := func(step string, now, next time.Time, want ...string) {
		t.Helper()
		if got := m.Expire(now); !got.Equal(next) {
			t.Errorf("%s: %v is next, want %v", step, got, next)
		}
		if diff := gocmp.Diff(want, behind()); diff != "" {
			t.Errorf("%s: -want +got\n%s", step, diff)
		}
	}
	check("all is well", longAgo, time.Time{}, "south", "west")
	for id, since := range map[string]time.Time{"west": longAgo, "south": longAgo.Add(time.Minute)} {
		if err := m.SetStale(id, since); err != nil {
			t.Fatal(err)
		}
	}
	check("both are away", longAgo.Add(time.Minute), longAgo.Add(time.Hour), "south", "west")
	check("one for an hour", longAgo.Add(time.Hour), longAgo.Add(time.Hour+time.Minute), "south")
	if c := m.Clusters()[2]; !c.Expired || !c.Stale || c.Workloads+c.Services+c.Gateways != 0 {
		t.Errorf("an expired cluster is %+v", c)
	}
	check("the other one, too", longAgo.Add(2*time.Hour), time.Time{})
	apply(t, m, endpoints.Change{Cluster: "west", Resync: true, Gateways: []*endpoints.Gateway{gateway("ew", 1)},
		Services: []*endpoints.Service{service("")}, Workloads: []*endpoints.Workload{pod("west", "a")}})
	check("one is back", longAgo.Add(3*time.Hour), time.Time{}, "west")
	if c := m.Clusters()[2]; c.Expired || c.Stale {
		t.Errorf("a cluster that is back is %+v", c)
	}
	for _, keep := range []time.Duration{0, -1} {
		forever := newMesh(t, endpoints.Config{KeepStale: keep}, "east")
		if err := forever.SetStale("east", longAgo); err != nil {
			t.Fatal(err)
		}
		if next := forever.Expire(time.Now()); !next.IsZero() || forever.Clusters()[0].Gateways != 1 {
			t.Errorf("with KeepStale %d, %+v", keep, forever.Clusters())
		}
	}
}
