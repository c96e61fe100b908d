package endpoints

import (
	"slices"
	"strings"

	"github.com/eastwest-mesh/eastwest/internal/pmap"
)

// A publisher brings views up to date with what changed in the mesh. Views come one after the other;
// horizons are shared among them.
type publisher struct {
	mesh     *Mesh
	horizons map[*serviceState]map[horizonKey]*horizon
}

// publish brings all views up to date.
func (m *Mesh) publish() {
	for !m.dirt.empty() {
		m.publishOnce()
	}
}

// publishOnce brings all views up to date, and forgets services that are no more. If that set virtual
// addresses free, there is more to publish.
func (m *Mesh) publishOnce() {
	p := &publisher{mesh: m, horizons: make(map[*serviceState]map[horizonKey]*horizon)}
	d := m.dirt
	if d.all {
		d = m.everything()
	}
	p.spread(&d)
	for _, v := range m.views {
		p.update(v, &d)
	}
	p.finish()
	freed := false
	for s, sd := range d.services {
		freed = m.settle(s, sd) || freed
	}
	m.dirt.reset()
	if freed {
		for key := range m.vips.failed() {
			m.dirt.service(m.services[key]).entry = true
		}
	}
}

// build fills a new view.
func (m *Mesh) build(v *sharedView) {
	p := &publisher{mesh: m, horizons: make(map[*serviceState]map[horizonKey]*horizon)}
	d := m.everything()
	p.update(v, &d)
	p.finish()
}

// everything returns the dirt that makes a view look at everything.
func (m *Mesh) everything() dirt {
	d := newDirt()
	for _, s := range m.services {
		*d.service(s) = serviceDirt{entry: true, full: true}
	}
	for _, c := range m.clusters {
		for uid := range c.workloads {
			d.workloads[uid] = struct{}{}
		}
	}
	for uid := range m.dirt.workloads { // those that are gone
		d.workloads[uid] = struct{}{}
	}
	for network := range m.fronts {
		d.networks[network] = struct{}{}
	}
	for network := range m.dirt.networks {
		d.networks[network] = struct{}{}
	}
	return d
}

// spread finds the services that are seen through gateways that changed, and settles what is about to be
// looked at again.
func (p *publisher) spread(d *dirt) {
	if len(d.networks) > 0 {
		for _, s := range p.mesh.services {
			for k := range s.groups {
				if _, ok := d.networks[k.network]; ok {
					d.service(s).group(k)
				}
			}
		}
	}
	for s, sd := range d.services {
		if sd.entry || sd.full {
			p.mesh.vips.forgive(s)
		}
	}
}

// finish remembers under which names horizons are shown now.
func (p *publisher) finish() {
	for s, of := range p.horizons {
		for k, h := range of {
			if names := h.names(p.mesh.config.Compat); len(names) > 0 {
				s.horizons[k] = names
			} else {
				delete(s.horizons, k)
			}
		}
	}
}

// settle brings what does not depend on views up to date, and reports whether that set virtual addresses free.
func (m *Mesh) settle(s *serviceState, sd *serviceDirt) (freed bool) {
	if sd.entry || sd.full {
		s.conflicts = m.findConflicts(s)
		if len(s.globals()) == 0 {
			freed = m.vips.release(s)
		}
	}
	if s.empty() {
		delete(m.services, s.key)
	}
	return freed
}

// horizon returns a part of a service's horizon, made once for all views.
func (p *publisher) horizon(s *serviceState, k horizonKey) *horizon {
	of := p.horizons[s]
	if of == nil {
		of = make(map[horizonKey]*horizon, 1)
		p.horizons[s] = of
	}
	h := of[k]
	if h == nil {
		h = p.mesh.newHorizon(s, k)
		of[k] = h
	}
	return h
}

// An update is one view's way from one state to the next.
type update struct {
	*publisher
	view      *sharedView
	client    Client
	edit      *pmap.Editor[string, Resource]
	changed   bool
	workloads map[string]struct{}    // still to be looked at
	queue     map[*serviceState]bool // waypoints that came into use or out of it
}

func (p *publisher) update(v *sharedView, d *dirt) {
	last := v.current.Load()
	u := &update{publisher: p, view: v, client: v.client, edit: last.snapshot.resources.Edit()}
	for s, sd := range d.services {
		u.service(s, sd)
	}
	for len(u.queue) > 0 {
		for s := range u.queue {
			delete(u.queue, s)
			u.service(s, &serviceDirt{entry: true})
		}
	}
	for uid := range d.workloads {
		u.workload(uid)
		delete(u.workloads, uid)
	}
	for uid := range u.workloads {
		u.workload(uid)
	}
	if len(d.networks) > 0 && v.client.Role != GatewayRole {
		u.gateways()
	}
	if u.changed {
		next := &Snapshot{last.snapshot.version + 1, u.edit.Map()}
		v.current.Store(&viewState{next, make(chan struct{})})
		close(last.next)
	}
}

func (u *update) set(name string, r Resource) {
	if old, ok := u.edit.Get(name); !ok || (old != r && !old.Equal(r)) {
		u.edit.Set(name, r)
		u.changed = true
	}
}

func (u *update) delete(name string) {
	if u.edit.Delete(name) {
		u.changed = true
	}
}

// seen returns a service as the view shows it, or nil.
func (u *update) seen(key string) *Service {
	r, _ := u.edit.Get(key)
	return r.Service
}

