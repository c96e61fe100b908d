package endpoints

import (
	"slices"
	"strings"
)

// A serviceState is all that is known of a service: the copies of the clusters that have it, and what backs
// it where.
type serviceState struct {
	key       string
	copies    []serviceCopy // sorted by cluster
	groups    map[groupKey]*group
	conflicts []Conflict
	horizons  map[horizonKey]*horizon // how views show it on other networks
}

type serviceCopy struct {
	cluster string
	*Service
}

func newServiceState(key string) *serviceState {
	return &serviceState{key: key, groups: make(map[groupKey]*group), horizons: make(map[horizonKey]*horizon)}
}

func (s *serviceState) search(cluster string) (int, bool) {
	return slices.BinarySearchFunc(s.copies, cluster, func(c serviceCopy, cluster string) int {
		return strings.Compare(c.cluster, cluster)
	})
}

// copyOf returns a cluster's copy, or nil.
func (s *serviceState) copyOf(cluster string) *Service {
	if i, ok := s.search(cluster); ok {
		return s.copies[i].Service
	}
	return nil
}

// setCopy replaces a cluster's copy; nil removes it.
func (s *serviceState) setCopy(cluster string, copy *Service) {
	i, ok := s.search(cluster)
	switch {
	case copy == nil && ok:
		s.copies = slices.Delete(s.copies, i, i+1)
	case copy != nil && ok:
		s.copies[i].Service = copy
	case copy != nil:
		s.copies = slices.Insert(s.copies, i, serviceCopy{cluster, copy})
	}
}

// exports reports whether a cluster shows its backends of the service to others.
func (s *serviceState) exports(cluster string) bool {
	c := s.copyOf(cluster)
	return c != nil && c.Scope == ScopeGlobal
}

// visible reports whether clients of a cluster see another one's copy, and its backends: it exports them, and
// they accept it.
func (s *serviceState) visible(cluster, to string) bool {
	c := s.copyOf(cluster)
	return c != nil && c.visible(to)
}

func (s *Service) visible(to string) bool {
	return s.Scope == ScopeGlobal && !slices.Contains(s.Refused, to)
}

// visibles returns the copies that clients of a cluster see.
func (s *serviceState) visibles(to string) []serviceCopy {
	return slices.DeleteFunc(s.globals(), func(c serviceCopy) bool { return !c.visible(to) })
}

// globals returns the copies that are global.
func (s *serviceState) globals() []serviceCopy {
	var global []serviceCopy
	for _, c := range s.copies {
		if c.Scope == ScopeGlobal {
			global = append(global, c)
		}
	}
	return global
}

func (s *serviceState) empty() bool { return len(s.copies) == 0 && len(s.groups) == 0 }

// dirt is what changed since views were last published.
type dirt struct {
	all       bool
	workloads map[string]workloadDirt
	services  map[*serviceState]*serviceDirt
	networks  map[string]struct{} // whose gateways changed
}

// serviceDirt says what of a service changed.
type serviceDirt struct {
	entry  bool // the service itself
	full   bool // also who may see it: everything that backs it is to be looked at again
	groups []groupKey
}

// workloadDirt is a workload as views have it, and as it is now; nil where it is not.
type workloadDirt struct{ old, now *packed }

func newDirt() dirt {
	return dirt{
		workloads: make(map[string]workloadDirt),
		services:  make(map[*serviceState]*serviceDirt),
		networks:  make(map[string]struct{}),
	}
}

// reset empties d, and keeps its maps unless they are large.
func (d *dirt) reset() {
	if len(d.workloads)+len(d.services)+len(d.networks) > 1000 {
		*d = newDirt()
		return
	}
	d.all = false
	clear(d.workloads)
	clear(d.services)
	clear(d.networks)
}

func (d *dirt) empty() bool {
	return !d.all && len(d.workloads) == 0 && len(d.services) == 0 && len(d.networks) == 0
}

func (d *dirt) service(s *serviceState) *serviceDirt {
	sd := d.services[s]
	if sd == nil {
		sd = new(serviceDirt)
		d.services[s] = sd
	}
	return sd
}

func (d *serviceDirt) group(k groupKey) {
	if !slices.Contains(d.groups, k) {
		d.groups = append(d.groups, k)
	}
}

// expect makes room for a lot to come.
func (d *dirt) expect(workloads int) {
	if len(d.workloads) == 0 && workloads > 1000 {
		d.workloads = make(map[string]workloadDirt, workloads)
	}
}

func (d *dirt) workload(uid string, old, now *packed) {
	if before, ok := d.workloads[uid]; ok {
		old = before.old
	}
	d.workloads[uid] = workloadDirt{old, now}
}
