package kubemesh_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
)

func TestAppProtocols(t *testing.T) {
	for _, tt := range []struct {
		port string
		want endpoints.AppProtocol
	}{
		{"{port: 80}", endpoints.AppUnknown},
		{"{port: 80, name: http}", endpoints.AppHTTP11},
		{"{port: 80, name: http-web}", endpoints.AppHTTP11},
		{"{port: 80, name: http2-web}", endpoints.AppHTTP2},
		{"{port: 80, name: grpc}", endpoints.AppGRPC},
		{"{port: 80, name: grpc-web}", endpoints.AppUnknown},
		{"{port: 80, name: https}", endpoints.AppTLS},
		{"{port: 80, name: tls-mongo}", endpoints.AppTLS},
		{"{port: 80, name: tcp}", endpoints.AppTCP},
		{"{port: 80, name: mongo}", endpoints.AppUnknown},
		{"{port: 80, name: tcp, appProtocol: HTTP}", endpoints.AppHTTP11},
		{"{port: 80, appProtocol: kubernetes.io/h2c}", endpoints.AppHTTP2},
		{"{port: 80, appProtocol: kubernetes.io/wss}", endpoints.AppTLS},
		{"{port: 3306}", endpoints.AppTCP},
		{"{port: 3306, name: mysql}", endpoints.AppUnknown},
		{"{port: 53, name: http}", endpoints.AppHTTP11},
		{"{port: 53, name: tcp, protocol: UDP}", endpoints.AppUnknown},
	} {
		f := factsOf(t, "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: app}\nspec: {clusterIP: 10.0.0.1, ports: ["+tt.port+"]}")
		if got := serviceNamed(t, f, "app/a.app.svc.cluster.local").Ports[0].AppProtocol; got != tt.want {
			t.Errorf("%s: %v, want %v", tt.port, got, tt.want)
		}
	}
}

func TestLoadBalancing(t *testing.T) {
	zone := []endpoints.RoutingScope{endpoints.SameNetwork, endpoints.SameRegion, endpoints.SameZone}
	node := append(zone, endpoints.SameSubzone, endpoints.SameNode)
	for _, tt := range []struct {
		name, annotations, spec string
		want                    *endpoints.LoadBalancing
	}{
		{"nothing said", "", "", nil},
		{"PreferClose", "", "trafficDistribution: PreferClose", &endpoints.LoadBalancing{Mode: endpoints.ModeFailover, Preference: zone}},
		{"PreferSameNode", "", "trafficDistribution: PreferSameNode", &endpoints.LoadBalancing{Mode: endpoints.ModeFailover, Preference: node}},
		{"annotation, any case", "networking.istio.io/traffic-distribution: prefersamezone", "", &endpoints.LoadBalancing{Mode: endpoints.ModeFailover, Preference: zone}},
		{"ours", "networking.istio.io/traffic-distribution: PreferSameCluster", "", &endpoints.LoadBalancing{
			Mode: endpoints.ModeFailover, Preference: []endpoints.RoutingScope{endpoints.SameCluster, endpoints.SameNetwork}}},
		{"internalTrafficPolicy wins", "", "trafficDistribution: PreferClose, internalTrafficPolicy: Local",
			&endpoints.LoadBalancing{Mode: endpoints.ModeStrict, Preference: []endpoints.RoutingScope{endpoints.SameNode}}},
		{"not ready too", "", "publishNotReadyAddresses: true", &endpoints.LoadBalancing{HealthPolicy: endpoints.AllowAll}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := factsOf(t, fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: app, annotations: {%s}}\nspec: {ports: [{port: 80}], %s}", tt.annotations, tt.spec))
			if got := serviceNamed(t, f, "app/a.app.svc.cluster.local").LoadBalancing; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			wantWarnings(t, f)
		})
	}
}

func TestLoadBalancingThatIsNotIstios(t *testing.T) {
	s := snapshot(t, "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: app, annotations: {networking.istio.io/traffic-distribution: PreferSameNetwork}}\nspec: {ports: [{port: 80}]}")
	f := convert(t, kubemesh.Config{Cluster: "east", Compat: endpoints.Istio}, s)
	if got := f.Services[0].LoadBalancing; got != nil {
		t.Errorf("%+v", got)
	}
	wantWarnings(t, f, "app.yaml:1:1: Service app/a: its traffic distribution is not one of Istio's")
	wantWarnings(t, factsOf(t, "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: app}\nspec: {trafficDistribution: PreferFar, ports: [{port: 80}]}"), `unknown traffic distribution "PreferFar"`)
}

