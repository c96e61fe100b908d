package endpoints

import (
	"iter"
	"net/netip"
	"sync/atomic"
)

// An Index finds services and workloads by name and by address. It is immutable: Apply returns another one,
// at a cost that depends on what changed. A nil Index is an empty one. Lookups allocate nothing and take no lock.
type Index struct{}

// Apply returns x with d applied.
func (x *Index) Apply(d Delta) *Index { panic("not implemented") }

// Service returns the service named "namespace/hostname", or nil.
func (x *Index) Service(key string) *ServiceEntry { panic("not implemented") }

// ServiceByAddr returns the service that addr on a network belongs to, as a client in that namespace sees it, or nil. A single address wins over a range.
// Of several services, the one in the client's namespace wins, then the longest prefix, then the canonical one, then the first by name.
func (x *Index) ServiceByAddr(network string, addr netip.Addr, clientNamespace string) *ServiceEntry {
	panic("not implemented")
}

// ServiceByHostname returns the service that a client in that namespace means by a hostname, or nil: the one in its namespace, then
// the canonical one, then the first by name.
func (x *Index) ServiceByHostname(hostname, clientNamespace string) *ServiceEntry {
	panic("not implemented")
}

// ServicesByHostname yields all services of a hostname, sorted by namespace.
func (x *Index) ServicesByHostname(hostname string) iter.Seq[*ServiceEntry] { panic("not implemented") }

// Workload returns the workload of that UID, or nil.
func (x *Index) Workload(uid string) *Workload { panic("not implemented") }

// WorkloadByAddr returns the workload that has addr on a network, or nil. Workloads on their host's network cannot be found so.
// Of several, a pod wins, then one that speaks HBONE, then the first by UID.
func (x *Index) WorkloadByAddr(network string, addr netip.Addr) *Workload { panic("not implemented") }

// WorkloadByHostname returns the workload of that namespace and hostname, or nil; of several, the first by UID.
func (x *Index) WorkloadByHostname(namespace, hostname string) *Workload { panic("not implemented") }

// NodeWorkloads yields the workloads on a node, in no particular order.
func (x *Index) NodeWorkloads(node string) iter.Seq[*Workload] { panic("not implemented") }

// Services yields all services, in no particular order.
func (x *Index) Services() iter.Seq[*ServiceEntry] { panic("not implemented") }

// Workloads yields all workloads, in no particular order.
func (x *Index) Workloads() iter.Seq[*Workload] { panic("not implemented") }

// A ServiceEntry is a service with what backs it. It is immutable: as long as an Index returns the same pointer, nothing about it changed.
type ServiceEntry struct {
	*Service
}

// Len returns the number of endpoints, healthy or not.
func (e *ServiceEntry) Len() int { panic("not implemented") }

// Endpoints yields all endpoints, healthy or not, in no particular order.
func (e *ServiceEntry) Endpoints() iter.Seq[Endpoint] { panic("not implemented") }

// An Endpoint is a workload as the backend of one service.
type Endpoint struct {
	Workload *Workload
	Ports    []Port
}

// A Store holds the current Index. Its zero value holds an empty one. It is safe for concurrent use.
type Store struct {
	current atomic.Pointer[Index]
}

// Index returns the current Index. It never blocks.
func (s *Store) Index() *Index { panic("not implemented") }

// Apply replaces the current Index by one with d applied, and returns that.
func (s *Store) Apply(d Delta) *Index { panic("not implemented") }
