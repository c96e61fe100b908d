package endpoints_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// exampleMesh has a service in two clusters whose pods have the same addresses.
func exampleMesh() *endpoints.Mesh {
	mesh := endpoints.New(endpoints.Config{})
	for i, id := range []string{"east", "west"} {
		err := mesh.SetCluster(endpoints.Cluster{ID: id, Network: id, Local: id == "east"})
		if err != nil {
			fmt.Println(err)
		}
		err = mesh.Apply(endpoints.Change{
			Cluster: id,
			Services: []*endpoints.Service{{
				Name: "reviews", Namespace: "app", Hostname: "reviews.app.svc.cluster.local", Scope: endpoints.ScopeGlobal,
				Addresses: []endpoints.NetworkAddress{endpoints.HostAddress(id, netip.AddrFrom4([4]byte{10, 91 + byte(i), 0, 1}))},
				Ports:     []endpoints.Port{{ServicePort: 80, TargetPort: 8080}},
			}},
			Workloads: []*endpoints.Workload{{
				UID: id + "//Pod/app/reviews-a", Name: "reviews-a", Namespace: "app", ServiceAccount: "reviews",
				Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.10")}, Tunnel: endpoints.TunnelHBONE,
				Services: []endpoints.ServicePorts{{
					Service: "app/reviews.app.svc.cluster.local",
					Ports:   []endpoints.Port{{ServicePort: 80, TargetPort: 8080}},
				}},
			}},
			Gateways: []*endpoints.Gateway{{
				Namespace: "istio-system", Name: "eastwest",
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{172, 18, 1 + byte(i), 100})},
			}},
		})
		if err != nil {
			fmt.Println(err)
		}
	}
	return mesh
}

// A control plane tells each client what it can reach: a pod of its own network by address, others through their gateway.
func ExampleMesh_View() {
	mesh := exampleMesh()
	view := mesh.View(endpoints.Client{Network: "east", Cluster: "east", Role: endpoints.NodeProxy})
	defer view.Close()
	for _, r := range view.Snapshot().Since(nil).Upserts {
		switch {
		case r.Service != nil:
			fmt.Println(r.Name(), r.Service.Addresses)
		case r.Workload.NetworkGateway != nil:
			fmt.Println(r.Workload.Cluster, "through", r.Workload.NetworkGateway, "capacity", r.Workload.Weight())
		default:
			fmt.Println(r.Name(), r.Workload.Addresses, r.Workload.Identity())
		}
	}
	// Output:
	// NetworkGateway/west/172.18.2.100/0 [172.18.2.100] spiffe://cluster.local/ns/istio-system/sa/eastwest
	// app/reviews.app.svc.cluster.local [east/10.91.0.1 west/10.92.0.1]
	// east//Pod/app/reviews-a [10.1.0.10] spiffe://cluster.local/ns/app/sa/reviews
	// west through west/172.18.2.100:15008 capacity 1
}

// A node proxy finds out what a connection is for.
func ExampleIndex() {
	mesh := exampleMesh()
	view := mesh.View(endpoints.Client{Network: "west", Cluster: "west"})
	defer view.Close()
	var store endpoints.Store // in a real proxy, deltas come over the wire
	index := store.Apply(view.Snapshot().Since(nil))

	service := index.ServiceByAddr("west", netip.MustParseAddr("10.92.0.1"), "app")
	fmt.Println(service.Hostname, "has", service.Len(), "endpoints")
	fmt.Println(index.WorkloadByAddr("west", netip.MustParseAddr("10.1.0.10")).UID)
	// Output:
	// reviews.app.svc.cluster.local has 2 endpoints
	// west//Pod/app/reviews-a
}

// A consumer follows a view.
func ExampleView_Watch() {
	mesh := exampleMesh()
	view := mesh.View(endpoints.Client{Network: "east", Cluster: "east"})
	seen := view.Snapshot()
	mesh.RemoveCluster("west")
	view.Close() // so that Watch ends
	for _, delta := range view.Watch(context.Background(), seen) {
		fmt.Println(len(delta.Upserts), "changed, gone:")
		for _, name := range delta.Removed {
			fmt.Println(name)
		}
	}
	// Output:
	// 1 changed, gone:
	// NetworkGateway/west/172.18.2.100/0
	// west/SplitHorizonWorkload/istio-system/eastwest/172.18.2.100/app/reviews.app.svc.cluster.local/west
}

// Clusters may disagree about a service: one copy wins, and it is said why.
func ExampleMesh_Conflicts() {
	mesh := exampleMesh()
	err := mesh.Apply(endpoints.Change{Cluster: "west", Services: []*endpoints.Service{{
		Name: "reviews", Namespace: "app", Hostname: "reviews.app.svc.cluster.local", Scope: endpoints.ScopeGlobal,
		Addresses: []endpoints.NetworkAddress{endpoints.HostAddress("west", netip.MustParseAddr("10.92.0.1"))},
		Ports:     []endpoints.Port{{ServicePort: 80, TargetPort: 9090}},
	}}})
	if err != nil {
		fmt.Println(err)
	}
	for _, c := range mesh.Conflicts() {
		fmt.Printf("%s of %s: %v; that of %s is used (%s)\n", c.Field, c.Service, c.Values, c.Winner, c.Rule)
	}
	// Output:
	// Ports of app/reviews.app.svc.cluster.local: [{east 80:8080/UNKNOWN} {west 80:9090/UNKNOWN}]; that of east is used (local copy)
}
