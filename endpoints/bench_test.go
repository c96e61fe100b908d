package endpoints_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// benchMesh returns a mesh of clusters with a network, a gateway and a view each, and the workloads of one
// cluster.
func benchMesh(b *testing.B, clusters, services, pods int) (*endpoints.Mesh, []*endpoints.Workload) {
	b.Helper()
	m := endpoints.New(endpoints.Config{})
	var first []*endpoints.Workload
	for c := range clusters {
		id := fmt.Sprintf("cluster%d", c)
		if err := m.SetCluster(endpoints.Cluster{ID: id, Network: id + "-net", Local: c == 0}); err != nil {
			b.Fatal(err)
		}
		ch := benchFacts(id, services, pods/clusters)
		if c == 0 {
			first = ch.Workloads
		}
		if err := m.Apply(ch); err != nil {
			b.Fatal(err)
		}
	}
	return m, first
}

func benchFacts(cluster string, services, pods int) endpoints.Change {
	ch := endpoints.Change{Cluster: cluster, Resync: true}
	ch.Gateways = []*endpoints.Gateway{{Namespace: "istio-system", Name: "ew", Addresses: []netip.Addr{netip.MustParseAddr("172.18.0.1")}}}
	ports := []endpoints.Port{{ServicePort: 80, TargetPort: 8080}}
	for s := range services {
		hostname := fmt.Sprintf("svc%d.app.svc.cluster.local", s)
		ch.Services = append(ch.Services, &endpoints.Service{
			Name: fmt.Sprintf("svc%d", s), Namespace: "app", Hostname: hostname, Scope: endpoints.ScopeGlobal, Ports: ports,
			Addresses: []endpoints.NetworkAddress{endpoints.HostAddress(cluster+"-net", netip.AddrFrom4([4]byte{10, 96, byte(s >> 8), byte(s)}))},
		})
		memberships := []endpoints.ServicePorts{{Service: "app/" + hostname, Ports: ports}}
		account := fmt.Sprintf("svc%d", s)
		for p := range pods {
			n := s*pods + p
			ch.Workloads = append(ch.Workloads, benchPod(cluster, fmt.Sprintf("svc%d-%d", s, p), n, account, memberships))
		}
	}
	return ch
}

func benchPod(cluster, name string, n int, account string, memberships []endpoints.ServicePorts) *endpoints.Workload {
	return &endpoints.Workload{
		UID: cluster + "//Pod/app/" + name, Name: name, Namespace: "app", Cluster: cluster, Network: cluster + "-net",
		ServiceAccount: account, CanonicalName: account, WorkloadName: account, Type: endpoints.Pod, Tunnel: endpoints.TunnelHBONE,
		Node: fmt.Sprintf("node%d", n%100), Locality: endpoints.Locality{Region: "r1", Zone: "z1"},
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})}, Services: memberships,
	}
}