func TestNamespaceAnnotationIsInherited(t *testing.T) {
	f := factsOf(t, `
apiVersion: v1
kind: Namespace
metadata: {name: other, annotations: {networking.istio.io/traffic-distribution: PreferClose}}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: other}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: other, annotations: {networking.istio.io/traffic-distribution: Any}}
spec: {ports: [{port: 80}]}
`)
	if lb := serviceNamed(t, f, "other/a.other.svc.cluster.local").LoadBalancing; lb == nil || lb.Mode != endpoints.ModeFailover {
		t.Errorf("inherited: %+v", lb)
	}
	if lb := serviceNamed(t, f, "other/b.other.svc.cluster.local").LoadBalancing; lb != nil {
		t.Errorf("overridden: %+v", lb)
	}
}

func TestServiceKinds(t *testing.T) {
	f := factsOf(t, `
apiVersion: v1
kind: Service
metadata: {name: dual, namespace: app, labels: {istio.io/global: "true"}}
spec: {clusterIPs: [10.0.0.1, "fd00::1"], ports: [{port: 80, targetPort: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: app}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: app}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: v1
kind: Service
metadata: {name: homeless, namespace: nowhere, labels: {istio.io/global: "true"}}
spec: {ports: [{port: 80}]}
`)
	dual := serviceNamed(t, f, "app/dual.app.svc.cluster.local")
	if len(dual.Addresses) != 2 || dual.Addresses[1].String() != "net/fd00::1" || dual.IPFamilies != endpoints.DualStack || dual.Scope != endpoints.ScopeGlobal || !dual.Canonical {
		t.Errorf("dual: %+v", dual)
	}
	if dual.Ports[0].TargetPort != 0 {
		t.Errorf("a named target port became %d", dual.Ports[0].TargetPort)
	}
	if headless := serviceNamed(t, f, "app/headless.app.svc.cluster.local"); len(headless.Addresses) != 0 || headless.Scope != endpoints.ScopeLocal {
		t.Errorf("headless: %+v", headless)
	}
	if homeless := serviceNamed(t, f, "nowhere/homeless.nowhere.svc.cluster.local"); homeless.Scope != endpoints.ScopeLocal {
		t.Errorf("homeless: %+v", homeless)
	}
	wantWarnings(t, f, "Service app/alias: is of type ExternalName", "Service nowhere/homeless: its Namespace is not there")
}

func TestServiceEntries(t *testing.T) {
	f := factsOf(t, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: static, namespace: app}
spec:
  hosts: [a.example.com, a.example.com]
  addresses: [192.0.2.1, 192.0.2.64/26]
  ports: [{number: 443, name: tls, protocol: TLS}, {number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  subjectAltNames: [spiffe://cluster.local/ns/x/sa/y]
  endpoints:
  - {address: 198.51.100.1, ports: {http: 8081}, weight: 3, locality: r/z/s, network: far}
  - {address: 198.51.100.2}
  - {address: 198.51.100.2}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: dns, namespace: app}
spec:
  hosts: [b.example.com, no.example.com]
  ports: [{number: 80, name: http}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: none, namespace: app}
spec:
  hosts: [c.example.com]
  ports: [{number: 80, name: http}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: given, namespace: app}
spec:
  hosts: [d.example.com]
  ports: [{number: 80, name: http}]
  resolution: DNS
status:
  addresses: [{host: d.example.com, value: 240.240.9.9}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: app}
spec:
  hosts: ["*.example.org"]
  ports: [{number: 80, name: http}]
  resolution: DYNAMIC_DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: optout, namespace: app, labels: {networking.istio.io/enable-autoallocate-ip: "FALSE"}}
spec:
  hosts: [e.example.com]
  ports: [{number: 80, name: http}]
  resolution: DNS
`)
	for key, want := range map[string]string{
		"app/a.example.com":  "[net/192.0.2.1 net/192.0.2.64/26]",
		"app/b.example.com":  "[net/240.240.0.7]",
		"app/no.example.com": "[]",
		"app/c.example.com":  "[]",
		"app/d.example.com":  "[net/240.240.9.9]",
		"app/*.example.org":  "[net/240.240.0.7]",
		"app/e.example.com":  "[]",
	} {
		if got := fmt.Sprint(serviceNamed(t, f, key).Addresses); got != want {
			t.Errorf("%s has addresses %s, want %s", key, got, want)
		}
	}
	if got := serviceNamed(t, f, "app/c.example.com").LoadBalancing; got.Mode != endpoints.ModePassthrough || got.HealthPolicy != endpoints.AllowAll {
		t.Errorf("resolution NONE: %+v", got)
	}
	first := workloadNamed(t, f, "east/networking.istio.io/ServiceEntry/app/static/198.51.100.1")
	if got := fmt.Sprint(first.Services); got != "[{app/a.example.com [{443 443 UNKNOWN} {80 8081 UNKNOWN}]}]" {
		t.Errorf("the first endpoint backs %s", got)
	}
	if *first.Capacity != 3 || first.Network != "far" || first.Locality.String() != "r/z/s" {
		t.Errorf("the first endpoint: %+v", first)
	}
	if second := workloadNamed(t, f, "east/networking.istio.io/ServiceEntry/app/static/198.51.100.2"); second.Network != "" || second.Capacity != nil {
		t.Errorf("the second endpoint: %+v", second)
	}
	if dns := workloadNamed(t, f, "east/networking.istio.io/ServiceEntry/app/dns/b.example.com"); dns.Hostname != "b.example.com" || len(dns.Services) != 1 {
		t.Errorf("the host of a DNS ServiceEntry: %+v", dns)
	}
	if got := fmt.Sprint(f.Assigned); got != "[*.example.org b.example.com no.example.com]" {
		t.Errorf("assigned %s", got)
	}
	wantWarnings(t, f, "has the address 198.51.100.2 twice", "the host a.example.com is there twice", "no address could be allocated for the host no.example.com: exhausted")
}

func TestIstiodsNetworkOfAnEndpointLeaks(t *testing.T) {
	s := snapshot(t, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: app}
spec:
  hosts: [a.example.com]
  addresses: [192.0.2.1]
  ports: [{number: 80, name: http}]
  resolution: STATIC
  endpoints: [{address: 198.51.100.1, network: far}, {address: 198.51.100.2}]
`)
	for compat, want := range map[endpoints.Compat]string{endpoints.Istio: "far", endpoints.Native: ""} {
		f := convert(t, kubemesh.Config{Cluster: "east", Compat: compat}, s)
		if got := f.Workloads[1].Network; got != want {
			t.Errorf("compat %v: the second endpoint is on network %q", compat, got)
		}
	}
}

