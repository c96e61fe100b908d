package endpoints_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

const reviews = "app/reviews.app.svc.cluster.local"

// newMesh returns a mesh of clusters that each have a network of their own and a gateway.
func newMesh(t *testing.T, c endpoints.Config, clusters ...string) *endpoints.Mesh {
	t.Helper()
	m := endpoints.New(c)
	for i, id := range clusters {
		if err := m.SetCluster(endpoints.Cluster{ID: id, Network: id + "-net", Local: i == 0}); err != nil {
			t.Fatal(err)
		}
		apply(t, m, endpoints.Change{Cluster: id, Gateways: []*endpoints.Gateway{gateway("ew", byte(i))}})
	}
	return m
}

func apply(t *testing.T, m *endpoints.Mesh, changes ...endpoints.Change) {
	t.Helper()
	if err := m.Apply(changes...); err != nil {
		t.Fatal(err)
	}
}

func gateway(name string, n byte) *endpoints.Gateway {
	return &endpoints.Gateway{Namespace: "istio-system", Name: name, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{172, 18, n, 100})}}
}

// service returns a global service reviews with an address.
func service(addr string, change ...func(*endpoints.Service)) *endpoints.Service {
	s := &endpoints.Service{
		Name: "reviews", Namespace: "app", Hostname: "reviews.app.svc.cluster.local", Scope: endpoints.ScopeGlobal, Canonical: true,
		Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}},
	}
	if addr != "" {
		s.Addresses = []endpoints.NetworkAddress{endpoints.HostAddress("", netip.MustParseAddr(addr))}
	}
	for _, f := range change {
		f(s)
	}
	return s
}

// pod returns a healthy pod behind reviews.
func pod(cluster, name string, change ...func(*endpoints.Workload)) *endpoints.Workload {
	w := &endpoints.Workload{
		UID: cluster + "//Pod/app/" + name, Name: name, Namespace: "app", ServiceAccount: "reviews",
		Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.10")}, Tunnel: endpoints.TunnelHBONE,
		Services: []endpoints.ServicePorts{{Service: reviews, Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}}}},
		Locality: endpoints.Locality{Region: "r1", Zone: "z1"},
	}
	for _, f := range change {
		f(w)
	}
	return w
}

func unhealthy(w *endpoints.Workload) { w.Health = endpoints.Unhealthy }

func inZone(zone string) func(*endpoints.Workload) {
	return func(w *endpoints.Workload) { w.Locality.Zone = zone }
}

func local(s *endpoints.Service) { s.Scope = endpoints.ScopeLocal }

// seen returns the names in a client's view of what is asked for, and the view.
func seen(t *testing.T, m *endpoints.Mesh, c endpoints.Client) map[string]endpoints.Resource {
	t.Helper()
	v := m.View(c)
	t.Cleanup(func() { v.Close() })
	all := make(map[string]endpoints.Resource)
	for r := range v.Snapshot().All() {
		all[r.Name()] = r
	}
	return all
}

var eastNode = endpoints.Client{Network: "east-net", Cluster: "east"}

func TestConflicts(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east", "west", "south")
	at := func(unix int64) func(*endpoints.Service) {
		return func(s *endpoints.Service) { s.Created = time.Unix(unix, 0) }
	}
	port := func(p uint16) func(*endpoints.Service) {
		return func(s *endpoints.Service) { s.Ports = []endpoints.Port{{ServicePort: p, TargetPort: p}} }
	}
	tell := func(cluster string, s *endpoints.Service) {
		t.Helper()
		apply(t, m, endpoints.Change{Cluster: cluster, Services: []*endpoints.Service{s}})
	}
	check := func(step string, want ...endpoints.Conflict) {
		t.Helper()
		if diff := gocmp.Diff(want, m.Conflicts()); diff != "" {
			t.Errorf("%s: -want +got\n%s", step, diff)
		}
	}
	conflict := func(field, winner, rule string, values ...string) endpoints.Conflict {
		c := endpoints.Conflict{Service: reviews, Field: field, Winner: winner, Rule: rule}
		for i := 0; i < len(values); i += 2 {
			c.Values = append(c.Values, endpoints.ClusterValue{Cluster: values[i], Value: values[i+1]})
		}
		return c
	}
	tell("west", service("10.92.0.1", at(20), port(80)))
	tell("south", service("10.93.0.1", at(10), port(81)))
	check("the oldest wins", conflict("Ports", "south", endpoints.RuleOldest, "south", "81:81/UNKNOWN", "west", "80:80/UNKNOWN"))
	if s := seen(t, m, eastNode)[reviews].Service; s.Ports[0].ServicePort != 81 {
		t.Errorf("east sees port %d, not that of the oldest copy", s.Ports[0].ServicePort)
	}
	tell("south", service("10.93.0.1", at(20), port(81)))
	check("the first ID wins", conflict("Ports", "south", endpoints.RuleClusterID, "south", "81:81/UNKNOWN", "west", "80:80/UNKNOWN"))
	tell("east", service("10.91.0.1", at(30), port(82)))
	check("the local copy wins", conflict("Ports", "east", endpoints.RuleLocal, "east", "82:82/UNKNOWN", "south", "81:81/UNKNOWN", "west", "80:80/UNKNOWN"))
	tell("south", service("10.93.0.1", port(82), local))
	tell("west", service("", port(82)))
	check("other fields",
		conflict("Headless", "east", endpoints.RuleLocal, "east", "false", "west", "true"),
		conflict("Scope", "east", endpoints.RuleLocal, "east", "GLOBAL", "south", "LOCAL", "west", "GLOBAL"))
	if err := m.SetCluster(endpoints.Cluster{ID: "west", Network: "west-net", TrustDomain: "west.example"}); err != nil {
		t.Fatal(err)
	}
	m.RemoveCluster("south")
	tell("west", service("10.92.0.1", port(82)))
	check("trust domains", conflict("TrustDomain", "east", endpoints.RuleLocal, "east", "cluster.local", "west", "west.example"))
	m.RemoveCluster("west")
	check("all agree")
}

