package endpoints

import (
	"iter"
	"net/netip"
	"strings"

	"github.com/eastwest-mesh/eastwest/internal/pmap"
)

// An Index finds services and workloads by name and by address. It is immutable: Apply returns another one,
// at a cost that depends on what changed. A nil Index is an empty one. Lookups take no lock, and those that
// return one thing allocate nothing.
type Index struct {
	services  pmap.Map[string, *ServiceEntry] // by key; also those that only workloads speak of
	workloads pmap.Set[*Workload]             // by UID

	networks      map[string]uint32 // number of each network seen
	vips          pmap.Map[addrKey, *serviceSet]
	prefixes      map[uint32]*prefixLengths // by addrKey.space: which lengths vips has
	hostnames     pmap.Map[string, *serviceSet]
	addrs         pmap.Set[*Workload]            // by each address; the best of those that share it
	shared        pmap.Map[addrOn, *workloadSet] // all of those, where there are several
	workloadHosts pmap.Map[string, *workloadSet] // by "namespace/hostname"
	nodes         pmap.Map[string, *nodeSet]
}

// A ServiceEntry is a service with what backs it. It is immutable: as long as an Index returns the same
// pointer, nothing about it changed.
type ServiceEntry struct {
	*Service
	key       string
	endpoints pmap.Set[*Workload] // by UID
}

// Len returns the number of endpoints, healthy or not.
func (e *ServiceEntry) Len() int { return e.endpoints.Len() }

// Endpoints yields all endpoints, healthy or not, in no particular order.
func (e *ServiceEntry) Endpoints() iter.Seq[Endpoint] {
	return func(yield func(Endpoint) bool) {
		for w := range e.endpoints.All() {
			ports, _ := w.Ports(e.key)
			if !yield(Endpoint{w, ports}) {
				return
			}
		}
	}
}

// An Endpoint is a workload as the backend of one service.
type Endpoint struct {
	Workload *Workload
	Ports    []Port
}

// Service returns the service named "namespace/hostname", or nil.
func (x *Index) Service(key string) *ServiceEntry {
	if x == nil {
		return nil
	}
	e, _ := x.services.Get(key)
	if e == nil || e.Service == nil {
		return nil
	}
	return e
}

// ServiceByAddr returns the service that an address on a network belongs to, as a client in that namespace
// sees it, or nil. A single address wins over a range. Of several services the one in the client's
// namespace wins, then the longest prefix, then the canonical one, then the first by name.
func (x *Index) ServiceByAddr(network string, addr netip.Addr, clientNamespace string) *ServiceEntry {
	if x == nil {
		return nil
	}
	id, ok := x.networks[network]
	if !ok {
		return nil
	}
	key := keyOf(id, addr)
	if set, _ := x.vips.Get(key); set != nil {
		if e := set.best(clientNamespace); e != nil {
			return e
		}
	}
	return x.serviceByRange(key, clientNamespace)
}

// serviceByRange looks for ranges around an address, longest first.
func (x *Index) serviceByRange(key addrKey, clientNamespace string) *ServiceEntry {
	lengths := x.prefixes[key.space]
	if lengths == nil {
		return nil
	}
	var found *ServiceEntry
	for bits := range lengths.descending() {
		set, _ := x.vips.Get(key.masked(bits))
		if set == nil {
			continue
		}
		e := set.best(clientNamespace)
		if e != nil && e.Namespace == clientNamespace {
			return e
		}
		if found == nil {
			found = e
		}
	}
	return found
}

// ServiceByHostname returns the service that a client in that namespace means by a hostname, or nil: the
// one in its namespace, then the canonical one, then the first by namespace.
func (x *Index) ServiceByHostname(hostname, clientNamespace string) *ServiceEntry {
	if x == nil {
		return nil
	}
	set, _ := x.hostnames.Get(hostname)
	return set.best(clientNamespace)
}

// ServicesByHostname yields all services of a hostname, whoever may see them, sorted by namespace.
func (x *Index) ServicesByHostname(hostname string) iter.Seq[*ServiceEntry] {
	return func(yield func(*ServiceEntry) bool) {
		if x == nil {
			return
		}
		set, _ := x.hostnames.Get(hostname)
		if set == nil {
			return
		}
		for _, e := range set.entries {
			if !yield(e) {
				return
			}
		}
	}
}

// Workload returns the workload of that UID, or nil.
func (x *Index) Workload(uid string) *Workload {
	if x == nil {
		return nil
	}
	return findWorkload(x.workloads, uid)
}

