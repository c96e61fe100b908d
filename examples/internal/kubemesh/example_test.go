package kubemesh_test

import (
	"fmt"
	"testing/fstest"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
)

// The objects of a cluster become a view of the mesh.
func ExampleConvert() {
	files := fstest.MapFS{"app.yaml": {Data: []byte(`
apiVersion: v1
kind: Namespace
metadata: {name: app}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: app}
spec: {clusterIP: 10.91.0.10, selector: {app: reviews}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-1, namespace: app, labels: {app: reviews}}
spec: {nodeName: n1, containers: [{name: reviews}]}
status: {podIP: 10.1.0.10, conditions: [{type: Ready, status: "True"}]}
`)}}
	snapshot, err := kubefile.Loader{}.LoadFS(files, "east")
	if err != nil {
		panic(err)
	}
	facts, err := kubemesh.Convert(kubemesh.Config{Cluster: "east", Network: "net"}, snapshot)
	if err != nil {
		panic(err)
	}
	for _, w := range facts.Warnings {
		fmt.Println(w)
	}
	mesh := endpoints.New(endpoints.Config{})
	if err := mesh.SetCluster(facts.Cluster); err != nil {
		panic(err)
	}
	if err := mesh.Apply(facts.Since(nil)); err != nil {
		panic(err)
	}
	view := mesh.View(endpoints.Client{Network: "net", Cluster: "east"})
	defer view.Close()
	for r := range view.Snapshot().All() {
		fmt.Println(r.Name())
	}
	// Unordered output:
	// east/app.yaml:11:1: Pod app/reviews-1: its Node n1 is not there, so its locality is not known
	// app/reviews.app.svc.cluster.local
	// east//Pod/app/reviews-1
}
