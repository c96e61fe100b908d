package endpoints

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/eastwest-mesh/eastwest/internal/pmap"
)

// Apply returns x with d applied: what d brings replaces what has the same name. To remove what is not
// there does nothing.
func (x *Index) Apply(d Delta) *Index {
	if x == nil {
		x = new(Index)
	}
	e := newIndexEditor(x)
	for _, name := range d.Removed {
		e.setWorkload(name, nil)
		e.setService(name, nil)
	}
	for _, r := range d.Upserts {
		switch {
		case r.Service != nil:
			e.setService(r.Service.Key(), r.Service)
		case r.Workload != nil:
			e.setWorkload(r.Workload.UID, r.Workload)
		}
	}
	return e.index()
}

// An indexEditor makes an Index from another one.
type indexEditor struct {
	services  *pmap.Editor[string, *ServiceEntry]
	workloads *pmap.SetEditor[*Workload]
	vips      *pmap.Editor[addrKey, *serviceSet]
	hostnames *pmap.Editor[string, *serviceSet]
	addrs     *pmap.SetEditor[*Workload]
	shared    *pmap.Editor[addrOn, *workloadSet]
	hosts     *pmap.Editor[string, *workloadSet]
	nodes     *pmap.Editor[string, *nodeSet]
	networks  map[string]uint32
	prefixes  map[uint32]*prefixLengths
	owned     bool // networks and prefixes are copies

	changed map[string]*entryEdit // services that are not the same any more
	onNodes map[string]*pmap.SetEditor[*Workload]
}

// An entryEdit is a ServiceEntry on its way to the next one.
type entryEdit struct {
	old       *ServiceEntry
	service   *Service
	endpoints *pmap.SetEditor[*Workload]
}

func newIndexEditor(x *Index) *indexEditor {
	return &indexEditor{
		services: x.services.Edit(), workloads: x.workloads.Edit(), vips: x.vips.Edit(), hostnames: x.hostnames.Edit(),
		addrs: x.addrs.Edit(), shared: x.shared.Edit(), hosts: x.workloadHosts.Edit(), nodes: x.nodes.Edit(),
		networks: x.networks, prefixes: x.prefixes,
		changed: make(map[string]*entryEdit), onNodes: make(map[string]*pmap.SetEditor[*Workload]),
	}
}

func (e *indexEditor) index() *Index {
	for key, edit := range e.changed {
		e.finish(key, edit)
	}
	for node, edit := range e.onNodes {
		if on := edit.Set(); on.Len() > 0 {
			e.nodes.Set(node, &nodeSet{on})
		} else {
			e.nodes.Delete(node)
		}
	}
	return &Index{
		services: e.services.Map(), workloads: e.workloads.Set(), vips: e.vips.Map(), hostnames: e.hostnames.Map(),
		addrs: e.addrs.Set(), shared: e.shared.Map(), workloadHosts: e.hosts.Map(), nodes: e.nodes.Map(),
		networks: e.networks, prefixes: e.prefixes,
	}
}

// entry returns the edit of a service's entry.
func (e *indexEditor) entry(key string) *entryEdit {
	edit := e.changed[key]
	if edit == nil {
		edit = new(entryEdit)
		edit.old, _ = e.services.Get(key)
		if edit.old == nil {
			edit.endpoints = pmap.Set[*Workload]{}.Edit()
		} else {
			edit.service, edit.endpoints = edit.old.Service, edit.old.endpoints.Edit()
		}
		e.changed[key] = edit
	}
	return edit
}

func (e *indexEditor) setService(key string, s *Service) {
	if _, pending := e.changed[key]; s == nil && !pending {
		if old, ok := e.services.Get(key); !ok || old.Service == nil {
			return // most names that are removed are those of workloads
		}
	}
	e.entry(key).service = s
}

