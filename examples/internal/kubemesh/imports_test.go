package kubemesh_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
)

func export(name, created string) string {
	return fmt.Sprintf("---\napiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata: {name: %s, namespace: app, creationTimestamp: %q}\n", name, created)
}

// TestImports: a Service that is exported has a second name, under which clusters are one.
func TestImports(t *testing.T) {
	named := "{name: http, port: 80, targetPort: web}"
	east := snapshot(t, service("web", "app: web", named+", {name: admin, port: 9000}")+export("web", "2026-01-01T00:00:00Z")+
		pod("web-1", "10.1.0.1", "labels: {app: web}", "", "")+
		"---\napiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: app}\nspec: {clusterIP: None, clusterIPs: [None], selector: {app: db}, ports: [{name: db, port: 5432}]}\n"+
		export("db", "2026-01-01T00:00:00Z")+pod("db-0", "10.1.0.2", "labels: {app: db}", "hostname: db-0, subdomain: db", "")+
		service("manual", "", "{name: http, port: 80}")+export("manual", "2026-01-01T00:00:00Z")+`---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: manual-1, namespace: app, labels: {kubernetes.io/service-name: manual}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [192.0.2.7]}]
`)
	west := snapshot(t, service("web", "app: web", "{name: http, port: 81, targetPort: 8081}")+export("web", "2026-02-01T00:00:00Z")+
		pod("web-1", "10.2.0.1", "labels: {app: web}", "", "")+export("nothing", "2026-02-01T00:00:00Z"))
	imports := kubemesh.NewImports(map[string]*kubefile.Snapshot{"east": east, "west": west})
	config := kubemesh.Config{Cluster: "east", Network: "net", VIPs: vips{}, Imports: imports}
	f := convert(t, config, east)

	web := serviceNamed(t, f, "app/web.app.svc.clusterset.local")
	if web.Scope != endpoints.ScopeGlobal || len(web.Addresses) != 1 || web.Addresses[0].Addr() != netip.MustParseAddr("240.240.0.7") ||
		!slices.Contains(f.Assigned, web.Hostname) || len(web.Ports) != 2 {
		t.Errorf("web is %+v", web)
	}
	if local := serviceNamed(t, f, "app/web.app.svc.cluster.local"); local.Scope != endpoints.ScopeLocal {
		t.Error("what is exported is global under its own name, too")
	}
	for uid, want := range map[string]string{
		"east//Pod/app/web-1": "web.app.svc.cluster.local[{80 8080 UNKNOWN} {9000 9000 UNKNOWN}] web.app.svc.clusterset.local[{80 8080 UNKNOWN} {9000 9000 UNKNOWN}]",
		"east//Pod/app/db-0": "db.app.svc.cluster.local[{5432 5432 UNKNOWN}] db-0.east.db.app.svc.clusterset.local[{5432 5432 UNKNOWN}] " +
			"db.app.svc.clusterset.local[{5432 5432 UNKNOWN}]",
		"east/discovery.k8s.io/EndpointSlice/app/manual-1/192.0.2.7": "manual.app.svc.cluster.local[{80 8080 UNKNOWN}] manual.app.svc.clusterset.local[{80 8080 UNKNOWN}]",
	} {
		if got := backed(workloadNamed(t, f, uid)); !sameWords(got, want) {
			t.Errorf("%s backs\n%s, want\n%s", uid, got, want)
		}
	}
	if s := serviceNamed(t, f, "app/db-0.east.db.app.svc.clusterset.local"); !s.Instance || len(s.Addresses) != 0 {
		t.Errorf("db-0 is %+v", s)
	}
	wantWarnings(t, f, "ServiceExport app/web: PortConflict: ")

	config.Cluster = "west"
	config.Home = east
	there := convert(t, config, west)
	// The port that was exported first counts; west does not have it.
	if got := backed(workloadNamed(t, there, "west//Pod/app/web-1")); !sameWords(got, "web.app.svc.cluster.local[{81 8081 UNKNOWN}] web.app.svc.clusterset.local[]") {
		t.Errorf("in west, the pod backs %s", got)
	}
	if _, there := imports["app/nothing"]; !there || imports["app/nothing"].Import != nil {
		t.Error("an export without a Service is an import")
	}
	wantWarnings(t, there, "ServiceExport app/web: PortConflict: ", "ServiceExport app/nothing: NoService: ")

	config = kubemesh.Config{Cluster: "east", Network: "net", Imports: imports, Compat: endpoints.Istio}
	if istio := convert(t, config, east); len(istio.Services) != 3 {
		t.Errorf("in istiod's ambient mode there are %d services, want those 3 that are Services", len(istio.Services))
	}
}

// TestImportsAgree: what clusters prefer of an exported service is what the first of them said, in all of them.
func TestImportsAgree(t *testing.T) {
	web := func(created, spec string) *kubefile.Snapshot {
		return snapshot(t, "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: app}\nspec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 80}]"+spec+"}\n"+export("web", created))
	}
	zone := &endpoints.LoadBalancing{Mode: endpoints.ModeFailover, Preference: []endpoints.RoutingScope{endpoints.SameNetwork, endpoints.SameRegion, endpoints.SameZone}}
	for _, tt := range []struct {
		name, east, west string
		want             *endpoints.LoadBalancing
	}{
		{"distribution", ", trafficDistribution: PreferClose", "", zone},
		{"none", "", ", trafficDistribution: PreferClose", nil},
		{"policy", ", internalTrafficPolicy: Cluster", ", internalTrafficPolicy: Local", nil},
		{"unready ones are each cluster's", "", ", publishNotReadyAddresses: true", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			east, west := web("2026-01-01T00:00:00Z", tt.east), web("2026-02-01T00:00:00Z", tt.west)
			all := map[string]*kubefile.Snapshot{"east": east, "west": west}
			for cluster, s := range all {
				f := convert(t, kubemesh.Config{Cluster: cluster, Home: east, Network: "net", VIPs: vips{}, Imports: kubemesh.NewImports(all)}, s)
				want := tt.want
				if cluster == "west" && strings.Contains(tt.west, "NotReady") {
					want = &endpoints.LoadBalancing{HealthPolicy: endpoints.AllowAll}
				}
				if got := serviceNamed(t, f, "app/web.app.svc.clusterset.local").LoadBalancing; !reflect.DeepEqual(got, want) {
					t.Errorf("in %s: %+v, want %+v", cluster, got, want)
				}
			}
		})
	}
}

func backed(w *endpoints.Workload) string {
	var all []string
	for _, s := range w.Services {
		all = append(all, strings.TrimPrefix(s.Service, "app/")+fmt.Sprint(s.Ports))
	}
	return strings.Join(all, " ")
}

func sameWords(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}
