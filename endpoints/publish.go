package endpoints

import (
	"slices"

	"github.com/eastwest-mesh/eastwest/internal/pmap"
)

// A publisher brings views up to date with what changed in the mesh. Views come one after the other;
// horizons are shared among them.
type publisher struct {
	mesh  *Mesh
	dirt  *dirt
	fresh []*horizon                      // that were made for this
	far   farChanges                      // of the view whose turn it is
	steps map[pmap.Set[*packed]][]farStep // that views made, by where from
	last  pmap.Set[*packed]               // that one led to
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
	p := &publisher{mesh: m, dirt: &m.dirt}
	m.spread()
	for _, v := range m.views {
		p.update(v, m.dirt.all)
	}
	p.finish()
	freed := false
	for s, sd := range m.dirt.services {
		freed = m.settle(s, sd) || freed
	}
	m.dirt.reset()
	if freed {
		for key := range m.vips.failed() {
			m.dirt.service(m.services[key]).entry = true
		}
	}
}

// build fills views.
func (m *Mesh) build(views ...*sharedView) {
	p := &publisher{mesh: m, dirt: &m.dirt}
	for _, v := range views {
		p.update(v, true)
	}
	p.finish()
}

// spread finds out what else changed: if all did, all services; if gateways did, the services that are seen
// through them. Horizons of what changed are not what they were.
func (m *Mesh) spread() {
	d := &m.dirt
	if d.all {
		for _, s := range m.services {
			*d.service(s) = serviceDirt{entry: true, full: true}
		}
	} else if len(d.networks) > 0 {
		for _, s := range m.services {
			for k := range s.groups {
				if _, ok := d.networks[k.network]; ok {
					d.service(s).group(k)
				}
			}
		}
	}
	for s, sd := range d.services {
		if sd.entry || sd.full {
			m.vips.forgive(s)
		}
		s.spoil(sd, m.config.Compat)
	}
}

// spoil marks the horizons that are not what they were.
func (s *serviceState) spoil(d *serviceDirt, compat Compat) {
	if d.entry || d.full || compat == Istio {
		for _, h := range s.horizons {
			h.made = nil // for forms of the service that may be no more
			if d.full {
				h.version = 0 // other gateways may pass it on now
			}
			here := func(k groupKey) bool { return k.network == h.key.network }
			h.stale = h.stale || d.full || compat == Istio && slices.ContainsFunc(d.groups, here)
		}
	}
	for _, k := range d.groups {
		for _, sni := range []bool{false, true} {
			if h := s.horizons[horizonKey{groupKey: k, sni: sni}]; h != nil {
				h.stale = true
			}
		}
	}
}

// finish forgets horizons that show nothing.
func (p *publisher) finish() {
	for _, h := range p.fresh {
		h.last = nil
		if len(h.names) == 0 {
			delete(h.state.horizons, h.key)
		}
	}
}