// finish puts the new entry of a service wherever it is found.
func (e *indexEditor) finish(key string, edit *entryEdit) {
	next := &ServiceEntry{Service: edit.service, key: key, endpoints: edit.endpoints.Set()}
	if next.Service == nil && next.endpoints.Len() == 0 {
		e.services.Delete(key)
	} else {
		e.services.Set(key, next)
	}
	if edit.old != nil && edit.old.Service != nil {
		e.unplace(edit.old, next)
	}
	if next.Service != nil {
		updateSet(e.hostnames, next.Hostname, key, next)
		for _, a := range next.Addresses {
			e.placeVIP(a, next)
		}
	}
}

// unplace takes an entry away from where the next one is not.
func (e *indexEditor) unplace(old, next *ServiceEntry) {
	if next.Service == nil { // the hostname is part of the key
		updateSet(e.hostnames, old.Hostname, old.key, nil)
	}
	for _, a := range old.Addresses {
		if next.Service == nil || !slices.Contains(next.Addresses, a) {
			e.displaceVIP(a, old.key)
		}
	}
}

func updateSet[K comparable](in *pmap.Editor[K, *serviceSet], at K, key string, entry *ServiceEntry) (before, after *serviceSet) {
	before, _ = in.Get(at)
	after = before.with(key, entry)
	if after != nil {
		in.Set(at, after)
	} else {
		in.Delete(at)
	}
	return before, after
}

func (e *indexEditor) placeVIP(a NetworkAddress, entry *ServiceEntry) {
	k := keyOfPrefix(e.network(a.Network), a.Prefix)
	if before, _ := updateSet(e.vips, k, entry.key, entry); before == nil {
		e.count(k, 1)
	}
}

func (e *indexEditor) displaceVIP(a NetworkAddress, key string) {
	k := keyOfPrefix(e.network(a.Network), a.Prefix)
	if before, after := updateSet(e.vips, k, key, nil); before != nil && after == nil {
		e.count(k, -1)
	}
}

// count keeps track of the lengths of ranges.
func (e *indexEditor) count(k addrKey, n int) {
	if k.bits < 128 {
		e.own()
		e.prefixes[k.space] = e.prefixes[k.space].with(k.bits, n)
	}
}

// network returns the number of a network, a new one if it has none.
func (e *indexEditor) network(name string) uint32 {
	id, ok := e.networks[name]
	if !ok {
		e.own()
		id = uint32(len(e.networks))
		e.networks[name] = id
	}
	return id
}

func (e *indexEditor) own() {
	if e.owned {
		return
	}
	e.owned = true
	e.networks, e.prefixes = maps.Clone(e.networks), maps.Clone(e.prefixes)
	if e.networks == nil {
		e.networks = make(map[string]uint32)
	}
	if e.prefixes == nil {
		e.prefixes = make(map[uint32]*prefixLengths)
	}
}

func (e *indexEditor) setWorkload(uid string, w *Workload) {
	old := e.workloads.Find(pmap.HashString(uid), hasUID(uid))
	if old == w {
		return
	}
	if w == nil {
		deleteWorkload(e.workloads, uid)
	} else {
		putWorkload(e.workloads, w)
	}
	e.replaceAddrs(old, w)
	e.replaceHost(old, w)
	e.replaceNode(old, w)
	e.replaceEndpoints(old, w)
}

func (e *indexEditor) replaceEndpoints(old, w *Workload) {
	if old != nil {
		for i := range old.Services {
			service := old.Services[i].Service
			if w != nil {
				if _, stays := w.Ports(service); stays {
					continue
				}
			}
			deleteWorkload(e.entry(service).endpoints, old.UID)
		}
	}
	if w != nil {
		for i := range w.Services {
			putWorkload(e.entry(w.Services[i].Service).endpoints, w)
		}
	}
}

func (e *indexEditor) replaceAddrs(old, w *Workload) {
	if old != nil && old.NetworkMode != HostNetwork {
		for _, a := range old.Addresses {
			e.removeAddr(addrOn{old.Network, a.Unmap()}, old.UID)
		}
	}
	if w != nil && w.NetworkMode != HostNetwork {
		for _, a := range w.Addresses {
			e.addAddr(addrOn{w.Network, a.Unmap()}, w)
		}
	}
}