func TestHostsThatAreThereTwice(t *testing.T) {
	entry := func(namespace, name, created string) string {
		return fmt.Sprintf(`---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s, namespace: %s, creationTimestamp: "2026-01-0%sT00:00:00Z"}
spec: {hosts: [a.app.svc.cluster.local, x.example.com], addresses: [192.0.2.1], ports: [{number: 80, name: http}]}
`, name, namespace, created)
	}
	f := factsOf(t, "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: app, creationTimestamp: \"2026-01-09T00:00:00Z\"}\nspec: {ports: [{port: 80}]}\n"+
		entry("app", "young", "2")+entry("app", "old", "1")+entry("zoo", "middle", "1"))
	if s := serviceNamed(t, f, "app/a.app.svc.cluster.local"); s.Name != "a" || !s.Canonical {
		t.Errorf("a Service lost to %s", s.Name)
	}
	if s := serviceNamed(t, f, "app/x.example.com"); s.Name != "old" || !s.Canonical {
		t.Errorf("in its namespace %s won, canonical %v", s.Name, s.Canonical)
	}
	if s := serviceNamed(t, f, "zoo/x.example.com"); s.Canonical {
		t.Error("two are canonical")
	}
	if s := serviceNamed(t, f, "zoo/a.app.svc.cluster.local"); s.Canonical {
		t.Error("a ServiceEntry is canonical beside a Service")
	}
	wantWarnings(t, f, "ServiceEntry app/young: the host a.app.svc.cluster.local is that of a too", "ServiceEntry app/young: the host x.example.com is that of old too",
		"ServiceEntry app/old: the host a.app.svc.cluster.local is that of a too")
}

func TestServiceEntryVisibility(t *testing.T) {
	entry := func(namespace string) string {
		return "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: " + namespace + "}\nspec: {hosts: [a.example.com], addresses: [192.0.2.1], ports: [{number: 80, name: http}]}\n"
	}
	ns := func(name, label string) string {
		return "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " + name + ", labels: {see: " + label + "}}\n"
	}
	f := factsOf(t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    serviceEntryVisibility:
      defaultVisibility: NONE
      policies:
      - visibility: PUBLIC
        matchingRules: [{namespaceSelector: {matchLabels: {see: all}}}]
      - visibility: NAMESPACE
        matchingRules: [{namespaceSelector: {matchLabels: {see: own}}}]
`+ns("open", "all")+ns("closed", "own")+entry("open")+entry("closed")+entry("app"))
	if s := serviceNamed(t, f, "open/a.example.com"); s.Visibility != endpoints.VisiblePublic || !s.Canonical {
		t.Errorf("open: %+v", s)
	}
	if s := serviceNamed(t, f, "closed/a.example.com"); s.Visibility != endpoints.VisibleNamespace || s.Canonical {
		t.Errorf("closed: %+v", s)
	}
	if len(f.Services) != 2 {
		t.Errorf("%d services", len(f.Services))
	}
	wantWarnings(t, f, "ServiceEntry app/a: is not published")
}
