package istiod

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

// What clients in east see of testdata.
const (
	eastView = "db[10.1.0.20] ledger[10.1.0.12] payments[192.0.2.10] ratings[via 172.18.2.100 *1] reviews[10.1.0.10 via 172.18.2.100 *1]"
	// A gateway's view has only what other networks may ask it for.
	eastGatewayView = "ratings[] reviews[10.1.0.10]"
)

func TestEditArrives(t *testing.T) {
	w := newWorld(t).serve()
	proxy, gateway := w.ztunnel(), w.connect(eastGateway, discovery.Gateway, "")
	w.awaitView(proxy, eastView)
	w.awaitView(gateway, eastGatewayView)

	w.edit("east", "apps.yaml", "10.1.0.10", "10.1.0.77")
	w.awaitView(proxy, strings.Replace(eastView, "10.1.0.10", "10.1.0.77", 1))
	w.awaitView(gateway, strings.Replace(eastGatewayView, "10.1.0.10", "10.1.0.77", 1))

	w.edit("west", "apps.yaml", "10.92.0.14", "10.92.0.15")
	w.edit("west", "cluster.yaml", "172.18.2.100", "172.18.2.200")
	moved := strings.ReplaceAll(eastView, "172.18.2.100", "172.18.2.200")
	w.awaitView(proxy, strings.Replace(moved, "10.1.0.10", "10.1.0.77", 1))
}

func TestPolicyArrivesAndGoes(t *testing.T) {
	w := newWorld(t).serve()
	proxy := w.ztunnel()
	count := func() int {
		if p := proxy.State.Policies(); p != nil {
			return p.Len()
		}
		return -1
	}
	w.await("one policy", func() bool { return count() == 1 })
	w.edit("east", "policy.yaml", "name: reviews,", "name: other,")
	w.await("the other policy on the workload", func() bool {
		p := proxy.State.Index().Workload("east//Pod/app/reviews-1")
		return p != nil && len(p.AuthorizationPolicies) == 1 && p.AuthorizationPolicies[0] == "app/other"
	})
	if err := os.Remove(filepath.Join(w.dirs["east"], "policy.yaml")); err != nil {
		t.Fatal(err)
	}
	w.await("no policy", func() bool { return count() == 0 })
}

func TestBrokenDirectoryChangesNothing(t *testing.T) {
	for _, tt := range []struct {
		name, cluster, file string
		from, to            string
		says                string // besides the file
	}{
		{"syntax, own cluster", "east", "apps.yaml", "kind: Service\n", "kind: [\n", "apps.yaml:"},
		{"unknown field, own cluster", "east", "apps.yaml", "nodeName:", "nodeNaem:", "apps.yaml:"},
		{"MeshConfig, own cluster", "east", "mesh.yaml", "operator: In", "operator: Inn", "mesh.yaml:4"},
		{"trust domain, own cluster", "east", "mesh.yaml", "serviceScopeConfigs:", "trustDomain: other.example\nserviceScopeConfigs:", "mesh.yaml:"},
		{"syntax, remote cluster", "west", "apps.yaml", "kind: Service\n", "kind: [\n", "apps.yaml:"},
		{"MeshConfig, remote cluster", "west", "mesh.yaml", "operator: In", "operator: Inn", "mesh.yaml:4"},
		{"network, remote cluster", "west", "cluster.yaml", "west-network}", "west/network}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t).serve()
			proxy := w.ztunnel()
			w.awaitView(proxy, eastView)
			good := w.edit(tt.cluster, tt.file, tt.from, tt.to)
			w.await("stale", func() bool { return w.cluster(tt.cluster).StaleSince != nil })
			problem := w.cluster(tt.cluster).Problem
			want := filepath.Join(w.dirs[tt.cluster], tt.says)
			if !strings.Contains(problem, want) {
				t.Errorf("the problem is %q, want %s", problem, want)
			}
			w.awaitLog(want)

			// A change of the other cluster arrives nevertheless, and does not
			// make the broken one count as good.
			other := map[string]string{"east": "west", "west": "east"}[tt.cluster]
			w.edit(other, "cluster.yaml", "100}", "200}")
			view := eastView
			if other == "west" {
				view = strings.ReplaceAll(eastView, "172.18.2.100", "172.18.2.200")
				w.awaitView(proxy, view)
			} else {
				w.await("east's gateway moved", func() bool {
					return len(w.server.snapshotOf("east").Gateways[0].Status.Addresses) == 1 &&
						w.server.snapshotOf("east").Gateways[0].Status.Addresses[0].Value == "172.18.1.200"
				})
			}
			if w.cluster(tt.cluster).StaleSince == nil || w.cluster(tt.cluster).Problem == "" {
				t.Errorf("after a change of %s, %s counts as good", other, tt.cluster)
			}
			if got := proxy.services(); got != view {
				t.Errorf("a client sees %s, want %s", got, view)
			}

			w.write(tt.cluster, tt.file, good)
			w.await("current again", func() bool { return w.cluster(tt.cluster).StaleSince == nil })
			if problem := w.cluster(tt.cluster).Problem; problem != "" {
				t.Errorf("a problem remains: %s", problem)
			}
			w.awaitView(proxy, view)
		})
	}
}