// WorkloadByAddr returns the workload that has an address on a network, or nil. One on its host's network
// cannot be found so. Of several a pod wins, then one that speaks HBONE, then the first by UID.
func (x *Index) WorkloadByAddr(network string, addr netip.Addr) *Workload {
	if x == nil {
		return nil
	}
	a := addrOn{network, addr.Unmap()}
	return x.addrs.Find(a.hash(), a.of)
}

// WorkloadByHostname returns the workload of that namespace and hostname, or nil; of several, it chooses as
// WorkloadByAddr does.
func (x *Index) WorkloadByHostname(namespace, hostname string) *Workload {
	if x == nil {
		return nil
	}
	set, _ := x.workloadHosts.Get(ServiceKey(namespace, hostname))
	return set.first()
}

// NodeWorkloads yields the workloads on a node, in no particular order.
func (x *Index) NodeWorkloads(node string) iter.Seq[*Workload] {
	return func(yield func(*Workload) bool) {
		if x == nil {
			return
		}
		if on, ok := x.nodes.Get(node); ok {
			on.workloads.All()(yield)
		}
	}
}

// Services yields all services, in no particular order.
func (x *Index) Services() iter.Seq[*ServiceEntry] {
	return func(yield func(*ServiceEntry) bool) {
		if x == nil {
			return
		}
		for _, e := range x.services.All() {
			if e.Service != nil && !yield(e) {
				return
			}
		}
	}
}

// Workloads yields all workloads, in no particular order.
func (x *Index) Workloads() iter.Seq[*Workload] {
	return func(yield func(*Workload) bool) {
		if x != nil {
			x.workloads.All()(yield)
		}
	}
}

func hasUID(uid string) func(*Workload) bool { return func(w *Workload) bool { return w.UID == uid } }

func findWorkload(in pmap.Set[*Workload], uid string) *Workload {
	return in.Find(pmap.HashString(uid), func(w *Workload) bool { return w.UID == uid })
}

func putWorkload(in *pmap.SetEditor[*Workload], w *Workload) {
	in.Put(pmap.HashString(w.UID), w, hasUID(w.UID))
}

func deleteWorkload(in *pmap.SetEditor[*Workload], uid string) {
	in.Delete(pmap.HashString(uid), hasUID(uid))
}

// A serviceSet is the services that share a virtual address or a hostname, sorted by key. It is immutable.
type serviceSet struct {
	entries []*ServiceEntry
}

// best returns the service that a client in that namespace means, or nil if it may see none.
func (s *serviceSet) best(clientNamespace string) *ServiceEntry {
	if s == nil {
		return nil
	}
	var best *ServiceEntry
	for _, e := range s.entries {
		if e.Visibility != VisiblePublic && e.Namespace != clientNamespace {
			continue
		}
		if best == nil || e.preference(clientNamespace) > best.preference(clientNamespace) {
			best = e
		}
	}
	return best
}

// preference is more for what a client in that namespace rather means: its own namespace counts before
// being canonical.
func (e *ServiceEntry) preference(clientNamespace string) int {
	n := 0
	if e.Namespace == clientNamespace {
		n = 2
	}
	if e.Canonical {
		n++
	}
	return n
}

// with returns the set with an entry added or replaced, without if now is nil; nil for an empty set.
func (s *serviceSet) with(key string, now *ServiceEntry) *serviceSet {
	next := new(serviceSet)
	if s != nil {
		for _, e := range s.entries {
			if e.key < key {
				next.entries = append(next.entries, e)
			}
		}
	}
	if now != nil {
		next.entries = append(next.entries, now)
	}
	if s != nil {
		for _, e := range s.entries {
			if e.key > key {
				next.entries = append(next.entries, e)
			}
		}
	}
	if len(next.entries) == 0 {
		return nil
	}
	return next
}

// A workloadSet is the workloads that share an address, best first. It is immutable.
type workloadSet struct {
	best *Workload
	rest []*Workload
}

func (s *workloadSet) first() *Workload {
	if s == nil {
		return nil
	}
	return s.best
}

// A nodeSet is the workloads of a node. It is immutable.
type nodeSet struct {
	workloads pmap.Set[*Workload]
}

// rankWorkload is less for what wins an address: ztunnel takes a pod before anything else, and what speaks
// HBONE before what does not.
func rankWorkload(w *Workload) int {
	switch {
	case strings.Contains(w.UID, "//Pod/"):
		return 0
	case w.Tunnel == TunnelHBONE:
		return 1
	}
	return 2
}