func TestClusters(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east", "west")
	apply(t, m, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("")}, Workloads: []*endpoints.Workload{pod("west", "a"), pod("west", "b")}})
	since := time.Unix(1000, 0)
	if err := m.SetStale("west", since); err != nil {
		t.Fatal(err)
	}
	want := []endpoints.ClusterStatus{
		{Cluster: endpoints.Cluster{ID: "east", Network: "east-net", TrustDomain: "cluster.local", Local: true}, Gateways: 1},
		{Cluster: endpoints.Cluster{ID: "west", Network: "west-net", TrustDomain: "cluster.local"}, Stale: true, StaleSince: since, Services: 1, Workloads: 2, Gateways: 1},
	}
	if diff := gocmp.Diff(want, m.Clusters()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(horizon(t, m, eastNode)) != 1 {
		t.Error("a stale cluster lost its endpoints")
	}
	apply(t, m, endpoints.Change{Cluster: "west", Resync: true})
	if c := m.Clusters()[1]; c.Stale {
		t.Error("a cluster that resynced is still stale")
	}
	for name, err := range map[string]error{
		"stale":        m.SetStale("nowhere", since),
		"apply":        m.Apply(endpoints.Change{Cluster: "nowhere"}),
		"second local": m.SetCluster(endpoints.Cluster{ID: "west", Local: true}),
		"no ID":        m.SetCluster(endpoints.Cluster{}),
		"slash":        m.SetCluster(endpoints.Cluster{ID: "a/b"}),
		"reserved":     m.SetCluster(endpoints.Cluster{ID: "NetworkGateway"}),
	} {
		if e := new(endpoints.FactError); !errors.As(err, &e) {
			t.Errorf("%s: got %v, want a *FactError", name, err)
		}
	}
	if m.RemoveCluster("nowhere") {
		t.Error("a cluster that is not there was removed")
	}
}

// TestViewsAreShared: equal clients share one view, which ends with the last of them.
func TestViewsAreShared(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east")
	a, b := m.View(eastNode), m.View(eastNode)
	a.Close()
	a.Close() // does not count twice
	apply(t, m, endpoints.Change{Cluster: "east", Workloads: []*endpoints.Workload{pod("east", "a")}})
	if _, ok := b.Snapshot().Get("east//Pod/app/a"); !ok {
		t.Error("the view stopped though one of its users is still there")
	}
	b.Close()
	before := b.Snapshot()
	apply(t, m, endpoints.Change{Cluster: "east", Resync: true})
	if b.Snapshot() != before {
		t.Error("the view goes on after all of its users closed it")
	}
	for range b.Watch(t.Context(), nil) { // ends by itself
	}
}

// TestExpiredTellsAgain: what a cluster tells after its facts expired, without being back, expires at once.
func TestExpiredTellsAgain(t *testing.T) {
	m := newMesh(t, endpoints.Config{KeepStale: time.Minute}, "east", "west")
	since := time.Unix(1000, 0)
	if err := m.SetStale("west", since); err != nil {
		t.Fatal(err)
	}
	m.Expire(since.Add(time.Minute))
	apply(t, m, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("")}, Workloads: []*endpoints.Workload{pod("west", "a")}})
	if next := m.Expire(since.Add(2 * time.Minute)); !next.IsZero() {
		t.Errorf("Expire wants to be called at %v", next)
	}
	if c := m.Clusters()[1]; !c.Expired || c.Services+c.Workloads > 0 {
		t.Errorf("an expired cluster is %+v", c)
	}
}

// TestRangesOfMappedAddresses: an IPv4 address is the same one when it is written as IPv6.
func TestRangesOfMappedAddresses(t *testing.T) {
	m := newMesh(t, endpoints.Config{}, "east")
	ranges := []endpoints.NetworkAddress{{Network: "vms", Prefix: netip.MustParsePrefix("10.1.0.0/16")}}
	if err := m.SetCluster(endpoints.Cluster{ID: "east", Network: "east-net", Local: true, Ranges: ranges}); err != nil {
		t.Fatal(err)
	}
	mapped := func(w *endpoints.Workload) { w.Addresses = []netip.Addr{netip.MustParseAddr("::ffff:10.1.0.10")} }
	apply(t, m, endpoints.Change{Cluster: "east", Workloads: []*endpoints.Workload{pod("east", "a", mapped)}})
	if r := seen(t, m, endpoints.Client{Network: "vms", Cluster: "east"})["east//Pod/app/a"]; r.Workload == nil {
		t.Error("the workload is not on the network of its range")
	}
}