func (s *Server) snapshotOf(cluster string) *kubefile.Snapshot {
	s.clusters.mu.Lock()
	defer s.clusters.mu.Unlock()
	return s.clusters.known[cluster].snapshot
}

// cluster is what the status says of a cluster.
func (w *world) cluster(name string) ClusterStatus {
	w.t.Helper()
	for _, c := range w.server.Status().Clusters {
		if c.Name == name {
			return c
		}
	}
	w.t.Fatalf("no cluster %s in the status", name)
	return ClusterStatus{}
}

func TestRemoteDirectoryVanishes(t *testing.T) {
	w := newWorld(t).serve()
	proxy := w.ztunnel()
	w.awaitView(proxy, eastView)
	away := w.dirs["west"] + ".away"
	if err := os.Rename(w.dirs["west"], away); err != nil {
		t.Fatal(err)
	}
	w.await("west stale", func() bool { return w.cluster("west").StaleSince != nil })
	w.awaitLog(w.dirs["west"])
	if got := proxy.services(); got != eastView {
		t.Errorf("without west's directory a client sees %s", got)
	}
	if err := os.Rename(away, w.dirs["west"]); err != nil {
		t.Fatal(err)
	}
	w.await("west current", func() bool { return w.cluster("west").StaleSince == nil })
	w.edit("west", "apps.yaml", "name: ratings,", "name: stars,")
	w.awaitView(proxy, strings.Replace(eastView, "ratings[via 172.18.2.100 *1] reviews[10.1.0.10 via 172.18.2.100 *1]",
		"reviews[10.1.0.10 via 172.18.2.100 *1] stars[via 172.18.2.100 *1]", 1))
}

// Both the cluster that has a service and the one that is to see it decide.
func TestScopeOfBothSides(t *testing.T) {
	const (
		labelled = "serviceScopeConfigs:\n  - servicesSelector: {matchExpressions: [{key: istio.io/global, operator: In, values: [\"true\"]}]}\n    scope: GLOBAL\n"
		nothing  = "serviceScopeConfigs:\n  - servicesSelector: {matchLabels: {kind: nothing}}\n    scope: GLOBAL\n"
		ratings  = "serviceScopeConfigs:\n  - servicesSelector: {matchLabels: {kind: ratings}}\n    scope: GLOBAL\n"
	)
	const none = ""
	for _, tt := range []struct {
		name, east, west string
		want             string // of west's services, in east
	}{
		{"both", labelled, labelled, "ratings reviews"},
		{"not accepted", nothing, labelled, none},
		{"not exported", labelled, nothing, none},
		{"the intersection", ratings, labelled, "ratings"},
		{"the intersection, the other way round", labelled, ratings, "ratings"},
		{"no MeshConfig in west is Istio's default", labelled, "", "ratings reviews"},
		{"no MeshConfig at all", "", "", "ratings reviews"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.edit("west", "apps.yaml", `name: ratings, namespace: app, labels: {`, `name: ratings, namespace: app, labels: {kind: ratings, `)
			for cluster, text := range map[string]string{"east": tt.east, "west": tt.west} {
				w.write(cluster, "mesh.yaml", text)
				if text == "" {
					if err := os.Remove(filepath.Join(w.dirs[cluster], "mesh.yaml")); err != nil {
						t.Fatal(err)
					}
				}
			}
			w.serve()
			var seen []string
			for _, s := range w.server.Status().Services {
				if s.Remote > 0 {
					_, hostname, _ := strings.Cut(s.Name, "/")
					name, _, _ := strings.Cut(hostname, ".")
					seen = append(seen, name)
				}
			}
			if got := strings.Join(seen, " "); got != tt.want {
				t.Errorf("east sees of west: %q, want %q", got, tt.want)
			}
		})
	}
}

// A change of a MeshConfig counts for all clusters at once.
func TestScopeChanges(t *testing.T) {
	w := newWorld(t).serve()
	proxy := w.ztunnel()
	w.awaitView(proxy, eastView)
	good := w.edit("east", "mesh.yaml", `values: ["true"]`, `values: ["never"]`)
	const local = "db[10.1.0.20] ledger[10.1.0.12] payments[192.0.2.10] reviews[10.1.0.10]"
	w.awaitView(proxy, local)
	w.write("east", "mesh.yaml", good)
	w.awaitView(proxy, eastView)
	w.edit("west", "mesh.yaml", `values: ["true"]`, `values: ["never"]`)
	w.awaitView(proxy, local)
}
