package mcs_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/mcs"
)

// hello is the service of the conformance suite, exported by a cluster; the first is the oldest.
func hello(cluster string, change ...func(*mcs.Export)) mcs.Export {
	e := mcs.Export{Cluster: cluster, Created: time.Unix(int64(cluster[len(cluster)-1]), 0), Service: &mcs.Service{
		Ports:           []mcs.Port{{Name: "tcp", Port: 42, Protocol: "TCP"}, {Name: "udp", Port: 42, Protocol: "UDP"}},
		SessionAffinity: "ClientIP", SessionAffinityTimeout: 10 * time.Second, IPFamilies: []string{"IPv4", "IPv6"},
	}}
	for _, f := range change {
		f(&e)
	}
	return e
}

func ports(all ...mcs.Port) func(*mcs.Export) {
	return func(e *mcs.Export) { e.Service.Ports = all }
}

// TestConformance are the specifications of the conformance suite of kubernetes-sigs/mcs-api about
// ServiceExports and ServiceImports, by its words, and what the API says besides.
func TestConformance(t *testing.T) {
	headless := func(e *mcs.Export) { e.Service.Type = mcs.Headless }
	external := func(e *mcs.Export) { e.Service.Type = mcs.ExternalName }
	noService := func(e *mcs.Export) { e.Service = nil }
	marked := func(n string) func(*mcs.Export) {
		return func(e *mcs.Export) {
			e.Annotations, e.Labels = map[string]string{"dummy-annotation" + n: "true"}, map[string]string{"dummy-label" + n: "true"}
		}
	}
	policy := func(policy string) func(*mcs.Export) {
		return func(e *mcs.Export) { e.Service.InternalTrafficPolicy = policy }
	}
	distribution := func(d string) func(*mcs.Export) {
		return func(e *mcs.Export) { e.Service.TrafficDistribution = d }
	}
	families := func(all ...string) func(*mcs.Export) { return func(e *mcs.Export) { e.Service.IPFamilies = all } }
	affinity := func(kind string, timeout time.Duration) func(*mcs.Export) {
		return func(e *mcs.Export) { e.Service.SessionAffinity, e.Service.SessionAffinityTimeout = kind, timeout }
	}
	tcp, stcp := mcs.Port{Name: "tcp", Port: 42, Protocol: "TCP"}, mcs.Port{Name: "stcp", Port: 142, Protocol: "SCTP"}
	moved := mcs.Port{Name: "tcp", Port: 43, Protocol: "TCP"}

	tests := []struct {
		spec     string
		exports  []mcs.Export
		want     func(*mcs.Import) any // nil: there is no ServiceImport
		is       any
		valid    string // reason of the condition on the first cluster
		conflict string // reason of the condition on every cluster
	}{
		{"a ServiceImport should only exist as long as there is an exporting cluster", nil, nil, nil, "", ""},
		{"exported on two clusters", []mcs.Export{hello("c1"), hello("c2")}, func(i *mcs.Import) any { return i.Clusters }, []string{"c1", "c2"}, "Valid", "NoConflicts"},
		{"unexported on the first", []mcs.Export{hello("c2")}, func(i *mcs.Import) any { return i.Clusters }, []string{"c2"}, "Valid", "NoConflicts"},
		{"only labels specified as exported should be propagated", []mcs.Export{hello("c1", marked(""))},
			func(i *mcs.Import) any { return i.Labels }, map[string]string{"dummy-label": "true"}, "Valid", "NoConflicts"},
		{"only annotations specified as exported should be propagated", []mcs.Export{hello("c1", marked(""))},
			func(i *mcs.Import) any { return i.Annotations }, map[string]string{"dummy-annotation": "true"}, "Valid", "NoConflicts"},
		{"conflicting labels", []mcs.Export{hello("c1", marked("")), hello("c2", marked("2"))},
			func(i *mcs.Import) any { return i.Labels }, map[string]string{"dummy-label": "true"}, "Valid", "AnnotationsConflict,LabelsConflict"},
		{"a ClusterIP service is of type ClusterSetIP", []mcs.Export{hello("c1")}, func(i *mcs.Import) any { return i.Type }, mcs.ClusterSetIP, "Valid", "NoConflicts"},
		{"the SessionAffinity should match", []mcs.Export{hello("c1")}, func(i *mcs.Import) any { return i.SessionAffinity }, "ClientIP", "Valid", "NoConflicts"},
		{"the SessionAffinityConfig should match", []mcs.Export{hello("c1")}, func(i *mcs.Import) any { return i.SessionAffinityTimeout }, 10 * time.Second, "Valid", "NoConflicts"},
		{"conflicting SessionAffinity", []mcs.Export{hello("c1"), hello("c2", affinity("", 10*time.Second))},
			func(i *mcs.Import) any { return i.SessionAffinity }, "ClientIP", "Valid", "SessionAffinityConflict"},
		{"conflicting SessionAffinityConfig", []mcs.Export{hello("c1"), hello("c2", affinity("ClientIP", time.Minute))},
			func(i *mcs.Import) any { return i.SessionAffinityTimeout }, 10 * time.Second, "Valid", "SessionAffinityConfigConflict"},
		{"the InternalTrafficPolicy should match", []mcs.Export{hello("c1", policy("Local"))}, func(i *mcs.Import) any { return i.InternalTrafficPolicy }, "Local", "Valid", "NoConflicts"},
		{"one that says nothing says Cluster", []mcs.Export{hello("c1"), hello("c2", policy("Cluster"))},
			func(i *mcs.Import) any { return i.InternalTrafficPolicy }, "Cluster", "Valid", "NoConflicts"},
		{"conflicting InternalTrafficPolicy", []mcs.Export{hello("c2", policy("Local")), hello("c1")},
			func(i *mcs.Import) any { return i.InternalTrafficPolicy }, "Cluster", "Valid", "InternalTrafficPolicyConflict"},
		{"the TrafficDistribution should match", []mcs.Export{hello("c1", distribution("PreferClose"))},
			func(i *mcs.Import) any { return i.TrafficDistribution }, "PreferClose", "Valid", "NoConflicts"},
		{"conflicting TrafficDistribution", []mcs.Export{hello("c1", distribution("PreferClose")), hello("c2")},
			func(i *mcs.Import) any { return i.TrafficDistribution }, "PreferClose", "Valid", "TrafficDistributionConflict"},
		{"IP families should match, in order", []mcs.Export{hello("c1", families("IPv6", "IPv4")), hello("c2")},
			func(i *mcs.Import) any { return i.IPFamilies }, []string{"IPv6", "IPv4"}, "Valid", "NoConflicts"},
		{"conflicting IP families", []mcs.Export{hello("c1", families("IPv6")), hello("c2")},
			func(i *mcs.Import) any { return i.IPFamilies }, []string{"IPv6"}, "Valid", "IPFamilyConflict"},
		{"the ports should match", []mcs.Export{hello("c1", ports(tcp, stcp))}, func(i *mcs.Import) any { return i.Ports }, []mcs.Port{tcp, stcp}, "Valid", "NoConflicts"},
		{"should expose the union of the constituent service ports and raise a conflict", []mcs.Export{hello("c1", ports(tcp)), hello("c2", ports(tcp, stcp))},
			func(i *mcs.Import) any { return i.Ports }, []mcs.Port{tcp, stcp}, "Valid", "PortConflict"},
		{"conflicting ports: the policy decides", []mcs.Export{hello("c2", ports(moved)), hello("c1", ports(tcp))},
			func(i *mcs.Import) any { return i.Ports }, []mcs.Port{tcp}, "Valid", "PortConflict"},
		{"a number is taken once", []mcs.Export{hello("c1", ports(tcp)), hello("c2", ports(mcs.Port{Name: "other", Port: 42}))},
			func(i *mcs.Import) any { return i.Ports }, []mcs.Port{tcp}, "Valid", "PortConflict"},
		{"the order of ports and the default protocol are no conflict", []mcs.Export{hello("c1", ports(tcp, stcp)), hello("c2", ports(stcp, mcs.Port{Name: "tcp", Port: 42}))},
			func(i *mcs.Import) any { return i.Ports }, []mcs.Port{tcp, stcp}, "Valid", "NoConflicts"},
		{"a headless service is of type Headless", []mcs.Export{hello("c1", headless)}, func(i *mcs.Import) any { return i.Type }, mcs.Headless, "Valid", "NoConflicts"},
		{"conflicting headlessness", []mcs.Export{hello("c1"), hello("c2", headless)}, func(i *mcs.Import) any { return i.Type }, mcs.ClusterSetIP, "Valid", "TypeConflict"},
		{"an ExternalName service is not valid", []mcs.Export{hello("c1", external)}, nil, nil, "InvalidServiceType", "NoConflicts"},
		{"nor is a service that is not there", []mcs.Export{hello("c1", noService)}, nil, nil, "NoService", "NoConflicts"},
		{"what is not valid has no part in it", []mcs.Export{hello("c1", external), hello("c2", headless), hello("c3", headless)},
			func(i *mcs.Import) any { return i.Clusters }, []string{"c2", "c3"}, "InvalidServiceType", ""},
		{"the age of the export decides, of unknown age the least", []mcs.Export{
			hello("c1", headless, func(e *mcs.Export) { e.Created = time.Time{} }), hello("c2"), hello("c3", func(e *mcs.Export) { e.Created = time.Unix(1, 0) }, headless),
		}, func(i *mcs.Import) any { return i.Type }, mcs.Headless, "Valid", "TypeConflict"},
	}
	for _, tt := range tests {
		t.Run(tt.spec, func(t *testing.T) {
			for range 3 { // in any order
				rand.Shuffle(len(tt.exports), func(i, j int) { tt.exports[i], tt.exports[j] = tt.exports[j], tt.exports[i] })
				merged, conditions := mcs.Merge("ns", "hello", tt.exports)
				if (merged != nil) != (tt.want != nil) {
					t.Fatalf("the import is %+v", merged)
				}
				if merged != nil {
					if diff := gocmp.Diff(tt.is, tt.want(merged)); diff != "" {
						t.Errorf("-want +got\n%s", diff)
					}
				}
				checkConditions(t, conditions, len(tt.exports), tt.valid, tt.conflict)
			}
		})
	}
}

