package kubemesh_test

import (
	"fmt"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// pod is a ready pod with address ip; more goes into metadata, spec and status.
func pod(name, ip, meta, spec, status string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: app, %s}
spec: {containers: [{name: c, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]}], %s}
status: {podIP: %s, phase: Running, conditions: [{type: Ready, status: "True"}], %s}
`, name, meta, spec, ip, status)
}

func service(name, selector, ports string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: app}\nspec: {selector: {%s}, ports: [%s]}\n", name, selector, ports)
}

func TestPodHealth(t *testing.T) {
	f := factsOf(t, pod("ready", "10.1.0.1", "", "", "")+
		`---
apiVersion: v1
kind: Pod
metadata: {name: pending, namespace: app}
spec: {containers: [{name: c}]}
status: {phase: Pending, podIPs: [{ip: 10.1.0.2}, {ip: "fd00::2"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: unscheduled, namespace: app}
spec: {containers: [{name: c}]}
status: {phase: Pending}
---
apiVersion: v1
kind: Pod
metadata: {name: failed, namespace: app}
spec: {containers: [{name: c}]}
status: {phase: Failed, podIP: 10.1.0.3}
`+pod("leaving", "10.1.0.4", `deletionTimestamp: "2026-01-01T00:00:00Z"`, "", ""))
	if got := uids(f); got != "east//Pod/app/leaving east//Pod/app/pending east//Pod/app/ready" {
		t.Fatalf("workloads %s", got)
	}
	for name, want := range map[string]endpoints.Health{"leaving": endpoints.Unhealthy, "pending": endpoints.Unhealthy, "ready": endpoints.Healthy} {
		if got := workloadNamed(t, f, "east//Pod/app/"+name).Health; got != want {
			t.Errorf("%s is %v", name, got)
		}
	}
	if got := workloadNamed(t, f, "east//Pod/app/pending"); fmt.Sprint(got.Addresses) != "[10.1.0.2 fd00::2]" || got.ServiceAccount != "default" {
		t.Errorf("pending: %+v", got)
	}
	wantWarnings(t, f)
}

func TestPodDetails(t *testing.T) {
	f := factsOf(t, `
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z, topology.istio.io/subzone: s}}
`+pod("a", "10.1.0.1", "annotations: {ambient.istio.io/redirection: enabled}", "nodeName: n1, serviceAccountName: sa, hostNetwork: true", "")+
		pod("b", "10.1.0.2", `labels: {networking.istio.io/tunnel: http, app: x, app.kubernetes.io/version: v2}`, "nodeName: n2", "")+
		pod("c", "10.1.0.3", "labels: {security.istio.io/tlsMode: istio}", "", ""))
	a := workloadNamed(t, f, "east//Pod/app/a")
	if a.Locality.String() != "r/z/s" || a.Node != "n1" || a.ServiceAccount != "sa" || a.NetworkMode != endpoints.HostNetwork || a.Tunnel != endpoints.TunnelHBONE || a.NativeTunnel {
		t.Errorf("a: %+v", a)
	}
	b := workloadNamed(t, f, "east//Pod/app/b")
	if b.Tunnel != endpoints.TunnelHBONE || !b.NativeTunnel || b.CanonicalName != "x" || b.CanonicalRevision != "v2" {
		t.Errorf("b: %+v", b)
	}
	if c := workloadNamed(t, f, "east//Pod/app/c"); c.Tunnel != endpoints.TunnelNone || c.CanonicalName != "c" || c.CanonicalRevision != "latest" {
		t.Errorf("c: %+v", c)
	}
	wantWarnings(t, f, "Pod app/b: its Node n2 is not there", "Pod app/c: is a sidecar")
}

func TestWorkloadNames(t *testing.T) {
	for want, meta := range map[string]string{
		"p":       "",
		"reviews": `generateName: reviews-, labels: {pod-template-hash: abc}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: reviews-abc, uid: u, controller: true}]`,
		"rollout": `generateName: x-, labels: {rollouts-pod-template-hash: abc}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: rollout-abc, uid: u, controller: true}]`,
		"set":     `generateName: x-, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: set, uid: u, controller: true}]`,
		"nightly": `generateName: x-, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: nightly-28901234, uid: u, controller: true}]`,
		"once":    `generateName: x-, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: once, uid: u, controller: true}]`,
		"dc":      `generateName: x-, labels: {deploymentconfig: dc}, ownerReferences: [{apiVersion: v1, kind: ReplicationController, name: dc-1, uid: u, controller: true}]`,
		"said":    `labels: {service.istio.io/workload-name: said}`,
	} {
		f := factsOf(t, pod("p", "10.1.0.1", meta, "", ""))
		if got := f.Workloads[0].WorkloadName; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestServicesOfPods(t *testing.T) {
	f := factsOf(t, pod("a", "10.1.0.1", "labels: {app: a}", "initContainers: [{name: i, restartPolicy: Always, ports: [{name: side, containerPort: 9000}]}, {name: j, ports: [{name: gone, containerPort: 1}]}]", "")+
		service("numbered", "app: a", "{port: 80, targetPort: 8080}")+
		service("named", "app: a", "{name: a, port: 80, targetPort: web}, {name: b, port: 81, targetPort: side}, {name: c, port: 82, targetPort: gone}, {name: d, port: 83, targetPort: dns}")+
		service("other", "app: b", "{port: 80}")+
		service("manual", "", "{name: http, port: 80, targetPort: 8080}")+
		service("numberless", "app: a, x: y", "{port: 80}")+`---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: external, namespace: app}
