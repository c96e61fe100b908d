package kubefile_test

import (
	"strings"
	"testing"
)

func object(apiVersion, kind, rest string) string {
	return "apiVersion: " + apiVersion + "\nkind: " + kind + "\nmetadata: {name: a, namespace: app}\n" + rest
}

// What an API server would refuse is refused, with the field that is wrong.
func TestValidation(t *testing.T) {
	podWith := func(spec, status string) string {
		return object("v1", "Pod", "spec: {"+spec+"}\nstatus: {"+status+"}\n")
	}
	sliceWith := func(rest string) string { return object("discovery.k8s.io/v1", "EndpointSlice", rest) }
	gatewayWith := func(spec, status string) string {
		return object("gateway.networking.k8s.io/v1", "Gateway", "spec: {"+spec+"}\nstatus: {"+status+"}\n")
	}
	tests := []struct{ name, content, want string }{
		{"label key", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {a/b/c: d}}\n", `metadata.labels.a/b/c: "a/b/c": `},
		{"annotation key", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, annotations: {'a b': d}}\n", `metadata.annotations.a b: "a b": `},
		{"no containers", podWith("", ""), "spec.containers: required"},
		{"pod address", podWith("containers: [{name: c}]", "podIPs: [{ip: x}]"), `status.podIPs[0].ip: "x" is not an IP address`},
		{"two pod addresses", podWith("containers: [{name: c}]", "podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.2}]"), "status.podIP: 10.0.0.1 is not the first of podIPs"},
		{"container port", podWith("containers: [{name: c, ports: [{containerPort: 0}]}]", ""), "spec.containers[0].ports[0].containerPort: 0 is not a port"},
		{"cluster addresses", service("  clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.2]\n  ports: [{port: 80}]\n"), "spec.clusterIP: 10.0.0.1 is not the first of clusterIPs"},
		{"no ports", service("  clusterIP: 10.0.0.1\n"), "spec.ports: required"},
		{"ports without names", service("  ports: [{port: 80}, {port: 81}]\n"), "spec.ports[0].name: required where there are several ports"},
		{"port name twice", service("  ports: [{port: 80, name: a}, {port: 81, name: a}]\n"), `spec.ports[1].name: "a" is there twice`},
		{"port twice", service("  ports: [{port: 80, name: a}, {port: 80, name: b}]\n"), "spec.ports[1].port: TCP 80 is there twice"},
		{"target port", service("  ports: [{port: 80, targetPort: 70000}]\n"), "spec.ports[0].targetPort: 70000 is not a port"},
		{"address type", sliceWith("addressType: IP\nendpoints: []\n"), `addressType: "IP" is none of`},
		{"no addresses", sliceWith("addressType: IPv4\nendpoints: [{addresses: []}]\n"), "endpoints[0].addresses: required"},
		{"name in a slice", sliceWith("addressType: FQDN\nendpoints: [{addresses: ['a_b']}]\n"), `endpoints[0].addresses[0]: "a_b": `},
		{"slice port", sliceWith("addressType: IPv4\nendpoints: []\nports: [{port: 0}]\n"), "ports[0].port: 0 is not a port"},
		{"no gateway class", gatewayWith("listeners: [{name: a, port: 80, protocol: HTTP}]", ""), "spec.gatewayClassName: required"},
		{"no listeners", gatewayWith("gatewayClassName: a", ""), "spec.listeners: required"},
		{"no protocol", gatewayWith("gatewayClassName: a, listeners: [{name: a, port: 80}]", ""), "spec.listeners[0].protocol: required"},
		{"gateway address", gatewayWith("gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP}]", "addresses: [{type: IPAddress, value: x}]"), `status.addresses[0].value: "x" is not an IP address`},
		{"gateway name", gatewayWith("gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP}]", "addresses: [{type: Hostname, value: x y}]"), `status.addresses[0].value: "x y": `},
		{"no spec", object("networking.istio.io/v1", "ServiceEntry", ""), "spec: required"},
		{"no hosts", entry("  ports: [{number: 80, name: a}]\n"), "spec.hosts: required"},
		{"no service entry ports", entry("  hosts: [a.b]\n"), "spec.ports: required"},
		{"port without a name", entry("  hosts: [a.b]\n  ports: [{number: 80}]\n"), "spec.ports[0].name: required"},
		{"address of a service entry", entry("  hosts: [a.b]\n  addresses: [10.0.0.0/33]\n  ports: [{number: 80, name: a}]\n"), `spec.addresses[0]: "10.0.0.0/33" is neither an IP address nor a CIDR`},
		{"endpoints and selector", entry("  hosts: [a.b]\n  ports: [{number: 80, name: a}]\n  resolution: STATIC\n  workloadSelector: {labels: {a: b}}\n  endpoints: [{address: 10.0.0.1}]\n"), "spec.workloadSelector: cannot be used together with endpoints"},
		{"endpoints of NONE", entry("  hosts: [a.b]\n  ports: [{number: 80, name: a}]\n  endpoints: [{address: 10.0.0.1}]\n"), "spec.endpoints: have no use with resolution NONE"},
		{"workload entry", object("networking.istio.io/v1", "WorkloadEntry", "spec: {labels: {a: b}}\n"), "spec.address: required"},
		{"two targets", object("security.istio.io/v1", "AuthorizationPolicy", "spec: {selector: {}, targetRefs: [{kind: a, name: b}]}\n"), "spec.selector: cannot be used together with targetRefs"},
		{"not a number", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, generation: .nan}\n", ".nan is not a number that JSON has"},
		{"half a number", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, generation: 1.5}\n", "metadata.generation: number 1.5 is not int64"},
		{"binary", "apiVersion: v1\nkind: Namespace\nmetadata: {name: !!binary aGk=}\n", "the tag !!binary is not supported"},
		{"huge number", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, generation: 99999999999999999999999}\n", "metadata.generation: number"},
		{"key that is a list", "[a]: b\n", "a key must be a string"},
		{"unquoted port", object("security.istio.io/v1", "AuthorizationPolicy", "spec: {rules: [{to: [{operation: {ports: [8080]}}]}]}\n"), "spec.rules[0].to[0].operation.ports[0]: want a string, got a number: quote it"},
		{"mtls mode", object("security.istio.io/v1", "PeerAuthentication", "spec: {mtls: {mode: STRIKT}}\n"), `spec.mtls.mode: "STRIKT" is none of [UNSET DISABLE PERMISSIVE STRICT] (did you mean "STRICT"?)`},
		{"proto map value", object("security.istio.io/v1", "PeerAuthentication", "spec: {portLevelMtls: {80: {mod: STRICT}}}\n"), `spec.portLevelMtls.80.mod: unknown field (did you mean "mode"?)`},
		{"duration", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'connectTimeout: soon'}\n", "MeshConfig: connectTimeout: invalid google.protobuf.Duration value"},
		{"mesh config that is no YAML", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    a: b\n    c: d: e\n", "f.yaml:7: MeshConfig: mapping values are not allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, "f.yaml", tt.content)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
		})
	}
}

