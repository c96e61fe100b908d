package endpoints_test

import (
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// The golden files are the Kubernetes objects of two real clusters and what a real istiod of each served
// for them.

// TestGoldenCompat: with Istio's output chosen, the facts give exactly the resources that istiod served.
func TestGoldenCompat(t *testing.T) {
	mesh := goldenMesh(t, endpoints.Istio)
	for _, n := range []string{"1", "2"} {
		t.Run("cluster"+n, func(t *testing.T) {
			v := mesh.View(endpoints.Client{Network: "network" + n, Cluster: "cluster" + n})
			defer v.Close()
			if diff := cmp.Diff(goldenResources(t, n), viewResources(v), compareOptions()); diff != "" {
				t.Errorf("-istiod +ours\n%s", diff)
			}
		})
	}
}

// TestGoldenNative lists every difference between our output and istiod's for the same facts.
func TestGoldenNative(t *testing.T) {
	v := goldenMesh(t, endpoints.Native).View(endpoints.Client{Network: "network1", Cluster: "cluster1"})
	defer v.Close()
	want := goldenResources(t, "1")
	for _, service := range []string{"app/db.app.svc.cluster.local", "app/reviews.app.svc.cluster.local"} {
		name := "network2/SplitHorizonWorkload/istio-system/istio-eastwestgateway/172.18.2.100/" + service
		w := *want[name].Workload
		delete(want, name)

		w.UID = name + "/cluster2" // one for each cluster behind the gateway, so that the name must say which
		w.Name = w.UID
		w.Locality = endpoints.Locality{Region: "r1", Zone: "r1-z2"} // what its workloads have in common, so that failover can rank it
		want[w.UID] = endpoints.Resource{Workload: &w}
	}
	if diff := cmp.Diff(want, viewResources(v), compareOptions()); diff != "" {
		t.Errorf("-expected +ours\n%s", diff)
	}
}

// goldenResources reads what istiod sent to the ztunnels of a cluster.
func goldenResources(t *testing.T, cluster string) map[string]endpoints.Resource {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", "cluster"+cluster+".wds.binpb"))
	if err != nil {
		t.Fatal(err)
	}
	var resp discoverypb.DeltaDiscoveryResponse
	if err := proto.Unmarshal(body, &resp); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]endpoints.Resource)
	for _, r := range resp.GetResources() {
		if all[r.GetName()], err = wds.DecodeAddress(r.GetName(), r.GetResource().GetValue()); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// viewResources returns what a view sends: what is not on the wire is left out.
func viewResources(v *endpoints.View) map[string]endpoints.Resource {
	all := make(map[string]endpoints.Resource)
	for r := range v.Snapshot().All() {
		if r.Service != nil {
			s := *r.Service
			s.Scope, s.Created = 0, time.Time{}
			r.Service = &s
		}
		all[r.Name()] = r
	}
	return all
}

func compareOptions() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

func goldenMesh(t *testing.T, compat endpoints.Compat) *endpoints.Mesh {
	t.Helper()
	mesh := endpoints.New(endpoints.Config{Compat: compat})
	for _, n := range []string{"1", "2"} {
		k := readObjects(t, n)
		if err := mesh.SetCluster(endpoints.Cluster{ID: k.cluster, Network: k.network, Local: n == "1"}); err != nil {
			t.Fatal(err)
		}
		if err := mesh.Apply(k.change()); err != nil {
			t.Fatal(err)
		}
	}
	return mesh
}

// kubeObject is as much of a Kubernetes object as the golden files need.
type kubeObject struct {
	Kind     string
	Metadata struct {
		Name, Namespace     string
		Labels, Annotations map[string]string
		CreationTimestamp   time.Time
	}
	Spec struct {
		ClusterIPs          []string
		Selector            json.RawMessage
		TrafficDistribution string
		NodeName            string
		ServiceAccountName  string
		Hosts               []string
		Endpoints           []struct{ Address string }
		GatewayClassName    string
		Ports               []kubePort
	}
	Status struct {
		PodIP     string
		Addresses []struct{ Host, Value string }
	}
	Endpoints []struct{ Addresses []string } // of an EndpointSlice
	Ports     []kubePort
}

type kubePort struct {
	Name                     string
	Port, TargetPort, Number uint16
}

// kube turns the objects of one golden cluster into facts, in the way that istiod does, as far as these
// objects go.
type kube struct {
	cluster, network string
	objects          map[string][]kubeObject
}

func readObjects(t *testing.T, n string) *kube {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", "cluster"+n+".objects.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatal(err)
	}
	k := &kube{cluster: "cluster" + n, objects: make(map[string][]kubeObject)}
	wanted := []string{"Namespace", "Node", "Pod", "Service", "EndpointSlice", "Gateway", "ServiceEntry"}
	for _, item := range list.Items {
		var kind struct{ Kind string }
		if err := json.Unmarshal(item, &kind); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(wanted, kind.Kind) {
			continue
		}
		var o kubeObject
		if err := json.Unmarshal(item, &o); err != nil {
			t.Fatal(err)
		}
		k.objects[o.Kind] = append(k.objects[o.Kind], o)
	}
	for _, ns := range k.objects["Namespace"] {
		if ns.Metadata.Name == "istio-system" {
			k.network = ns.Metadata.Labels["topology.istio.io/network"]
		}
	}
	return k
}