func checkConditions(t *testing.T, conditions map[string][]mcs.Condition, exports int, valid, conflict string) {
	t.Helper()
	if len(conditions) != exports {
		t.Errorf("%d of %d exports have conditions", len(conditions), exports)
	}
	for cluster, all := range conditions {
		byType := make(map[string]mcs.Condition)
		for _, c := range all {
			byType[c.Type] = c
		}
		v, r, c := byType[mcs.Valid], byType[mcs.Ready], byType[mcs.Conflict]
		if len(all) != 3 || v.Status != r.Status || (v.Status == "True") != (v.Reason == "Valid") || (c.Status == "False") != (c.Reason == "NoConflicts") {
			t.Errorf("cluster %s has %+v", cluster, all)
		}
		if cluster == "c1" && v.Reason != valid {
			t.Errorf("c1 is %s, want %s", v.Reason, valid)
		}
		if conflict != "" && c.Reason != conflict {
			t.Errorf("cluster %s has conflict %q, want %q", cluster, c.Reason, conflict)
		}
		if c.Status == "True" && !strings.Contains(c.Message, "in cluster c1") && !strings.Contains(c.Message, "in cluster c2") {
			t.Errorf("the conflict says %q", c.Message)
		}
	}
}

// TestNames are the conformance suite's specifications about DNS and connectivity, as a mesh shows them: the
// name has one address in every cluster, leads to the clusters that export and to no others, and a pod of a
// headless service has a name that tells its cluster.
func TestNames(t *testing.T) {
	vip := netip.MustParseAddr("240.240.0.1")
	m := endpoints.New(endpoints.Config{VIPs: oneVIP(vip)})
	exports := []mcs.Export{hello("c1"), hello("c2")}
	web, _ := mcs.Merge("ns", "hello", exports)
	db, _ := mcs.Merge("ns", "db", []mcs.Export{hello("c1", func(e *mcs.Export) { e.Service.Type = mcs.Headless })})
	for i, id := range []string{"c1", "c2", "c3"} { // c3 has the service, and does not export it
		if err := m.SetCluster(endpoints.Cluster{ID: id, Network: id}); err != nil {
			t.Fatal(err)
		}
		local := &endpoints.Service{Name: "hello", Namespace: "ns", Hostname: "hello.ns.svc.cluster.local",
			Addresses: []endpoints.NetworkAddress{endpoints.HostAddress("", netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}))}}
		ch := endpoints.Change{Cluster: id, Services: []*endpoints.Service{local},
			Gateways: []*endpoints.Gateway{{Namespace: "istio-system", Name: "ew", Addresses: []netip.Addr{netip.AddrFrom4([4]byte{172, 18, 0, byte(i)})}}}}
		pod := &endpoints.Workload{UID: id + "//Pod/ns/db-0", Name: "db-0", Namespace: "ns", Tunnel: endpoints.TunnelHBONE,
			Services: []endpoints.ServicePorts{{Service: local.Key()}}}
		if slices.Contains(web.Clusters, id) {
			ch.Services = append(ch.Services, web.Fact(vip))
			pod.Services = append(pod.Services, endpoints.ServicePorts{Service: web.Fact().Key(), Ports: []endpoints.Port{{ServicePort: 42, TargetPort: 8080}}})
		}
		if slices.Contains(db.Clusters, id) {
			named := db.PodFact("db-0", id)
			ch.Services = append(ch.Services, db.Fact(vip), named)
			ports := []endpoints.Port{{ServicePort: 42, TargetPort: 5432}}
			pod.Services = append(pod.Services, endpoints.ServicePorts{Service: db.Fact().Key(), Ports: ports}, endpoints.ServicePorts{Service: named.Key(), Ports: ports})
		}
		ch.Workloads = []*endpoints.Workload{pod}
		if err := m.Apply(ch); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"c1", "c2", "c3"} {
		view := m.View(endpoints.Client{Network: id, Cluster: id})
		index := (*endpoints.Index)(nil).Apply(view.Snapshot().Since(nil))
		if s := index.ServiceByAddr(id, vip, "ns"); s == nil || !strings.HasSuffix(s.Hostname, ".clusterset.local") {
			t.Errorf("%s has %+v at the clusterset IP", id, s)
		}
		for host, want := range map[string]string{
			"hello.ns.svc.clusterset.local":      "c1 c2",
			"hello.ns.svc.cluster.local":         id,
			"db.ns.svc.clusterset.local":         "c1",
			"db-0.c1.db.ns.svc.clusterset.local": "c1",
		} {
			if got := clustersOf(index.ServiceByHostname(host, "ns")); got != want {
				t.Errorf("from %s, %s leads to %q, want %q", id, host, got, want)
			}
		}
		if s := index.Service("ns/db.ns.svc.clusterset.local"); id == "c1" && len(s.Addresses) != 0 {
			t.Errorf("the headless service has %v", s.Addresses)
		}
		view.Close()
	}
	if c := m.Conflicts(); len(c) > 0 {
		t.Errorf("conflicts: %v", c)
	}
}