// addAddr adds a workload to those of an address.
func (e *indexEditor) addAddr(at addrOn, w *Workload) {
	all := e.atAddr(at)
	if all != nil {
		all = slices.DeleteFunc(all, func(o *Workload) bool { return o.UID == w.UID })
	}
	e.setAddr(at, append(all, w))
}

func (e *indexEditor) removeAddr(at addrOn, uid string) {
	e.setAddr(at, slices.DeleteFunc(e.atAddr(at), func(o *Workload) bool { return o.UID == uid }))
}

// atAddr returns the workloads of an address, in a new slice.
func (e *indexEditor) atAddr(at addrOn) []*Workload {
	if set, ok := e.shared.Get(at); ok {
		return set.without("")
	}
	if only := e.addrs.Find(at.hash(), at.of); only != nil {
		return []*Workload{only}
	}
	return nil
}

func (e *indexEditor) setAddr(at addrOn, all []*Workload) {
	if len(all) == 0 {
		e.addrs.Delete(at.hash(), at.of)
		return
	}
	if len(all) > 1 {
		set := newWorkloadSet(all)
		e.shared.Set(at, set)
		all[0] = set.best
	} else {
		e.shared.Delete(at)
	}
	e.addrs.Put(at.hash(), all[0], at.of)
}

func (e *indexEditor) replaceHost(old, w *Workload) {
	if old != nil && old.Hostname != "" {
		removeFrom(e.hosts, ServiceKey(old.Namespace, old.Hostname), old.UID)
	}
	if w != nil && w.Hostname != "" {
		addTo(e.hosts, ServiceKey(w.Namespace, w.Hostname), w)
	}
}

func (e *indexEditor) replaceNode(old, w *Workload) {
	if old != nil && old.Node != "" && (w == nil || w.Node != old.Node) {
		deleteWorkload(e.onNode(old.Node), old.UID)
	}
	if w != nil && w.Node != "" {
		putWorkload(e.onNode(w.Node), w)
	}
}

func (e *indexEditor) onNode(node string) *pmap.SetEditor[*Workload] {
	edit := e.onNodes[node]
	if edit == nil {
		var on pmap.Set[*Workload]
		if set, ok := e.nodes.Get(node); ok {
			on = set.workloads
		}
		edit = on.Edit()
		e.onNodes[node] = edit
	}
	return edit
}

// addTo adds a workload to the set at a key, in its place by rank.
func addTo[K comparable](in *pmap.Editor[K, *workloadSet], at K, w *Workload) {
	set, ok := in.Get(at)
	if !ok {
		in.Set(at, &workloadSet{best: w})
		return
	}
	in.Set(at, newWorkloadSet(append(set.without(w.UID), w)))
}

// removeFrom removes a workload from the set at a key.
func removeFrom[K comparable](in *pmap.Editor[K, *workloadSet], at K, uid string) {
	set, ok := in.Get(at)
	if !ok {
		return
	}
	if left := set.without(uid); len(left) > 0 {
		in.Set(at, newWorkloadSet(left))
	} else {
		in.Delete(at)
	}
}

func newWorkloadSet(all []*Workload) *workloadSet {
	slices.SortFunc(all, func(a, b *Workload) int {
		return cmp.Or(cmp.Compare(rankWorkload(a), rankWorkload(b)), strings.Compare(a.UID, b.UID))
	})
	return &workloadSet{all[0], all[1:]}
}

// without returns all workloads of a set but one, in a new slice.
func (s *workloadSet) without(uid string) []*Workload {
	all := append([]*Workload{s.best}, s.rest...)
	return slices.DeleteFunc(all, func(w *Workload) bool { return w.UID == uid })
}

// A Store holds the current Index. Its zero value holds an empty one. It is safe for concurrent use.
type Store struct {
	mu      sync.Mutex // held by writers
	current atomic.Pointer[Index]
}

// Index returns the current Index. It never blocks.
func (s *Store) Index() *Index { return s.current.Load() }

// Apply replaces the current Index by one with d applied, and returns that.
func (s *Store) Apply(d Delta) *Index {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.current.Load().Apply(d)
	s.current.Store(next)
	return next
}