func (k *kube) change() endpoints.Change {
	c := endpoints.Change{Cluster: k.cluster, Resync: true}
	for _, o := range k.objects["Service"] {
		c.Services = append(c.Services, k.service(o))
	}
	for _, o := range k.objects["ServiceEntry"] {
		c.Services = append(c.Services, k.serviceEntry(o))
		for _, e := range o.Spec.Endpoints {
			c.Workloads = append(c.Workloads, k.entryEndpoint(o, e.Address))
		}
	}
	for _, o := range k.objects["Pod"] {
		c.Workloads = append(c.Workloads, k.pod(o))
	}
	for _, o := range k.objects["EndpointSlice"] {
		if o.Metadata.Labels["kubernetes.io/service-name"] == "kubernetes" { // the others repeat what selectors say
			c.Workloads = append(c.Workloads, k.slice(o))
		}
	}
	for _, o := range k.objects["Gateway"] {
		c.Gateways = append(c.Gateways, &endpoints.Gateway{
			Namespace: o.Metadata.Namespace, Name: o.Metadata.Name,
			Network:   o.Metadata.Labels["topology.istio.io/network"],
			Addresses: []netip.Addr{netip.MustParseAddr(o.Status.Addresses[0].Value)},
		})
	}
	return c
}

func (o *kubeObject) hostname() string {
	return o.Metadata.Name + "." + o.Metadata.Namespace + ".svc.cluster.local"
}

func (o *kubeObject) selector() (labels map[string]string) {
	json.Unmarshal(o.Spec.Selector, &labels) // other kinds of selectors are not asked for
	return labels
}

func (k *kube) service(o kubeObject) *endpoints.Service {
	s := &endpoints.Service{
		Name: o.Metadata.Name, Namespace: o.Metadata.Namespace, Hostname: o.hostname(),
		IPFamilies: endpoints.IPv4Only, Canonical: true, Created: o.Metadata.CreationTimestamp,
	}
	if o.Metadata.Labels["istio.io/global"] == "true" {
		s.Scope = endpoints.ScopeGlobal
	}
	for _, ip := range o.Spec.ClusterIPs {
		if ip != "None" {
			s.Addresses = append(s.Addresses, endpoints.HostAddress("", netip.MustParseAddr(ip)))
		}
	}
	protocols := map[string]endpoints.AppProtocol{"http": endpoints.AppHTTP11, "https": endpoints.AppTLS}
	for _, p := range o.Spec.Ports {
		s.Ports = append(s.Ports, endpoints.Port{ServicePort: p.Port, TargetPort: p.TargetPort, AppProtocol: protocols[p.Name]})
	}
	if o.Spec.TrafficDistribution == "PreferClose" {
		s.LoadBalancing = &endpoints.LoadBalancing{
			Mode:       endpoints.ModeFailover,
			Preference: []endpoints.RoutingScope{endpoints.SameNetwork, endpoints.SameRegion, endpoints.SameZone},
		}
	}
	return s
}

func (k *kube) serviceEntry(o kubeObject) *endpoints.Service {
	s := &endpoints.Service{
		Name: o.Metadata.Name, Namespace: o.Metadata.Namespace, Hostname: o.Spec.Hosts[0],
		Canonical: true, Created: o.Metadata.CreationTimestamp,
	}
	for _, a := range o.Status.Addresses {
		s.Addresses = append(s.Addresses, endpoints.HostAddress("", netip.MustParseAddr(a.Value)))
	}
	for _, p := range o.Spec.Ports {
		s.Ports = append(s.Ports, endpoints.Port{ServicePort: p.Number, TargetPort: p.Number})
	}
	return s
}