spec: {hosts: [x.example.com], addresses: [192.0.2.1], ports: [{number: 80, name: web}, {number: 81, name: other}], resolution: STATIC, workloadSelector: {labels: {app: a}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: manual-x, namespace: app, labels: {kubernetes.io/service-name: manual}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.1.0.1], targetRef: {kind: Pod, namespace: app, name: a}}
- {addresses: [10.1.0.9], targetRef: {kind: Pod, namespace: app, name: gone}}
- {addresses: [192.0.2.7], conditions: {ready: false}}
- {addresses: [192.0.2.8]}
`)
	want := "[{app/manual.app.svc.cluster.local [{80 8080 UNKNOWN}]} " +
		"{app/named.app.svc.cluster.local [{80 8080 UNKNOWN} {81 9000 UNKNOWN}]} " +
		"{app/numbered.app.svc.cluster.local [{80 8080 UNKNOWN}]} " +
		"{app/x.example.com [{80 8080 UNKNOWN} {81 81 UNKNOWN}]}]"
	if got := fmt.Sprint(workloadNamed(t, f, "east//Pod/app/a").Services); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for ip, health := range map[string]endpoints.Health{"192.0.2.7": endpoints.Unhealthy, "192.0.2.8": endpoints.Healthy} {
		w := workloadNamed(t, f, "east/discovery.k8s.io/EndpointSlice/app/manual-x/"+ip)
		if w.Health != health || w.NetworkMode != endpoints.HostNetwork || w.ServiceAccount != "" || fmt.Sprint(w.Services) != "[{app/manual.app.svc.cluster.local [{80 8080 UNKNOWN}]}]" {
			t.Errorf("%s: %+v", ip, w)
		}
	}
	if len(f.Workloads) != 3 {
		t.Errorf("workloads %s", uids(f))
	}
	wantWarnings(t, f, "its endpoint 10.1.0.9 is for the Pod app/gone, which is not there")
}

func TestEndpointSlicesThatAreNotRead(t *testing.T) {
	slice := func(name, labels, kind, address string) string {
		return fmt.Sprintf("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s, namespace: app, labels: {%s}}\naddressType: %s\nendpoints: [{addresses: [%s]}]\n", name, labels, kind, address)
	}
	f := factsOf(t, service("a", "", "{port: 80}")+
		slice("bag", "x: y", "IPv4", "192.0.2.1")+
		slice("names", "kubernetes.io/service-name: a", "FQDN", "example.com")+
		slice("orphan", "kubernetes.io/service-name: b", "IPv4", "192.0.2.1"))
	if len(f.Workloads) != 0 {
		t.Errorf("workloads %s", uids(f))
	}
	wantWarnings(t, f, "EndpointSlice app/bag: has no label", "EndpointSlice app/names: has names for addresses", "EndpointSlice app/orphan: its Service b is not there")
}

func TestWorkloadEntries(t *testing.T) {
	f := factsOf(t, service("named", "app: vm", "{name: a, port: 80, targetPort: web}, {name: b, port: 81, targetPort: 81}")+`---
apiVersion: networking.istio.io/v1alpha3
kind: WorkloadEntry
metadata: {name: vm, namespace: app, labels: {version: v1}, annotations: {istio.io/autoRegistrationGroup: group}}
spec: {address: 10.9.0.1, labels: {app: vm, version: v0}, ports: {web: 8080, b: 8081}, serviceAccount: vm, weight: 5, network: vms}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: named, namespace: app}
spec: {address: vm.example.com}
`)
	vm := workloadNamed(t, f, "east/networking.istio.io/WorkloadEntry/app/vm")
	if got := fmt.Sprint(vm.Services); got != "[{app/named.app.svc.cluster.local [{80 8080 UNKNOWN} {81 8081 UNKNOWN}]}]" {
		t.Errorf("vm backs %s", got)
	}
	if vm.WorkloadName != "group" || vm.CanonicalName != "vm" || vm.CanonicalRevision != "v1" || vm.Network != "vms" || *vm.Capacity != 5 || vm.ServiceAccount != "vm" {
		t.Errorf("vm: %+v", vm)
	}
	if named := workloadNamed(t, f, "east/networking.istio.io/WorkloadEntry/app/named"); named.Hostname != "vm.example.com" || len(named.Addresses) != 0 {
		t.Errorf("named: %+v", named)
	}
	wantWarnings(t, f)
}
