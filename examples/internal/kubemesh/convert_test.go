package kubemesh_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
	"github.com/eastwest-mesh/eastwest/scope"
)

// The clusters of the mesh example use nothing that has no effect.
func TestExampleClusters(t *testing.T) {
	for _, cluster := range []string{"east", "west"} {
		s, err := kubefile.Load(filepath.Join("..", "..", "mesh", "clusters", cluster))
		if err != nil {
			t.Fatal(err)
		}
		f := convert(t, kubemesh.Config{Cluster: cluster, VIPs: vips{}}, s)
		wantWarnings(t, f)
		if len(f.Gateways) != 1 || f.Cluster.Network != cluster+"-network" {
			t.Errorf("%s: %v, gateways %v", cluster, f.Cluster, f.Gateways)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	if _, err := kubemesh.Convert(kubemesh.Config{}, snapshot(t, "")); err == nil {
		t.Error("a cluster without an ID")
	}
	mesh := func(text string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n"
	}
	_, err := kubemesh.Convert(kubemesh.Config{Cluster: "east"}, snapshot(t, mesh("trustDomain: x\nserviceScopeConfigs:\n- servicesSelector:\n    matchExpressions:\n    - {key: a, operator: Is}\n  scope: GLOBAL")))
	parse := new(scope.ParseError)
	if !errors.As(err, &parse) || parse.File != filepath.Join("east", "app.yaml") || parse.Line != 10 {
		t.Errorf("a wrong operator: %v", err)
	}
	_, err = kubemesh.Convert(kubemesh.Config{Cluster: "east"}, snapshot(t, mesh("serviceEntryVisibility:\n  policies:\n  - matchingRules:\n    - namespaceSelector: {matchExpressions: [{key: a, operator: Is}]}")))
	if err == nil || !strings.Contains(err.Error(), "serviceEntryVisibility.policies[0].matchingRules[0].namespaceSelector") {
		t.Errorf("a wrong visibility: %v", err)
	}
	_, err = kubemesh.Convert(kubemesh.Config{Cluster: "east"}, snapshot(t, `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: app}
spec:
  rules:
  - from:
    - source:
        ipBlocks:
        - 10.0.0.0/33
`))
	policy := new(kubefile.Error)
	if !errors.As(err, &policy) || policy.Line != 9 || policy.Field != "spec.rules[0].from[0].source.ipBlocks[0]" {
		t.Errorf("a wrong block: %v", err)
	}
}

func TestFieldsWithoutEffect(t *testing.T) {
	s := snapshot(t, `
apiVersion: v1
kind: Service
metadata: {name: s, namespace: app}
spec: {sessionAffinity: ClientIP, externalIPs: [192.0.2.1], ports: [{port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: app}
spec: {hosts: [a.example.com], addresses: [192.0.2.1], exportTo: [.], ports: [{number: 80, name: http}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {meshNetworks: "networks: {far: {endpoints: [{fromCidr: 10.0.0.0/8}]}}"}
`+pod("p", "10.1.0.1", "labels: {topology.istio.io/network: far}", "", ""))
	wantWarnings(t, convert(t, kubemesh.Config{Cluster: "east", Network: "net"}, s),
		"Service app/s: spec.externalIPs: ", "Service app/s: spec.sessionAffinity: ", "ServiceEntry app/e: spec.exportTo: ")
	wantWarnings(t, convert(t, kubemesh.Config{Cluster: "east", Network: "net", Compat: endpoints.Istio}, s),
		"Service app/s: spec.externalIPs: ", "Service app/s: spec.sessionAffinity: ", "ServiceEntry app/e: spec.exportTo: ",
		"ConfigMap istio-system/istio: data.meshNetworks: is not read", "Pod app/p: the label topology.istio.io/network: far is not read")
}

func TestTrustDomain(t *testing.T) {
	yaml := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'trustDomain: %s'}\n"
	for given, want := range map[string]string{"cluster.local": "", "example.org": "example.org"} {
		f := factsOf(t, fmt.Sprintf(yaml, given)+pod("a", "10.1.0.1", "", "", ""))
		if f.Cluster.TrustDomain != want || f.Workloads[0].TrustDomain != want {
			t.Errorf("trust domain %q: %q, %q", given, f.Cluster.TrustDomain, f.Workloads[0].TrustDomain)
		}
	}
}

func TestPolicies(t *testing.T) {
	policy := func(kind, namespace, name, spec string) string {
		return fmt.Sprintf("---\napiVersion: security.istio.io/v1\nkind: %s\nmetadata: {name: %s, namespace: %s}\nspec: {%s}\n", kind, name, namespace, spec)
	}
	home := pod("a", "10.1.0.1", "labels: {app: a}", "", "") + pod("bare", "10.1.0.2", "", "", "") +
		policy("AuthorizationPolicy", "app", "mine", "selector: {matchLabels: {app: a}}") +
		policy("AuthorizationPolicy", "app", "other", "selector: {matchLabels: {app: b}}") +
		policy("AuthorizationPolicy", "app", "wide", "action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]") +
		policy("AuthorizationPolicy", "istio-system", "root", "selector: {matchLabels: {app: a}}") +
		policy("AuthorizationPolicy", "app", "waypoints", "targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: w}]") +
		policy("PeerAuthentication", "istio-system", "default", "mtls: {mode: STRICT}")
	warnings := []string{"AuthorizationPolicy app/wide: ", "AuthorizationPolicy app/waypoints: has targetRefs"}

	f := factsOf(t, home)
	wantWarnings(t, f, warnings...)
	if got := fmt.Sprint(workloadNamed(t, f, "east//Pod/app/a").AuthorizationPolicies); got != "[app/mine istio-system/istio_converted_static_strict istio-system/root]" {
		t.Errorf("a has %s", got)
	}
	if got := fmt.Sprint(workloadNamed(t, f, "east//Pod/app/bare").AuthorizationPolicies); got != "[istio-system/istio_converted_static_strict]" {
		t.Errorf("bare has %s", got)
	}
	if len(f.Policies) != 5 {
		t.Errorf("policies %v", f.Policies)
	}

	compat := convert(t, kubemesh.Config{Cluster: "east", Compat: endpoints.Istio}, snapshot(t, home))
	if got := fmt.Sprint(workloadNamed(t, compat, "east//Pod/app/bare").AuthorizationPolicies); got != "[app/mine app/other istio-system/root istio-system/istio_converted_static_strict]" {
		t.Errorf("in istiod, bare has %s", got)
	}

	remote := convert(t, kubemesh.Config{Cluster: "west", Home: snapshot(t, home)}, snapshot(t, pod("a", "10.1.0.1", "labels: {app: a}", "", "")))
	if got := fmt.Sprint(remote.Workloads[0].AuthorizationPolicies); got != "[app/mine istio-system/istio_converted_static_strict istio-system/root]" {
		t.Errorf("a remote pod has %s", got)
	}
	if len(remote.Policies) != 0 {
		t.Errorf("a remote cluster has policies %v", remote.Policies)
	}
}

// Every field of a policy reaches the wire.
func TestPolicyFields(t *testing.T) {
	f := factsOf(t, "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: app}\nspec:\n  rules:\n"+
		"  - from: [{source: {principals: ['cluster.local/ns/x/*', '*/sa/y', '*'], notNamespaces: [z], serviceAccounts: [x/y], notIpBlocks: [10.0.0.0/8]}}]\n"+
		"    to: [{operation: {ports: ['80'], notPorts: ['81']}}]\n    when: [{key: destination.ip, values: [10.1.0.0/16]}]\n")
	got := f.Policies[0]
	m := got.Groups[0].Rules[1].Matches[0]
	if len(got.Groups[0].Rules) != 3 || len(m.Principals) != 3 || m.NotNamespaces[0].Value != "z" || m.ServiceAccounts[0].Name != "y" || len(m.NotSourceIPs) != 1 {
		t.Errorf("%+v", got)
	}
	if _, err := wds.EncodeAuthorization(got); err != nil {
		t.Error(err)
	}
}

// Differences, applied one after the other, lead where starting over leads.
func TestSinceLeadsToTheSameMesh(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	client := endpoints.Client{Network: "net", Cluster: "east"}
	mesh := endpoints.New(endpoints.Config{})
	view := mesh.View(client)
	defer view.Close()
	var before *kubemesh.Facts
	for range 60 {
		facts := factsOf(t, randomObjects(random))
		if err := mesh.SetCluster(facts.Cluster); err != nil {
			t.Fatal(err)
		}
		if err := mesh.Apply(facts.Since(before)); err != nil {
			t.Fatal(err)
		}
		fresh := endpoints.New(endpoints.Config{})
		if err := errors.Join(fresh.SetCluster(facts.Cluster), fresh.Apply(facts.Since(nil))); err != nil {
			t.Fatal(err)
		}
		freshView := fresh.View(client)
		if diff := cmp.Diff(viewResources(freshView), viewResources(view), byValue); diff != "" {
			t.Fatalf("-fresh +by differences\n%s", diff)
		}
		freshView.Close()
		before = facts
	}
}

func randomObjects(random *rand.Rand) string {
	var yaml strings.Builder
	for i := range 8 {
		if random.IntN(2) == 0 {
			yaml.WriteString(pod(fmt.Sprint("p", i), fmt.Sprint("10.1.0.", random.IntN(250)), fmt.Sprintf("labels: {app: a%d}", random.IntN(3)), "", ""))
		}
	}
	for i := range 3 {
		if random.IntN(3) > 0 {
			yaml.WriteString(service(fmt.Sprint("s", i), fmt.Sprintf("app: a%d", random.IntN(3)), fmt.Sprintf("{port: %d}", 80+random.IntN(2))))
		}
	}
	if random.IntN(2) == 0 {
		yaml.WriteString(gateway("ew", "istio-east-west", onNetwork, hbone, ip))
	}
	return yaml.String()
}

func TestSinceIsMinimal(t *testing.T) {
	before := factsOf(t, pod("a", "10.1.0.1", "", "", "")+pod("b", "10.1.0.2", "", "", "")+service("s", "app: a", "{port: 80}"))
	after := factsOf(t, pod("a", "10.1.0.1", "", "", "")+pod("b", "10.1.0.3", "", "", "")+service("r", "app: a", "{port: 80}"))
	change := after.Since(before)
	if change.Resync || len(change.Workloads) != 1 || change.Workloads[0].Name != "b" || len(change.RemovedWorkloads) != 0 {
		t.Errorf("workloads: %+v", change)
	}
	if len(change.Services) != 1 || change.Services[0].Name != "r" || fmt.Sprint(change.RemovedServices) != "[app/s.app.svc.cluster.local]" {
		t.Errorf("services: %+v", change)
	}
	if again := after.Since(after); len(again.Services)+len(again.Workloads)+len(again.Gateways)+len(again.RemovedServices) != 0 {
		t.Errorf("nothing changed, but %+v", again)
	}
}

func TestUnassigned(t *testing.T) {
	entry := func(host string) string {
		return "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " + host + ", namespace: app}\nspec: {hosts: [" + host + "], ports: [{number: 80, name: http}], resolution: DNS}\n"
	}
	before, after := factsOf(t, entry("a.com")+entry("b.com")), factsOf(t, entry("b.com")+entry("c.com"))
	if got := fmt.Sprint(after.Unassigned(before)); got != "[a.com]" {
		t.Errorf("unassigned %s", got)
	}
}
