package endpoints_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// slowIndex answers as an Index should, by looking at everything.
type slowIndex struct {
	services  map[string]*endpoints.Service
	workloads map[string]*endpoints.Workload
}

func (x *slowIndex) apply(d endpoints.Delta) {
	for _, name := range d.Removed {
		delete(x.services, name)
		delete(x.workloads, name)
	}
	for _, r := range d.Upserts {
		if r.Service != nil {
			x.services[r.Name()] = r.Service
		} else {
			x.workloads[r.Name()] = r.Workload
		}
	}
}

// best returns the best of the services that match; more is called for what outranks being canonical.
func (x *slowIndex) best(namespace string, match func(*endpoints.Service) bool, more func(*endpoints.Service) int) *endpoints.Service {
	var all []*endpoints.Service
	for _, key := range slices.Sorted(maps.Keys(x.services)) {
		s := x.services[key]
		if match(s) && (s.Visibility == endpoints.VisiblePublic || s.Namespace == namespace) {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return nil
	}
	not := func(b bool) int {
		if b {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all, func(a, b *endpoints.Service) int {
		return cmp.Or(
			cmp.Compare(not(a.Namespace == namespace), not(b.Namespace == namespace)),
			cmp.Compare(more(b), more(a)),
			cmp.Compare(not(a.Canonical), not(b.Canonical)))
	})
	return all[0]
}

func (x *slowIndex) byAddr(network string, addr netip.Addr, namespace string) *endpoints.Service {
	longest := func(s *endpoints.Service, hosts bool) int {
		bits := -1
		for _, a := range s.Addresses {
			if a.Network == network && a.Prefix.Masked().Contains(addr) && a.IsHost() == hosts {
				bits = max(bits, a.Prefix.Bits())
			}
		}
		return bits
	}
	for _, hosts := range []bool{true, false} {
		more := func(s *endpoints.Service) int { return longest(s, hosts) }
		if s := x.best(namespace, func(s *endpoints.Service) bool { return more(s) >= 0 }, more); s != nil {
			return s
		}
	}
	return nil
}

func (x *slowIndex) byHostname(hostname, namespace string) *endpoints.Service {
	return x.best(namespace, func(s *endpoints.Service) bool { return s.Hostname == hostname }, func(*endpoints.Service) int { return 0 })
}

func (x *slowIndex) workload(match func(*endpoints.Workload) bool) *endpoints.Workload {
	rank := func(w *endpoints.Workload) int {
		if strings.Contains(w.UID, "//Pod/") {
			return 0
		}
		return 2 - int(w.Tunnel)
	}
	var best *endpoints.Workload
	for _, uid := range slices.Sorted(maps.Keys(x.workloads)) {
		if w := x.workloads[uid]; match(w) && (best == nil || rank(w) < rank(best)) {
			best = w
		}
	}
	return best
}

// randomDelta makes small changes to a small set of names, so that they meet often.
func randomDelta(rng *rand.Rand) endpoints.Delta {
	var d endpoints.Delta
	for range 1 + rng.IntN(4) {
		r := randomResource(rng)
		if rng.IntN(3) == 0 {
			d.Removed = append(d.Removed, r.Name())
			continue
		}
		d.Upserts = append(d.Upserts, r)
	}
	return d
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func randomResource(rng *rand.Rand) endpoints.Resource {
	addr := func() netip.Addr {
		return pick(rng, netip.AddrFrom4([4]byte{10, 0, byte(rng.IntN(2)), byte(rng.IntN(4))}), netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", rng.IntN(3))))
	}
	if rng.IntN(2) == 0 {
		s := &endpoints.Service{
			Namespace: pick(rng, "a", "b", "c"), Hostname: pick(rng, "x.example", "y.example"),
			Canonical: rng.IntN(3) == 0, Visibility: endpoints.Visibility(rng.IntN(2)),
		}
		for range rng.IntN(4) {
			a := addr()
			bits := pick(rng, a.BitLen(), a.BitLen(), 24, 31, 8, 0)
			s.Addresses = append(s.Addresses, endpoints.NetworkAddress{Network: pick(rng, "", "n1"), Prefix: netip.PrefixFrom(a, bits)})
		}
		return endpoints.Resource{Service: s}
	}
	w := &endpoints.Workload{
		UID:       pick(rng, "c1//Pod/a/", "c1/vm/a/") + fmt.Sprint(rng.IntN(5)),
		Namespace: "a", Hostname: pick(rng, "", "h1", "h2"), Network: pick(rng, "", "n1"), Node: pick(rng, "", "node1", "node2"),
		Addresses: []netip.Addr{addr(), addr()},
		Tunnel:    endpoints.TunnelProtocol(rng.IntN(2)), NetworkMode: endpoints.NetworkMode(rng.IntN(4) / 3), Health: endpoints.Health(rng.IntN(2)),
	}
	for _, key := range []string{"a/x.example", "b/y.example"} {
		if rng.IntN(2) == 0 {
			w.Services = append(w.Services, endpoints.ServicePorts{Service: key, Ports: []endpoints.Port{{ServicePort: uint16(1 + rng.IntN(3))}}})
		}
	}
	return endpoints.Resource{Workload: w}
}

// TestIndexAgainstOracle applies random deltas and asks every question there is after each.
func TestIndexAgainstOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	slow := &slowIndex{map[string]*endpoints.Service{}, map[string]*endpoints.Workload{}}
	var index *endpoints.Index
	slow.check(t, index)
	for range 1500 {
		d := randomDelta(rng)
		index = index.Apply(d)
		slow.apply(d)
		slow.check(t, index)
	}
}

func (x *slowIndex) check(t *testing.T, index *endpoints.Index) {
	t.Helper()
	service := func(e *endpoints.ServiceEntry) *endpoints.Service {
		if e == nil {
			return nil
		}
		return e.Service
	}
	for _, network := range []string{"", "n1", "nowhere"} {
		for _, a := range []string{"10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.1.3", "11.0.0.0", "2001:db8::1", "2001:db9::"} {
			addr := netip.MustParseAddr(a)
			for _, namespace := range []string{"a", "b", "elsewhere"} {
				if got, want := service(index.ServiceByAddr(network, addr, namespace)), x.byAddr(network, addr, namespace); got != want {
					t.Fatalf("ServiceByAddr(%q, %s, %s) = %+v, want %+v", network, a, namespace, got, want)
				}
			}
			has := func(w *endpoints.Workload) bool {
				return w.Network == network && w.NetworkMode == endpoints.StandardNetwork && slices.Contains(w.Addresses, addr)
			}
			if got, want := index.WorkloadByAddr(network, addr), x.workload(has); got != want {
				t.Fatalf("WorkloadByAddr(%q, %s) = %+v, want %+v", network, a, got, want)
			}
		}
	}
	for _, host := range []string{"x.example", "y.example", "z.example"} {
		for _, namespace := range []string{"a", "c", "elsewhere"} {
			if got, want := service(index.ServiceByHostname(host, namespace)), x.byHostname(host, namespace); got != want {
				t.Fatalf("ServiceByHostname(%s, %s) = %+v, want %+v", host, namespace, got, want)
			}
		}
	}
	for _, host := range []string{"h1", "h2", "h3"} {
		want := x.workload(func(w *endpoints.Workload) bool { return w.Namespace == "a" && w.Hostname == host })
		if got := index.WorkloadByHostname("a", host); got != want {
			t.Fatalf("WorkloadByHostname(%s) = %+v, want %+v", host, got, want)
		}
	}
	x.checkSets(t, index)
}

func (x *slowIndex) checkSets(t *testing.T, index *endpoints.Index) {
	t.Helper()
	for _, node := range []string{"node1", "node2"} {
		want := 0
		for _, w := range x.workloads {
			if w.Node == node {
				want++
			}
		}
		got := 0
		for w := range index.NodeWorkloads(node) {
			if x.workloads[w.UID] != w || w.Node != node {
				t.Fatalf("NodeWorkloads(%s) yields %+v", node, w)
			}
			got++
		}
		if got != want {
			t.Fatalf("NodeWorkloads(%s) yields %d workloads, want %d", node, got, want)
		}
	}
	services := 0
	for e := range index.Services() {
		services++
		if x.services[e.Key()] != e.Service || index.Service(e.Key()) != e {
			t.Fatalf("Services yields %+v", e)
		}
		want := 0
		for _, w := range x.workloads {
			if _, ok := w.Ports(e.Key()); ok {
				want++
			}
		}
		for ep := range e.Endpoints() {
			if ports, ok := ep.Workload.Ports(e.Key()); !ok || !slices.Equal(ports, ep.Ports) || x.workloads[ep.Workload.UID] != ep.Workload {
				t.Fatalf("%s has endpoint %+v", e.Key(), ep)
			}
			want--
		}
		if want != 0 {
			t.Fatalf("%s misses %d endpoints", e.Key(), want)
		}
	}
	workloads := 0
	for w := range index.Workloads() {
		workloads++
		if index.Workload(w.UID) != w {
			t.Fatalf("Workload(%s) is another one", w.UID)
		}
	}
	if services != len(x.services) || workloads != len(x.workloads) {
		t.Fatalf("%d services and %d workloads, want %d and %d", services, workloads, len(x.services), len(x.workloads))
	}
}

// TestIndexIsImmutable reads an old index while newer ones are made from it.
func TestIndexIsImmutable(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	slow := &slowIndex{map[string]*endpoints.Service{}, map[string]*endpoints.Workload{}}
	var store endpoints.Store
	for range 200 {
		d := randomDelta(rng)
		store.Apply(d)
		slow.apply(d)
	}
	old := store.Index()
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 500 {
			store.Apply(randomDelta(rng))
		}
	})
	wg.Go(func() {
		for range 50 {
			slow.check(t, old)
		}
	})
	wg.Wait()
	slow.check(t, old)
}

// TestEntryIdentity: a service's entry is another one exactly if something about it changed, so that
// consumers can compare pointers.
func TestEntryIdentity(t *testing.T) {
	backend := func(uid, service string) endpoints.Resource {
		return endpoints.Resource{Workload: &endpoints.Workload{UID: uid, Services: []endpoints.ServicePorts{{Service: service}}}}
	}
	service := func(host string) endpoints.Resource {
		return endpoints.Resource{Service: &endpoints.Service{Namespace: "a", Hostname: host}}
	}
	before := (*endpoints.Index)(nil).Apply(endpoints.Delta{Upserts: []endpoints.Resource{service("x"), service("y"), backend("1", "a/x"), backend("2", "a/y")}})
	after := before.Apply(endpoints.Delta{Upserts: []endpoints.Resource{backend("3", "a/x")}})
	if before.Service("a/x") == after.Service("a/x") || after.Service("a/x").Len() != 2 || before.Service("a/x").Len() != 1 {
		t.Error("the service that got an endpoint has the same entry")
	}
	if before.Service("a/y") != after.Service("a/y") {
		t.Error("a service that did not change has another entry")
	}
}

// TestEndpointsBeforeService: workloads may arrive before the service that they back, and outlive it.
func TestEndpointsBeforeService(t *testing.T) {
	w := endpoints.Resource{Workload: &endpoints.Workload{UID: "1", Services: []endpoints.ServicePorts{{Service: "a/x"}}}}
	s := endpoints.Resource{Service: &endpoints.Service{Namespace: "a", Hostname: "x"}}
	index := (*endpoints.Index)(nil).Apply(endpoints.Delta{Upserts: []endpoints.Resource{w}})
	if index.Service("a/x") != nil || index.ServiceByHostname("x", "a") != nil {
		t.Error("a service that only a workload speaks of is there")
	}
	if index = index.Apply(endpoints.Delta{Upserts: []endpoints.Resource{s}}); index.Service("a/x").Len() != 1 {
		t.Error("the service does not have the workload that came first")
	}
	index = index.Apply(endpoints.Delta{Removed: []string{"a/x"}})
	if index = index.Apply(endpoints.Delta{Upserts: []endpoints.Resource{s}}); index.Service("a/x").Len() != 1 {
		t.Error("the service that came back does not have its workload")
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	var index *endpoints.Index
	for range 300 {
		index = index.Apply(randomDelta(rng))
	}
	addr := netip.MustParseAddr("10.0.0.1")
	for name, lookup := range map[string]func(){
		"ServiceByAddr":     func() { index.ServiceByAddr("n1", addr, "elsewhere") },
		"ServiceByHostname": func() { index.ServiceByHostname("x.example", "a") },
		"WorkloadByAddr":    func() { index.WorkloadByAddr("n1", addr) },
		"Workload":          func() { index.Workload("c1//Pod/a/1") },
		"Service":           func() { index.Service("a/x.example") },
	} {
		if n := testing.AllocsPerRun(100, lookup); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
