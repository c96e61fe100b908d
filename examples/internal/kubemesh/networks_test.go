package kubemesh_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
	"github.com/eastwest-mesh/eastwest/scope"
)

// TestNetworksOfPods: a pod's own label counts before its Node's; meshNetworks tells ranges.
func TestNetworksOfPods(t *testing.T) {
	yaml := `
apiVersion: v1
kind: Node
metadata: {name: edge-node, labels: {topology.istio.io/network: edge}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  meshNetworks: |
    networks:
      far: {endpoints: [{fromCidr: 10.9.7.7/16}, {fromCidr: 10.9.1.0/24}]}
      near: {endpoints: [{fromRegistry: east}, {fromRegistry: west}]}
      odd: {endpoints: [{fromCidr: 10.9.1}], gateways: [{address: 192.0.2.1, port: 15443}]}
` + pod("bare", "10.1.0.1", "", "", "") + pod("labelled", "10.1.0.2", "labels: {topology.istio.io/network: lab}", "nodeName: edge-node", "") +
		pod("on-node", "10.1.0.3", "", "nodeName: edge-node", "")
	s := snapshot(t, yaml)
	f := convert(t, kubemesh.Config{Cluster: "east"}, s)
	for name, want := range map[string]string{"bare": "", "labelled": "lab", "on-node": "edge"} {
		if w := workloadNamed(t, f, "east//Pod/app/"+name); w.Network != want {
			t.Errorf("pod %s is on network %q, want %q", name, w.Network, want)
		}
	}
	want := []endpoints.NetworkAddress{
		{Network: "far", Prefix: netip.MustParsePrefix("10.9.0.0/16")}, {Network: "far", Prefix: netip.MustParsePrefix("10.9.1.0/24")},
	}
	if c := f.Cluster; c.Network != "near" || !slices.Equal(c.Ranges, want) {
		t.Errorf("the cluster is %+v", c)
	}
	wantWarnings(t, f, "data.meshNetworks: fromCidr of odd", "data.meshNetworks: the gateways of odd are not read")

	istio := convert(t, kubemesh.Config{Cluster: "east", Compat: endpoints.Istio}, s)
	if w := workloadNamed(t, istio, "east//Pod/app/labelled"); w.Network != "" || istio.Cluster.Network != "" || istio.Cluster.Ranges != nil {
		t.Errorf("as istiod: %+v, pod on %q", istio.Cluster, w.Network)
	}
}

// TestPodServices: the pods of a global headless Service have names.
func TestPodServices(t *testing.T) {
	headless := func(name, labels string) string {
		return fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: app, labels: {%s}}\nspec: {clusterIP: None, clusterIPs: [None], selector: {app: %s}, ports: [{name: db, port: 5432, targetPort: web}]}\n", name, labels, name)
	}
	member := func(name, app, subdomain string) string {
		return pod(name, "10.1.0.1", "labels: {app: "+app+"}", "hostname: "+name+", subdomain: "+subdomain, "")
	}
	s := snapshot(t, headless("db", "istio.io/global: 'true'")+headless("local", "")+
		member("db-0", "db", "db")+member("db-1", "db", "other")+member("local-0", "local", "local"))
	f := convert(t, kubemesh.Config{Cluster: "east"}, s)
	named := serviceNamed(t, f, "app/db-0.db.app.svc.cluster.local")
	if !named.Instance || named.Scope != endpoints.ScopeGlobal || named.Name != "db-0.db" || named.Ports[0].ServicePort != 5432 {
		t.Errorf("db-0 is %+v", named)
	}
	w := workloadNamed(t, f, "east//Pod/app/db-0")
	if ports, ok := w.Ports(named.Key()); !ok || ports[0].TargetPort != 8080 || len(w.Services) != 2 {
		t.Errorf("the pod backs %+v", w.Services)
	}
	if len(f.Services) != 3 {
		t.Errorf("%d services, want those two and one pod's", len(f.Services))
	}
	if istio := convert(t, kubemesh.Config{Cluster: "east", Compat: endpoints.Istio}, s); len(istio.Services) != 2 {
		t.Error("istiod names no pods")
	}
}

