package istiod

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/eastwest-mesh/eastwest/endpoints/mcs"
	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
)

func TestStatus(t *testing.T) {
	w := newWorld(t)
	w.edit("west", "apps.yaml", "port: 80, targetPort: 8080", "port: 81, targetPort: 8080")
	w.serve()
	proxy := w.ztunnel()
	w.await("services", func() bool { return strings.Contains(proxy.services(), "ratings") })
	w.edit("west", "apps.yaml", "nodeName:", "nodeNaem:")
	w.await("west is stale", func() bool { return w.cluster("west").StaleSince != nil })

	answer := httptest.NewRecorder()
	w.server.StatusHandler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	if got := answer.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	for _, token := range []string{w.token(eastNode1), w.token(eastGateway)} {
		if strings.Contains(answer.Body.String(), token) {
			t.Error("the status shows a token")
		}
	}
	var st Status
	dec := json.NewDecoder(answer.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&st); err != nil {
		t.Fatal(err)
	}
	if st.Cluster != "east" || len(st.Clusters) != 2 {
		t.Fatalf("clusters of %s: %+v", st.Cluster, st.Clusters)
	}
	east, west := st.Clusters[0], st.Clusters[1]
	if east.Name != "east" || east.Network != "east-network" || east.Services != 4 || east.Workloads != 4 || east.Gateways != 1 || east.StaleSince != nil || east.Problem != "" {
		t.Errorf("east: %+v", east)
	}
	if west.Name != "west" || west.StaleSince == nil || !strings.Contains(west.Problem, "apps.yaml:9") || west.Services != 2 {
		t.Errorf("west: %+v", west)
	}
	services := map[string]ServiceStatus{}
	for _, s := range st.Services {
		services[strings.TrimPrefix(s.Name, "app/")] = s
	}
	// West has another port: it is no backend of this one.
	if s := services[host("reviews")]; s.Endpoints != 1 || s.Remote != 0 || s.Scope != "GLOBAL" || strings.Join(s.Addresses, " ") != "10.91.0.10" {
		t.Errorf("reviews: %+v", s)
	}
	if s := services[host("ledger")]; s.Endpoints != 1 || s.Remote != 0 || s.Scope != "LOCAL" {
		t.Errorf("ledger: %+v", s)
	}
	if len(st.Conflicts) != 1 || st.Conflicts[0].Field != "Ports" || st.Conflicts[0].Winner != "east" || st.Conflicts[0].Values["west"] != "81:8080/HTTP11" {
		t.Errorf("conflicts: %+v", st.Conflicts)
	}
	if len(st.Clients) != 1 || st.Clients[0].Caller != eastNode1.String() || st.Clients[0].Sent == 0 || !strings.HasPrefix(st.Clients[0].Node, discovery.NodeProxy+"~") {
		t.Errorf("clients: %+v", st.Clients)
	}
}

// TestExpired: what cannot be read counts for as long as was said, and again when it can.
func TestExpired(t *testing.T) {
	w := newWorld(t)
	w.config.KeepStale = time.Nanosecond
	w.serve()
	remote := func() int {
		for _, s := range w.server.Status().Services {
			if s.Name == "app/"+host("reviews") {
				return s.Remote
			}
		}
		return -1
	}
	w.edit("west", "apps.yaml", "nodeName:", "nodeNaem:")
	w.await("west is expired", func() bool { return w.cluster("west").Expired && remote() == 0 })
	w.edit("east", "mesh.yaml", "serviceScopeConfigs:", "rootNamespace: istio-system\nserviceScopeConfigs:") // all is looked at again
	w.write("east", "more.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: more}\n")
	w.await("west stays expired", func() bool { return w.cluster("west").Expired && remote() == 0 })
	w.edit("west", "apps.yaml", "nodeNaem:", "nodeName:")
	w.await("west is back", func() bool { return !w.cluster("west").Expired && remote() == 1 })
}

// TestExpiredExports: what a cluster exported counts for as long as the cluster does.
func TestExpiredExports(t *testing.T) {
	w := newWorld(t)
	w.config.KeepStale = time.Nanosecond
	export := "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata: {name: reviews, namespace: app, creationTimestamp: %q}\n"
	w.write("east", "export.yaml", fmt.Sprintf(export, "2026-02-01T00:00:00Z"))
	w.write("west", "export.yaml", fmt.Sprintf(export, "2026-01-01T00:00:00Z"))
	w.edit("west", "apps.yaml", "{name: http, port: 80", "{name: http, port: 81")
	w.serve()
	conflicts := func() string {
		var all []string
		for _, e := range w.server.Status().Exports {
			for _, c := range e.Conditions {
				if c.Type == mcs.Conflict {
					all = append(all, e.Cluster+" "+c.Reason)
				}
			}
		}
		return strings.Join(all, ", ")
	}
	const both = "east PortConflict, west PortConflict"
	w.await(both, func() bool { return conflicts() == both })
	w.edit("west", "apps.yaml", "nodeName:", "nodeNaem:")
	w.await("no conflict with what is gone", func() bool { return conflicts() == "east NoConflicts" })
	w.edit("east", "apps.yaml", "10.1.0.12", "10.1.0.99")
	w.await("west is still away", func() bool { return w.cluster("west").Expired && conflicts() == "east NoConflicts" })
	w.edit("west", "apps.yaml", "nodeNaem:", "nodeName:")
	w.await("west is back", func() bool { return conflicts() == both })
}

// A status without anything to tell has empty lists, not null.
func TestEmptyStatus(t *testing.T) {
	w := newWorld(t)
	w.config.Dir, w.config.Remotes = t.TempDir(), nil
	w.serve()
	data, err := json.Marshal(w.server.Status())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"cluster":"east","clusters":[{"name":"east","network":"","services":0,"workloads":0,"gateways":0,"warnings":[]}],"services":[],"conflicts":[],"exports":[],"problems":[],"clients":[]}`
	if string(data) != want {
		t.Errorf("got %s\nwant %s", data, want)
	}
}

func TestWarningsAreToldOnce(t *testing.T) {
	w := newWorld(t)
	w.edit("east", "cluster.yaml", "{type: IPAddress, value: 172.18.1.100}", "{value: 172.18.1.100}")
	w.serve()
	const text = "has no address in its status yet"
	if got := w.cluster("east").Warnings; !strings.Contains(strings.Join(got, "\n"), text) || !strings.Contains(got[0], "cluster.yaml:") {
		t.Errorf("warnings: %q", got)
	}
	proxy := w.ztunnel()
	w.edit("east", "cluster.yaml", "# Two nodes", "# Some\n# comment.\n# Two nodes") // moves the lines
	w.edit("east", "apps.yaml", "10.1.0.12", "10.1.0.99")
	w.await("the change", func() bool { return strings.Contains(proxy.services(), "10.1.0.99") })
	if got := strings.Count(w.log.String(), text); got != 1 {
		t.Errorf("told %d times", got)
	}
}