// BenchmarkPodChange changes the health of one pod: merge, and all views of all clusters.
func BenchmarkPodChange(b *testing.B) {
	for _, size := range []struct{ clusters, services, pods int }{{1, 100, 100}, {1, 1000, 1000}, {10, 100, 100}, {10, 100, 1000}, {100, 100, 1000}} {
		b.Run(fmt.Sprintf("clusters=%d/workloads=%d", size.clusters, size.services*size.pods), func(b *testing.B) {
			m, workloads := benchMesh(b, size.clusters, size.services, size.pods)
			for c := range size.clusters {
				id := fmt.Sprintf("cluster%d", c)
				v := m.View(endpoints.Client{Network: id + "-net", Cluster: id})
				b.Cleanup(func() { v.Close() })
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				w := *workloads[i*31%len(workloads)]
				if i/len(workloads)%2 == 0 { // at first all are healthy
					w.Health = endpoints.Unhealthy
				}
				if err := m.Apply(endpoints.Change{Cluster: w.Cluster, Workloads: []*endpoints.Workload{&w}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFirstBuild merges everything that clusters tell, and builds the view of one.
func BenchmarkFirstBuild(b *testing.B) {
	for _, size := range []struct{ clusters, services, pods int }{{1, 100, 100}, {1, 100, 1000}, {10, 100, 1000}, {100, 100, 1000}, {1, 1000, 1000}} {
		n := size.services * size.pods
		b.Run(fmt.Sprintf("clusters=%d/workloads=%d", size.clusters, n), func(b *testing.B) {
			var retained float64
			b.ReportAllocs()
			for range b.N {
				b.StopTimer()
				before := heap()
				m := endpoints.New(endpoints.Config{})
				var changes []endpoints.Change
				for c := range size.clusters {
					id := fmt.Sprintf("cluster%d", c)
					if err := m.SetCluster(endpoints.Cluster{ID: id, Network: id + "-net", Local: c == 0}); err != nil {
						b.Fatal(err)
					}
					changes = append(changes, benchFacts(id, size.services, size.pods/size.clusters))
				}
				b.StartTimer()
				if err := m.Apply(changes...); err != nil {
					b.Fatal(err)
				}
				v := m.View(endpoints.Client{Network: "cluster0-net", Cluster: "cluster0"})
				b.StopTimer()
				changes = nil
				retained = float64(heap()-before) / float64(n)
				runtime.KeepAlive(m)
				v.Close()
				b.StartTimer()
			}
			b.ReportMetric(retained, "B/workload") // of all that is kept: facts, groups and the view
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func benchIndex(workloads int) (*endpoints.Index, endpoints.Change) {
	ch := benchFacts("east", max(1, workloads/1000), min(workloads, 1000))
	var d endpoints.Delta
	for _, s := range ch.Services {
		d.Upserts = append(d.Upserts, endpoints.Resource{Service: s})
	}
	for _, w := range ch.Workloads {
		d.Upserts = append(d.Upserts, endpoints.Resource{Workload: w})
	}
	return (*endpoints.Index)(nil).Apply(d), ch
}

// BenchmarkLookup looks for random keys; "map" is a plain Go map of the same keys.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		index, ch := benchIndex(n)
		rng := rand.New(rand.NewPCG(1, 1))
		rng.Shuffle(len(ch.Workloads), func(i, j int) { ch.Workloads[i], ch.Workloads[j] = ch.Workloads[j], ch.Workloads[i] })
		run := func(name string, lookup func(i int) bool) {
			b.Run(fmt.Sprintf("%s/workloads=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					if !lookup(i % n) {
						b.Fatal("not found")
					}
				}
			})
		}
		type key struct {
			network string
			addr    netip.Addr
		}
		plain := make(map[key]*endpoints.Workload)
		for _, w := range ch.Workloads {
			plain[key{w.Network, w.Addresses[0]}] = w
		}
		run("addr/map", func(i int) bool { return plain[key{"east-net", ch.Workloads[i].Addresses[0]}] != nil })
		run("addr", func(i int) bool { return index.WorkloadByAddr("east-net", ch.Workloads[i].Addresses[0]) != nil })
		run("uid", func(i int) bool { return index.Workload(ch.Workloads[i].UID) != nil })
		run("vip", func(i int) bool {
			s := ch.Services[i%len(ch.Services)]
			return index.ServiceByAddr("east-net", s.Addresses[0].Addr(), "other") != nil
		})
		run("hostname", func(i int) bool {
			return index.ServiceByHostname(ch.Services[i%len(ch.Services)].Hostname, "other") != nil
		})
	}
}

// BenchmarkIndexApply changes one workload of an index.
func BenchmarkIndexApply(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("workloads=%d", n), func(b *testing.B) {
			index, ch := benchIndex(n)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				w := *ch.Workloads[i*31%n]
				w.Health = endpoints.Health(i & 1)
				index = index.Apply(endpoints.Delta{Upserts: []endpoints.Resource{{Workload: &w}}})
			}
		})
	}
}

// BenchmarkIndexBuild builds an index from nothing.
func BenchmarkIndexBuild(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("workloads=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var retained float64
			for range b.N {
				b.StopTimer()
				ch := benchFacts("east", n/100, 100)
				var d endpoints.Delta
				for _, w := range ch.Workloads {
					d.Upserts = append(d.Upserts, endpoints.Resource{Workload: w})
				}
				before := heap()
				b.StartTimer()
				index := (*endpoints.Index)(nil).Apply(d)
				b.StopTimer()
				retained = float64(heap()-before) / float64(n)
				runtime.KeepAlive(index)
				runtime.KeepAlive(d)
				b.StartTimer()
			}
			b.ReportMetric(retained, "B/workload") // of the index, without the workloads
		})
	}
}