// TestEntriesBehindGateways: ServiceEntries can be global, and every cluster's are read, with its virtual
// machines; not so in istiod.
func TestEntriesBehindGateways(t *testing.T) {
	remote := snapshot(t, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vm, namespace: app, labels: {istio.io/global: "true"}}
spec: {hosts: [vm.example.com], addresses: [192.0.2.1], resolution: STATIC, ports: [{number: 80, name: http}], workloadSelector: {labels: {app: vm}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-1, namespace: app}
spec: {address: 198.51.100.1, network: vms, serviceAccount: vm, labels: {app: vm, networking.istio.io/tunnel: http}}
`)
	f := convert(t, kubemesh.Config{Cluster: "west", Home: snapshot(t, "")}, remote)
	if s := serviceNamed(t, f, "app/vm.example.com"); s.Scope != endpoints.ScopeGlobal {
		t.Errorf("the ServiceEntry is %v", s.Scope)
	}
	w := workloadNamed(t, f, "west/networking.istio.io/WorkloadEntry/app/vm-1")
	if _, ok := w.Ports("app/vm.example.com"); !ok || w.Network != "vms" || w.Tunnel != endpoints.TunnelHBONE {
		t.Errorf("the virtual machine is %+v", w)
	}
	wantWarnings(t, f)
	istio := convert(t, kubemesh.Config{Cluster: "west", Home: snapshot(t, ""), Compat: endpoints.Istio}, remote)
	if len(istio.Services)+len(istio.Workloads) > 0 {
		t.Error("istiod reads only its own")
	}
	wantWarnings(t, istio, "1 ServiceEntries of the remote cluster", "1 WorkloadEntries of the remote cluster")
}

func TestGatewayWeightAndHealth(t *testing.T) {
	failed := ip + "], conditions: [{type: Programmed, status: 'False'}"
	f := factsOf(t, gateway("a", "istio-east-west", onNetwork+", annotations: {eastwest-mesh.io/weight: '3'}", hbone, ip)+
		gateway("b", "istio-east-west", onNetwork, hbone, failed)+
		gateway("c", "istio-east-west", onNetwork+", annotations: {eastwest-mesh.io/weight: none}", hbone, ip))
	got := ""
	for _, g := range f.Gateways {
		got += fmt.Sprintf("%s %d %v ", g.Name, g.Weight, g.Health)
	}
	if got != "a 3 HEALTHY b 0 UNHEALTHY c 0 HEALTHY " {
		t.Errorf("gateways: %s", got)
	}
	wantWarnings(t, f, `the annotation eastwest-mesh.io/weight: "none" is not a number`)
}

// TestAccepts: clusters that do not accept a service are named, where it is exported at all.
func TestAccepts(t *testing.T) {
	s := snapshot(t, strings.Replace(service("out", "", "{port: 80}")+service("in", "", "{port: 80}"), "name: out, ", "name: out, labels: {istio.io/global: 'true'}, ", 1))
	all, none := compiled(t, "serviceScopeConfigs: [{scope: GLOBAL}]"), compiled(t, "serviceScopeConfigs: []")
	f := convert(t, kubemesh.Config{Cluster: "east", Accepts: map[string]kubemesh.ScopeEvaluator{"west": none, "south": all, "north": none}}, s)
	out, in := serviceNamed(t, f, "app/out.app.svc.cluster.local"), serviceNamed(t, f, "app/in.app.svc.cluster.local")
	if fmt.Sprint(out.Scope, out.Refused, in.Scope, in.Refused) != "GLOBAL [north west] LOCAL []" {
		t.Errorf("out is %v, refused by %v; in is %v, refused by %v", out.Scope, out.Refused, in.Scope, in.Refused)
	}
}

func compiled(t *testing.T, text string) *scope.Matcher {
	t.Helper()
	c, err := scope.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Compile(scope.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}
