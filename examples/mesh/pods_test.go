package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// statefulSet is two pods of a headless service that is global, the first of
// them at a last byte of an address.
func statefulSet(cluster string, ip int) string {
	var b strings.Builder
	for i := range 2 {
		fmt.Fprintf(&b, `apiVersion: v1
kind: Pod
metadata:
  name: db-%[1]d
  namespace: app
  labels: {app: db}
  annotations: {ambient.istio.io/redirection: enabled}
spec:
  nodeName: %[2]s-node
  serviceAccountName: db
  hostname: db-%[1]d
  subdomain: db
  containers: [{name: db, image: example.com/db, ports: [{name: http, containerPort: 8080}]}]
status:
  phase: Running
  podIP: 10.1.0.%[3]d
  podIPs: [{ip: 10.1.0.%[3]d}]
  conditions: [{type: Ready, status: "True"}]
---
`, i, cluster, ip+i)
	}
	b.WriteString(`apiVersion: v1
kind: Service
metadata: {name: db, namespace: app, labels: {istio.io/global: "true"}}
spec:
  clusterIP: None
  clusterIPs: [None]
  selector: {app: db}
  ports: [{name: http, port: 80, targetPort: http}]
`)
	return b.String()
}

const exportOfDB = `---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {name: db, namespace: app}
`

// TestPodByNameAcrossNetworks: a client asks for single pods of a StatefulSet in
// the other cluster, whose addresses mean something else where it is. Each name
// leads through a node proxy, the other network's gateway and another node proxy
// to that pod.
func TestPodByNameAcrossNetworks(t *testing.T) {
	for _, tt := range []struct {
		name    string
		objects map[string]string // by cluster
		answers map[string]answer // by host
	}{
		{"only there", map[string]string{west: statefulSet(west, 20)}, map[string]answer{
			"db-0.db.app.svc.cluster.local": {west, "db-0"},
			"db-1.db.app.svc.cluster.local": {west, "db-1"},
		}},
		// The client's own cluster has pods of the same names, so that those of the
		// other one need another, which names their cluster.
		{"in both, exported", map[string]string{east: statefulSet(east, 30) + exportOfDB, west: statefulSet(west, 20) + exportOfDB}, map[string]answer{
			"db-0.db.app.svc.cluster.local":         {east, "db-0"},
			"db-0.west.db.app.svc.clusterset.local": {west, "db-0"},
			"db-1.west.db.app.svc.clusterset.local": {west, "db-1"},
			"db-1.east.db.app.svc.clusterset.local": {east, "db-1"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			config, err := options{}.clusters()
			if err != nil {
				t.Fatal(err)
			}
			w, err := newWorld(ctx, config, settings{rewrite: func(dirs map[string]workdir) error {
				for cluster, objects := range tt.objects {
					if err := os.WriteFile(filepath.Join(string(dirs[cluster]), "db.yaml"), []byte(objects), 0o600); err != nil {
						return err
					}
				}
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			caller, err := w.client(callerPod)
			if err != nil {
				t.Fatal(err)
			}
			for host, want := range tt.answers {
				if err := w.await(ctx, "the name "+host, func() bool {
					s := w.clusters[east].state.Index().ServiceByHostname(host, namespace)
					return s != nil && s.Len() > 0
				}); err != nil {
					t.Fatal(err)
				}
				w.events.reset()
				const requests = 8 // a wrong way that is taken by chance is found
				for range requests {
					if got, err := caller.get(ctx, "http://"+host); err != nil || got != want {
						t.Fatalf("%s answers as %+v, %v; want %+v", host, got, err, want)
					}
				}
				if err := w.await(ctx, "all connections to have ended", func() bool { return len(w.events.outbound(east)) == requests }); err != nil {
					t.Fatal(err)
				}
				for _, c := range w.events.outbound(east) {
					if crossed := len(c.Hops) == 2; crossed != (want.Cluster == west) {
						t.Errorf("%s was reached by %d hops", host, len(c.Hops))
					}
				}
			}
		})
	}
}