// service brings a service, and what hangs on it, up to date.
func (u *update) service(s *serviceState, d *serviceDirt) {
	full := d.full
	if d.entry || d.full {
		full = u.entry(s) || full
	}
	if full {
		for k := range s.groups {
			u.group(s, k, true)
		}
		for k := range s.horizons {
			u.horizonOf(s, k) // those whose groups are gone
		}
		return
	}
	for k := range d.groups {
		u.group(s, k, false)
	}
}

// entry brings the entry of a service up to date, and reports whether that changes how its backends are shown.
func (u *update) entry(s *serviceState) bool {
	before := u.seen(s.key)
	now := u.mesh.merge(s, u.client)
	if u.client.Role == GatewayRole {
		if now != nil && now.Scope != ScopeGlobal && !u.view.waypoints.uses(now) {
			now = nil
		}
		u.follow(before, now)
	}
	if now == nil {
		u.delete(s.key)
	} else {
		u.set(s.key, Resource{Service: now})
	}
	return !sameBacking(before, now)
}

// sameBacking reports whether the backends of two forms of a service are shown alike.
func sameBacking(a, b *Service) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Scope == b.Scope &&
		ServicePorts{Ports: a.Ports}.equal(ServicePorts{Ports: b.Ports}) && a.allowAll() == b.allowAll()
}

func (s *Service) allowAll() bool {
	return s.LoadBalancing != nil && s.LoadBalancing.HealthPolicy == AllowAll
}

// group brings what backs a service in one place up to date.
func (u *update) group(s *serviceState, k groupKey, members bool) {
	if k.network != u.client.Network {
		u.horizonOf(s, u.mesh.horizonKey(k, u.client))
		return
	}
	if !members || s.groups[k] == nil {
		return // workloads that changed are looked at anyway
	}
	if u.workloads == nil {
		u.workloads = make(map[string]struct{})
	}
	for w := range s.groups[k].members {
		u.workloads[w.UID] = struct{}{}
	}
}

// horizonOf brings a part of the horizon up to date, if it is one that this view can show.
func (u *update) horizonOf(s *serviceState, k horizonKey) {
	if u.client.Role == GatewayRole || k.network == u.client.Network || k != u.mesh.horizonKey(k.groupKey, u.client) {
		return
	}
	var shown []*Workload
	h := u.horizon(s, k)
	if merged := u.seen(s.key); merged != nil && merged.Scope == ScopeGlobal {
		shown = h.workloads(u.mesh, merged, u.client)
	}
	for _, w := range shown {
		u.set(w.UID, Resource{Workload: w})
	}
	for _, name := range s.horizons[k] {
		named := func(w *Workload) bool { return w.UID == name }
		if !slices.ContainsFunc(shown, named) {
			u.delete(name)
		}
	}
}

// workload brings a workload up to date.
func (u *update) workload(uid string) {
	w := u.mesh.workload(uid)
	if w != nil {
		w = u.show(w)
	}
	if w == nil {
		u.delete(uid)
	} else {
		u.set(uid, Resource{Workload: w})
	}
}

// workload returns a workload's fact, or nil. UIDs begin with the cluster.
func (m *Mesh) workload(uid string) *Workload {
	id, _, _ := strings.Cut(uid, "/")
	if c := m.clusters[id]; c != nil {
		return c.workloads[uid].full
	}
	return nil
}

// show returns a workload with only those of its services that the view shows it behind, or nil if the view
// does not show it.
func (u *update) show(w *Workload) *Workload {
	if w.Network != u.client.Network {
		return nil
	}
	hidden := 0
	for i := range w.Services {
		if !u.backs(w, w.Services[i].Service) {
			hidden++
		}
	}
	switch {
	case u.client.Role == GatewayRole && hidden == len(w.Services):
		return nil
	case hidden == 0:
		return w
	}
	shown := *w
	shown.Services = make([]ServicePorts, 0, len(w.Services)-hidden)
	for _, s := range w.Services {
		if u.backs(w, s.Service) {
			shown.Services = append(shown.Services, s)
		}
	}
	return &shown
}

// backs reports whether the view shows a workload behind a service: where both its own cluster and the
// client's have the service as global, or in the client's own cluster.
func (u *update) backs(w *Workload, service string) bool {
	own := w.Cluster == u.client.Cluster
	if own && u.client.Role != GatewayRole {
		return true
	}
	exported := false
	if s := u.mesh.services[service]; s != nil {
		exported = s.exports(w.Cluster)
	}
	if u.mesh.config.Compat == Istio && u.client.Role != GatewayRole {
		return exported // istiod does not ask whether the client's cluster agrees
	}
	seen := u.seen(service)
	if seen == nil {
		return false
	}
	return seen.Scope == ScopeGlobal && exported || own && seen.Scope != ScopeGlobal
}

// gateways brings the workloads up to date that stand for gateways.
func (u *update) gateways() {
	now := u.mesh.gatewayWorkloads(u.client)
	for name, w := range now {
		u.set(name, Resource{Workload: w})
	}
	for _, name := range u.view.gateways {
		if now[name] == nil {
			u.delete(name)
		}
	}
	u.view.gateways = u.view.gateways[:0]
	for name := range now {
		u.view.gateways = append(u.view.gateways, name)
	}
}
