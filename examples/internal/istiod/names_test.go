package istiod

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/dnsproxy/nds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
)

// names follows the name table of a client, and returns it as text.
func (w *world) names(c Caller, kind, network string) func() string {
	w.t.Helper()
	var mu sync.Mutex
	var table []dnsproxy.Entry
	w.follow(c, proxyOf(c, kind, network).XDS(), xds.Type{
		URL: nds.TypeURL,
		Handle: func(u xds.Update) map[string]error {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range u.Upserts {
				var err error
				if table, err = nds.Decode(r.Body); err != nil {
					return map[string]error{r.Name: err}
				}
			}
			return nil
		},
	})
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		var lines []string
		for _, e := range table {
			lines = append(lines, strings.TrimSpace(fmt.Sprint(e.Host, " ", e.ShortName, " ", e.Addresses)))
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
}

// awaitNames waits for a name table. VIP stands for a virtual address.
func (w *world) awaitNames(names func() string, want ...string) {
	w.t.Helper()
	w.await("names:\n"+strings.Join(want, "\n"), func() bool {
		got := strings.Split(names(), "\n")
		return slices.EqualFunc(got, want, func(got, want string) bool {
			before, after, vip := strings.Cut(want, "VIP")
			return got == want || vip && strings.HasPrefix(got, before+"240.240.") && strings.HasSuffix(got, after)
		})
	})
}

func TestNameTables(t *testing.T) {
	w := newWorld(t)
	w.write("east", "private.yaml", `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: private, namespace: app}
spec:
  hosts: [private.example.com]
  addresses: [192.0.2.99]
  resolution: STATIC
  ports: [{number: 80, name: http}]
`)
	w.edit("east", "mesh.yaml", "serviceScopeConfigs:", `serviceEntryVisibility:
  defaultVisibility: NAMESPACE
serviceScopeConfigs:`)
	w.serve()
	app := w.names(Caller{Cluster: "east", Namespace: "app", ServiceAccount: "client"}, "sidecar", "")
	kubernetes := []string{
		"db-0.db.app.svc.cluster.local db-0.db [10.1.0.20]",
		"db.app.svc.cluster.local db [10.1.0.20]",
		"ledger.app.svc.cluster.local ledger [10.91.0.12]",
	}
	both := []string{
		"ratings.app.svc.cluster.local ratings [VIP]",
		"reviews.app.svc.cluster.local reviews [10.91.0.10]",
	}
	private := []string{"payments.example.com  [VIP]", "private.example.com  [192.0.2.99]"}
	w.awaitNames(app, slices.Concat(kubernetes, private, both)...)

	// What is private to another namespace is not there, and an agent of any
	// kind is served.
	w.awaitNames(w.names(eastGateway, "router", ""), slices.Concat(kubernetes, both)...)
	// Clients of the other network get the addresses that hold there, and do
	// not see pods that they cannot reach.
	w.awaitNames(w.names(Caller{Cluster: "west", Namespace: "app", ServiceAccount: "client"}, "sidecar", ""),
		"ratings.app.svc.cluster.local ratings [10.92.0.14]",
		"reviews.app.svc.cluster.local reviews [10.92.0.10]")

	// Once the headless service is global, its pod has the same name elsewhere.
	w.edit("east", "headless.yaml", "labels: {}", `labels: {istio.io/global: "true"}`)
	w.awaitNames(w.names(Caller{Cluster: "west", Namespace: "app", ServiceAccount: "client"}, "sidecar", ""),
		"db-0.db.app.svc.cluster.local db-0.db [VIP]",
		"db.app.svc.cluster.local db [VIP]",
		"ratings.app.svc.cluster.local ratings [10.92.0.14]",
		"reviews.app.svc.cluster.local reviews [10.92.0.10]")
	w.awaitNames(app, slices.Concat(kubernetes, private, both)...)

	// What west exports has one address in both clusters, and no short name.
	export := "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata: {name: reviews, namespace: app}\n"
	w.write("west", "export.yaml", export)
	imported := []string{"reviews.app.svc.clusterset.local  [VIP]"}
	w.awaitNames(app, slices.Concat(kubernetes, private, both, imported)...)
	w.awaitNames(w.names(Caller{Cluster: "west", Namespace: "app", ServiceAccount: "client"}, "sidecar", ""),
		"db-0.db.app.svc.cluster.local db-0.db [VIP]",
		"db.app.svc.cluster.local db [VIP]",
		"ratings.app.svc.cluster.local ratings [10.92.0.14]",
		"reviews.app.svc.cluster.local reviews [10.92.0.10]",
		"reviews.app.svc.clusterset.local  [VIP]")
	if st := w.server.Status(); len(st.Exports) != 1 || st.Exports[0].Cluster != "west" || st.Exports[0].Conditions[0].Status != "True" {
		t.Errorf("exports: %+v", st.Exports)
	}
	w.write("west", "export.yaml", "# withdrawn\n")
	w.awaitNames(app, slices.Concat(kubernetes, private, both)...)

	w.edit("east", "headless.yaml", "10.1.0.20", "10.1.0.21")
	kubernetes[0], kubernetes[1] = strings.Replace(kubernetes[0], ".20", ".21", 1), strings.Replace(kubernetes[1], ".20", ".21", 1)
	w.awaitNames(app, slices.Concat(kubernetes, private, both)...)
	w.edit("east", "headless.yaml", `status: "True"`, `status: "False"`)
	w.awaitNames(app, slices.Concat(kubernetes[2:], private, both)...)
}