// The golden istiod attached the policy to the app reviews and, as it does for every ServiceEntry, to its
// endpoints.
func (k *kube) entryEndpoint(o kubeObject, address string) *endpoints.Workload {
	port := o.Spec.Ports[0].Number
	return &endpoints.Workload{
		UID:  k.cluster + "/networking.istio.io/ServiceEntry/" + o.Metadata.Namespace + "/" + o.Metadata.Name + "/" + address,
		Name: o.Metadata.Name, Namespace: o.Metadata.Namespace, Type: endpoints.Pod,
		WorkloadName: o.Metadata.Name, CanonicalName: o.Metadata.Name, CanonicalRevision: "latest",
		Addresses: []netip.Addr{netip.MustParseAddr(address)},
		Services: []endpoints.ServicePorts{{
			Service: o.Metadata.Namespace + "/" + o.Spec.Hosts[0],
			Ports:   []endpoints.Port{{ServicePort: port, TargetPort: port}},
		}},
		AuthorizationPolicies: []string{"app/only-client"},
	}
}

func (k *kube) pod(o kubeObject) *endpoints.Workload {
	w := &endpoints.Workload{
		UID:  k.cluster + "//Pod/" + o.Metadata.Namespace + "/" + o.Metadata.Name,
		Name: o.Metadata.Name, Namespace: o.Metadata.Namespace, Type: endpoints.Pod, WorkloadName: o.Metadata.Name,
		ServiceAccount: o.Spec.ServiceAccountName, Node: o.Spec.NodeName, Locality: k.locality(o.Spec.NodeName),
		Addresses:         []netip.Addr{netip.MustParseAddr(o.Status.PodIP)},
		CanonicalName:     o.Metadata.Labels["app"],
		CanonicalRevision: o.Metadata.Labels["version"],
	}
	if w.CanonicalName == "" {
		w.CanonicalName, w.CanonicalRevision = o.Metadata.Labels["service.istio.io/canonical-name"], "latest"
	}
	if o.Metadata.Annotations["ambient.istio.io/redirection"] == "enabled" {
		w.Tunnel = endpoints.TunnelHBONE
	}
	if o.Metadata.Labels["app"] == "reviews" {
		w.AuthorizationPolicies = []string{"app/only-client"}
	}
	for _, s := range k.objects["Service"] {
		if sel := s.selector(); s.Metadata.Namespace != o.Metadata.Namespace || len(sel) == 0 || !contains(o.Metadata.Labels, sel) {
			continue
		}
		ports := k.service(s).Ports
		for i := range ports {
			ports[i].AppProtocol = endpoints.AppUnknown // istiod says it of services only
		}
		w.Services = append(w.Services, endpoints.ServicePorts{Service: s.Metadata.Namespace + "/" + s.hostname(), Ports: ports})
	}
	return w
}

func contains(labels, selector map[string]string) bool {
	for key := range maps.Keys(selector) {
		if labels[key] != selector[key] {
			return false
		}
	}
	return true
}

func (k *kube) locality(node string) (l endpoints.Locality) {
	for _, o := range k.objects["Node"] {
		if o.Metadata.Name == node {
			l.Region, l.Zone = o.Metadata.Labels["topology.kubernetes.io/region"], o.Metadata.Labels["topology.kubernetes.io/zone"]
		}
	}
	return l
}

// slice converts the one EndpointSlice that stands for no pod: the API server's.
func (k *kube) slice(o kubeObject) *endpoints.Workload {
	address := o.Endpoints[0].Addresses[0]
	service := o.Metadata.Labels["kubernetes.io/service-name"]
	return &endpoints.Workload{
		UID:  strings.Join([]string{k.cluster, "discovery.k8s.io/EndpointSlice", o.Metadata.Namespace, o.Metadata.Name, address}, "/"),
		Name: o.Metadata.Name, Namespace: o.Metadata.Namespace, NetworkMode: endpoints.HostNetwork,
		Addresses: []netip.Addr{netip.MustParseAddr(address)},
		Services: []endpoints.ServicePorts{{
			Service: o.Metadata.Namespace + "/" + service + "." + o.Metadata.Namespace + ".svc.cluster.local",
			Ports:   []endpoints.Port{{ServicePort: 443, TargetPort: o.Ports[0].Port}},
		}},
	}
}