// TestPortThatOnlySomeHave: ports are united, and where one cluster lacks a port, which includes having another one of
// that name, it is not where the port leads to.
func TestPortThatOnlySomeHave(t *testing.T) {
	port := func(name string, number uint16) mcs.Port { return mcs.Port{Name: name, Port: number} }
	with := func(ports ...mcs.Port) func(*mcs.Export) {
		return func(e *mcs.Export) { e.Service.Ports = ports }
	}
	merged, _ := mcs.Merge("ns", "hello", []mcs.Export{
		hello("c1", with(port("tcp", 42), port("admin", 9000))), hello("c2", with(port("tcp", 42))), hello("c3", with(port("tcp", 43)))})
	m := endpoints.New(endpoints.Config{})
	has := map[string][]endpoints.Port{"c1": {{ServicePort: 42, TargetPort: 8080}, {ServicePort: 9000, TargetPort: 9000}}, "c2": {{ServicePort: 42, TargetPort: 8080}}, "c3": nil}
	for i, id := range []string{"c1", "c2", "c3"} {
		if err := m.SetCluster(endpoints.Cluster{ID: id, Network: id}); err != nil {
			t.Fatal(err)
		}
		pod := &endpoints.Workload{UID: id + "//Pod/ns/hello", Name: "hello", Namespace: "ns", Services: []endpoints.ServicePorts{{Service: merged.Fact().Key(), Ports: has[id]}}}
		if err := m.Apply(endpoints.Change{Cluster: id, Services: []*endpoints.Service{merged.Fact()}, Workloads: []*endpoints.Workload{pod},
			Gateways: []*endpoints.Gateway{{Namespace: "istio-system", Name: "ew", Addresses: []netip.Addr{netip.AddrFrom4([4]byte{172, 18, 0, byte(i)})}}}}); err != nil {
			t.Fatal(err)
		}
	}
	view := m.View(endpoints.Client{Network: "elsewhere"})
	defer view.Close()
	got := make(map[string]string)
	for e := range (*endpoints.Index)(nil).Apply(view.Snapshot().Since(nil)).Service(merged.Fact().Key()).Endpoints() {
		for _, p := range e.Ports {
			got[e.Workload.Cluster] += fmt.Sprint(p.ServicePort, " ")
		}
	}
	if diff := gocmp.Diff(map[string]string{"c1": "42 9000 ", "c2": "42 "}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func clustersOf(s *endpoints.ServiceEntry) string {
	if s == nil {
		return "nothing"
	}
	var all []string
	for e := range s.Endpoints() {
		all = append(all, e.Workload.Cluster)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " ")
}

// oneVIP is the address of every host.
type oneVIP netip.Addr

func (v oneVIP) Assign(string) ([]netip.Addr, error) { return []netip.Addr{netip.Addr(v)}, nil }
func (oneVIP) Release(string)                        {}

func TestFactFields(t *testing.T) {
	for families, want := range map[string]endpoints.IPFamilies{"": endpoints.IPAutomatic, "IPv4": endpoints.IPv4Only, "IPv6": endpoints.IPv6Only, "IPv6 IPv4": endpoints.DualStack} {
		i, _ := mcs.Merge("ns", "hello", []mcs.Export{hello("c1", func(e *mcs.Export) { e.Service.IPFamilies = strings.Fields(families) })})
		if got := i.Fact().IPFamilies; got != want {
			t.Errorf("%q is %v, want %v", families, got, want)
		}
	}
	got := ""
	for _, name := range []string{"", "http", "http2", "kubernetes.io/h2c", "grpc", "https", "tls", "tcp", "redis"} {
		i, _ := mcs.Merge("ns", "hello", []mcs.Export{hello("c1", ports(mcs.Port{Name: "p", Port: 1, AppProtocol: name}))})
		got += fmt.Sprint(i.Fact().Ports[0].AppProtocol, " ")
	}
	if got != "UNKNOWN HTTP11 HTTP2 HTTP2 GRPC TLS TLS TCP UNKNOWN " {
		t.Errorf("application protocols: %s", got)
	}
	if got := mcs.Type(9).String() + mcs.ExternalName.String(); got != "Type(9)ExternalName" {
		t.Error(got)
	}
}