// settle brings what does not depend on views up to date, and reports whether that set virtual addresses free.
func (m *Mesh) settle(s *serviceState, sd *serviceDirt) (freed bool) {
	if sd.entry || sd.full {
		for k, h := range s.horizons {
			if h.stale { // no view asked for it
				delete(s.horizons, k)
			}
		}
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
	h := s.horizons[k]
	if h == nil || h.stale {
		h = p.mesh.newHorizon(s, k, h)
		s.horizons[k] = h
		p.fresh = append(p.fresh, h)
	}
	return h
}

// An update is one view's way from one state to the next.
type update struct {
	*publisher
	view      *sharedView
	client    Client
	all       bool // everything is to be looked at
	services  *pmap.Editor[string, *Service]
	workloads *pmap.SetEditor[*packed]
	changed   bool
	members   map[*packed]struct{}   // still to be looked at
	queue     map[*serviceState]bool // waypoints that came into use or out of it
	shown     map[*kind]*kind        // how the view shows workloads of a kind: nil for not at all
}

// update brings a view up to date with all that changed, or with everything.
func (p *publisher) update(v *sharedView, everything bool) {
	last := v.current.Load()
	u := &update{
		publisher: p, view: v, client: v.client, all: everything,
		services: last.services.Edit(), workloads: last.workloads.Edit(),
	}
	u.allServices()
	u.allWorkloads()
	if (everything || len(p.dirt.networks) > 0) && v.client.Role != GatewayRole {
		u.gateways()
	}
	u.finishFar()
	if u.changed {
		v.advance(&Snapshot{last.version + 1, u.services.Map(), u.workloads.Set(), v.far})
	}
}

func (u *update) allServices() {
	if u.all {
		for _, s := range u.mesh.services {
			u.service(s, &serviceDirt{entry: true, full: true})
		}
	} else {
		for s, d := range u.dirt.services {
			u.service(s, d)
		}
	}
	for len(u.queue) > 0 {
		for s := range u.queue {
			delete(u.queue, s)
			u.service(s, &serviceDirt{entry: true})
		}
	}
}

// allWorkloads comes after the services, which decide about workloads. Workloads that are gone are in the dirt.
func (u *update) allWorkloads() {
	if u.all {
		for _, c := range u.mesh.clusters {
			for _, w := range c.workloads {
				if w.shape.Network == u.client.Network {
					u.set(w)
				}
			}
		}
	}
	for uid, d := range u.dirt.workloads {
		u.workload(uid, d)
	}
	for w := range u.members {
		u.set(w)
	}
}

// workload brings a workload up to date.
func (u *update) workload(uid string, d workloadDirt) {
	on := func(w *packed) bool { return w != nil && w.shape.Network == u.client.Network }
	switch {
	case on(d.now):
		u.set(d.now)
	case on(d.old):
		u.delete(uid)
	}
}

// set shows a workload on the client's network as the view does, if it does.
func (u *update) set(w *packed) {
	if k := u.kind(w.kind, w.uid); k == nil {
		u.delete(w.uid)
	} else if k == w.kind {
		u.put(w)
	} else {
		u.put(w.as(k))
	}
}

func (u *update) put(w *packed) {
	hash, has := pmap.HashString(w.uid), hasPackedUID(w.uid)
	if old := u.workloads.Find(hash, has); old != w && !old.equal(w) {
		u.workloads.Put(hash, w, has)
		u.changed = true
	}
}

func (u *update) delete(uid string) {
	if u.workloads.Delete(pmap.HashString(uid), hasPackedUID(uid)) {
		u.changed = true
	}
}

func (u *update) setService(key string, now *Service) {
	old := u.seen(key)
	switch {
	case old.Equal(now):
		return
	case now == nil:
		u.services.Delete(key)
	default:
		u.services.Set(key, now)
	}
	u.changed = true
}

// seen returns a service as the view shows it, or nil.
func (u *update) seen(key string) *Service {
	s, _ := u.services.Get(key)
	return s
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
	for _, k := range d.groups {
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
	u.setService(s.key, now)
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
	u.horizonOf(s, u.mesh.horizonKey(k, u.client))
	if k.network != u.client.Network || u.all || !members || s.groups[k] == nil {
		return // workloads that changed are looked at anyway
	}
	if u.members == nil {
		u.members = make(map[*packed]struct{})
	}
	for w := range s.groups[k].members {
		u.members[w] = struct{}{}
	}
}

// horizonOf brings a part of the horizon up to date, if it is one that this view can show, or shares.
func (u *update) horizonOf(s *serviceState, k horizonKey) {
	if u.client.Role == GatewayRole || k.network == u.client.Network && !u.view.far.shared || k != u.mesh.horizonKey(k.groupKey, u.client) {
		return
	}
	h := u.horizon(s, k)
	var shown []*packed
	if merged := u.seen(s.key); merged != nil && merged.Scope == ScopeGlobal && (u.mesh.config.Compat == Istio || s.visible(k.cluster, u.client.Cluster)) {
		shown = h.workloads(u.mesh, merged, u.client)
	}
	for _, w := range shown {
		u.putFar(w.uid, w)
	}
	for _, names := range [][]string{h.before, h.names} {
		for _, name := range names {
			if !slices.ContainsFunc(shown, func(w *packed) bool { return w.uid == name }) {
				u.putFar(name, nil)
			}
		}
	}
}

// kind returns how the view shows workloads of a kind on its network: only behind those of their services
// that it shows them behind, or not at all.
func (u *update) kind(k *kind, uid string) *kind {
	if shown, ok := u.shown[k]; ok {
		return shown
	}
	shown := u.newKind(k)
	if shown != nil && shown != k {
		// What is not shared by facts had better be shared by what the view has.
		if old := findPacked(u.workloads, uid); old != nil && old.shape.Equal(&shown.shape) {
			shown = old.kind
		}
	}
	if u.all || len(u.members)+len(u.dirt.workloads) > 1 {
		if u.shown == nil {
			u.shown = make(map[*kind]*kind)
		}
		u.shown[k] = shown
	}
	return shown
}

func (u *update) newKind(k *kind) *kind {
	services := k.shape.Services
	hidden := 0
	for i := range services {
		if !u.backs(k.shape.Cluster, services[i].Service) {
			hidden++
		}
	}
	switch {
	case u.client.Role == GatewayRole && hidden == len(services):
		return nil
	case hidden == 0:
		return k
	}
	shape := k.shape
	shape.Services = make([]ServicePorts, 0, len(services)-hidden)
	for _, s := range services {
		if u.backs(k.shape.Cluster, s.Service) {
			shape.Services = append(shape.Services, s)
		}
	}
	return newKind(&shape)
}

// backs reports whether the view shows workloads of a cluster behind a service: where both that cluster and
// the client's have the service as global, or in the client's own cluster.
func (u *update) backs(cluster, service string) bool {
	own := cluster == u.client.Cluster
	if own && u.client.Role != GatewayRole {
		return true
	}
	exported := false
	if s := u.mesh.services[service]; s != nil {
		exported = s.visible(cluster, u.client.Cluster)
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
	for _, w := range now {
		shape := shapeOf(w)
		u.put(pack(newKind(&shape), w))
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
