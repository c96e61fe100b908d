package lb_test

import (
	"errors"
	"fmt"

	"github.com/eastwest-mesh/eastwest/lb"
)

// A client in zone a of cluster east, and a service that runs there and, behind
// a gateway, in cluster west.
func Example() {
	policy, err := lb.Traffic{Distribution: "PreferClose"}.Policy()
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := lb.New[string](lb.Config{
		Source: lb.Locality{Network: "east-net", Cluster: "east", Zone: "a"},
		Policy: policy,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = b.Update([]lb.Target[string]{
		{Value: "10.1.0.10:8080", Key: "east/pod-1", Weight: 1,
			Locality: lb.Locality{Network: "east-net", Cluster: "east", Zone: "a"}},
		{Value: "west gateway", Key: "west/reviews", Weight: 5,
			Locality: lb.Locality{Network: "west-net", Cluster: "west"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := b.Pick(lb.Request{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Value)
	p.Done(lb.Outcome{}) // when the connection has ended
	// Output: 10.1.0.10:8080
}

// Before any byte has moved, a connection that fails can be tried elsewhere:
// first with the same rank, then with the next.
func ExampleBalancer_Pick_retry() {
	b, _ := lb.New[string](lb.Config{
		Source: lb.Locality{Network: "east-net"},
		Policy: lb.Policy{Mode: lb.Failover, Preferences: []lb.Scope{lb.Network}},
	})
	b.Update([]lb.Target[string]{
		{Value: "local pod", Locality: lb.Locality{Network: "east-net"}, Weight: 1},
		{Value: "west gateway", Locality: lb.Locality{Network: "west-net"}, Weight: 3},
	})
	dial := func(address string) error {
		if address == "local pod" {
			return errors.New("connection refused")
		}
		return nil
	}

	var tried []lb.ID
	for {
		p, err := b.Pick(lb.Request{Exclude: tried})
		if err != nil {
			fmt.Println(err)
			return
		}
		if err := dial(p.Value); err != nil {
			fmt.Printf("%s: %v\n", p.Value, err)
			p.Done(lb.Outcome{Err: err})
			tried = append(tried, p.ID)
			continue
		}
		fmt.Printf("%s: connected\n", p.Value)
		p.Done(lb.Outcome{})
		return
	}
	// Output:
	// local pod: connection refused
	// west gateway: connected
}

// One switch keeps all balancers away from a cluster.
func ExampleDrainSet() {
	drains := &lb.DrainSet{}
	b, _ := lb.New[string](lb.Config{Drains: drains})
	b.Update([]lb.Target[string]{
		{Value: "east pod", Locality: lb.Locality{Cluster: "east"}, Weight: 1},
		{Value: "west pod", Locality: lb.Locality{Cluster: "west"}, Weight: 1},
	})
	drains.Add(lb.Drain{Cluster: "west"})
	for _, r := range b.Explain() {
		fmt.Printf("%s: %v, %.0f%%\n", r.Target.Value, r.Verdict, 100*r.Share)
	}
	// Output:
	// east pod: InUse, 100%
	// west pod: Drained, 0%
}

// A Pick that finds nothing says why.
func ExampleNoTargetError() {
	policy, _ := lb.Traffic{InternalLocal: true}.Policy()
	b, _ := lb.New[string](lb.Config{Source: lb.Locality{Node: "worker-1"}, Policy: policy})
	b.Update([]lb.Target[string]{
		{Value: "pod-1", Locality: lb.Locality{Node: "worker-1"}, Weight: 1, Health: lb.Unhealthy},
		{Value: "pod-2", Locality: lb.Locality{Node: "worker-2"}, Weight: 1},
	})
	_, err := b.Pick(lb.Request{})
	fmt.Println(errors.Is(err, lb.ErrNoTarget))
	fmt.Println(err)
	// Output:
	// true
	// lb: no target: none matches (policy Strict[Node], 2 targets, 1 unhealthy, 1 not matching)
}
