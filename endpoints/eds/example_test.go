package eds_test

import (
	"fmt"
	"net/netip"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/eds"
)

func pod(cluster, network, name, addr string) *endpoints.Workload {
	return &endpoints.Workload{
		UID: cluster + "//Pod/app/" + name, Name: name, Namespace: "app", Cluster: cluster, Network: network,
		Addresses: []netip.Addr{netip.MustParseAddr(addr)},
		Services:  []endpoints.ServicePorts{{Service: "app/web.example", Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}}}},
	}
}

var web = &endpoints.Service{
	Name: "web", Namespace: "app", Hostname: "web.example", Scope: endpoints.ScopeGlobal,
	Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}},
}

func show(a *eds.Assignment) {
	fmt.Println(a.Cluster)
	for _, l := range a.Localities {
		for _, e := range l.Endpoints {
			fmt.Println(e.Address, "weight", e.Weight)
		}
	}
}

// A sidecar on network east sees the pods there, and the two gateways of network west for the pods there.
func Example() {
	facts := new(endpoints.Index).Apply(endpoints.Delta{Upserts: []endpoints.Resource{
		{Service: web},
		{Workload: pod("east", "east", "a", "10.0.0.1")},
		{Workload: pod("west", "west", "a", "10.0.0.1")},
		{Workload: pod("west", "west", "b", "10.0.0.2")},
		{Workload: pod("west", "west", "c", "10.0.0.3")},
	}})
	gateways := eds.NewGateways([]eds.Gateway{
		{Network: "west", Cluster: "west", SNIPort: 15443, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
		{Network: "west", Cluster: "west", SNIPort: 15443, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}},
	}, nil)
	service := facts.Service("app/web.example")
	a := gateways.For(eds.Client{Network: "east", Cluster: "east"}).Build(eds.Target{
		Service: service.Service, Port: 80, Endpoints: service.Endpoints(),
	})
	show(a)
	body, err := eds.Encode(a)
	if err != nil {
		fmt.Println(err)
		return
	}
	received, err := eds.Decode(a.Cluster, body)
	fmt.Println(received.Localities[0].Weight, err)
	// Output:
	// outbound|80||web.example
	// 10.0.0.1:8080 weight 2
	// 192.0.2.1:15443 weight 3
	// 192.0.2.2:15443 weight 3
	// 8 <nil>
}

// A view of a mesh knows the way to other networks by itself.
func ExampleBuilder_Build_view() {
	mesh := endpoints.New(endpoints.Config{})
	for _, name := range []string{"east", "west"} {
		if err := mesh.SetCluster(endpoints.Cluster{ID: name, Network: name}); err != nil {
			fmt.Println(err)
			return
		}
	}
	err := mesh.Apply(
		endpoints.Change{Cluster: "east", Services: []*endpoints.Service{web}, Workloads: []*endpoints.Workload{pod("east", "", "a", "10.0.0.1")}},
		endpoints.Change{
			Cluster: "west", Services: []*endpoints.Service{web},
			Workloads: []*endpoints.Workload{pod("west", "", "a", "10.0.0.1"), pod("west", "", "b", "10.0.0.2")},
			Gateways: []*endpoints.Gateway{{
				Namespace: "istio-system", Name: "eastwest", SNIPort: 15443, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
			}},
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	view := mesh.View(endpoints.Client{Network: "east", Cluster: "east", Role: endpoints.Sidecar})
	defer view.Close()
	service := new(endpoints.Index).Apply(view.Snapshot().Since(nil)).Service("app/web.example")
	show(eds.NewGateways(nil, nil).For(eds.Client{Network: "east", Cluster: "east"}).Build(eds.Target{
		Service: service.Service, Port: 80, Endpoints: service.Endpoints(),
	}))
	// Output:
	// outbound|80||web.example
	// 10.0.0.1:8080 weight 1
	// 192.0.2.1:15443 weight 2
}

// Gateways that are known by name are resolved before they are shown.
func ExampleResolver() {
	names := &eds.Resolver{}
	defer names.Close()
	names.Follow("gateway.west.example")
	gateways := func() *eds.Gateways {
		return eds.NewGateways([]eds.Gateway{{Network: "west", SNIPort: 15443, Hostnames: []string{"gateway.west.example"}}}, names.Addrs)
	}
	current := gateways() // and once more after each value of names.Changes()
	_ = current
}