// What looks odd but is right is accepted.
func TestAccepted(t *testing.T) {
	for name, content := range map[string]string{
		"nulls":             service("  selector: null\n  ports:\n  - {port: 80, name: null}\n"),
		"octal":             object("v1", "Pod", "spec:\n  containers: [{name: c}]\n  volumes: [{name: v, configMap: {name: x, defaultMode: 0644}}]\n"),
		"named target port": service("  ports: [{port: 80, targetPort: web}]\n"),
		"quantity":          object("v1", "Pod", "spec: {containers: [{name: c, resources: {limits: {cpu: 1, memory: 1Gi}}}]}\n"),
		"yes":               object("v1", "Pod", "spec: {hostNetwork: yes, containers: [{name: c}]}\n"),
		"anchors":           service("  selector: &s {app: a}\n  ports: [{port: 80}]\n") + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: app}\ndata: &d {a: b}\n",
		"number as string":  entry("  hosts: [a.b]\n  ports: [{number: '80', name: a}]\n"),
		"enum as number":    entry("  hosts: [a.b]\n  ports: [{number: 80, name: a}]\n  resolution: 2\n"),
		"proto names":       entry("  hosts: [a.b]\n  ports: [{number: 80, name: a, target_port: 81}]\n"),
		"flow mesh config":  "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: ''}\n",
	} {
		if _, err := load(t, "f.yaml", content); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
