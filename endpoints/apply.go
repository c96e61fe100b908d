package endpoints

import "slices"

// apply brings news of a cluster into the mesh, and returns an error for each object that was refused.
func (m *Mesh) apply(c *cluster, ch *Change) []error {
	if ch.Resync {
		return m.resync(c, ch)
	}
	errs := m.upsert(c, ch)
	for _, key := range ch.RemovedServices {
		m.setService(c, key, serviceFact{})
	}
	for _, uid := range ch.RemovedWorkloads {
		m.setWorkload(c, uid, nil)
	}
	for _, key := range ch.RemovedGateways {
		m.setGateway(c, key, gatewayFact{})
	}
	return errs
}

// resync replaces all that a cluster told. What it tells in a form that is refused is still there for it:
// it keeps its last good state.
func (m *Mesh) resync(c *cluster, ch *Change) []error {
	c.stale, c.expired = false, false
	if c.empty() {
		c.workloads = make(map[string]*packed, len(ch.Workloads))
		return m.upsert(c, ch)
	}
	errs := m.upsert(c, ch)
	m.keepOnly(c, ch)
	return errs
}

// clear drops all that a cluster told.
func (m *Mesh) clear(c *cluster) { m.keepOnly(c, &Change{}) }

// keepOnly drops what a Change does not name.
func (m *Mesh) keepOnly(c *cluster, ch *Change) {
	removeOthers(c.services, ch.Services, (*Service).Key, func(key string) { m.setService(c, key, serviceFact{}) })
	removeOthers(c.workloads, ch.Workloads, func(w *Workload) string { return w.UID }, func(uid string) { m.setWorkload(c, uid, nil) })
	removeOthers(c.gateways, ch.Gateways, (*Gateway).Key, func(key string) { m.setGateway(c, key, gatewayFact{}) })
}

// removeOthers calls drop for what is there and not told.
func removeOthers[T, F any](have map[string]F, told []*T, name func(*T) string, drop func(string)) {
	keep := make(map[string]bool, len(told))
	for _, t := range told {
		if t != nil {
			keep[name(t)] = true
		}
	}
	for key := range have {
		if !keep[key] {
			drop(key)
		}
	}
}

func (m *Mesh) upsert(c *cluster, ch *Change) (errs []error) {
	if len(m.views) > 0 {
		m.dirt.expect(len(ch.Workloads))
	}
	for _, s := range ch.Services {
		if err := checkService(c.ID, s); err != nil {
			errs = append(errs, err)
			continue
		}
		m.setService(c, s.Key(), c.fillService(s))
	}
	for _, w := range ch.Workloads {
		if err := checkWorkload(c.ID, w); err != nil {
			errs = append(errs, err)
			continue
		}
		m.setWorkload(c, w.UID, w)
	}
	for _, g := range ch.Gateways {
		if err := checkGateway(c.ID, g); err != nil {
			errs = append(errs, err)
			continue
		}
		m.setGateway(c, g.Key(), c.fillGateway(g))
	}
	return errs
}

// changeCluster fills in again what the cluster's facts left to it.
func (m *Mesh) changeCluster(c *cluster, to Cluster) {
	c.Cluster = to
	for key, f := range c.services {
		m.setService(c, key, c.fillService(f.told))
	}
	for uid, p := range c.workloads {
		m.setWorkload(c, uid, p.told())
	}
	for key, f := range c.gateways {
		m.setGateway(c, key, c.fillGateway(f.told))
	}
}

func (m *Mesh) state(key string) *serviceState {
	s := m.services[key]
	if s == nil {
		s = newServiceState(key)
		m.services[key] = s
	}
	return s
}

// setService replaces a cluster's copy of a service; the zero fact removes it.
func (m *Mesh) setService(c *cluster, key string, f serviceFact) {
	old := c.services[key].full
	if f.full == nil {
		delete(c.services, key)
	} else {
		c.services[key] = f
	}
	if f.full.Equal(old) {
		return
	}
	s := m.state(key)
	s.setCopy(c.ID, f.full)
	d := m.dirt.service(s)
	d.entry = true
	if old == nil || f.full == nil || old.Scope != f.full.Scope || !slices.Equal(old.Refused, f.full.Refused) {
		d.full = true
	}
}

// setWorkload replaces a workload; nil removes it.
func (m *Mesh) setWorkload(c *cluster, uid string, told *Workload) {
	old := c.workloads[uid]
	var now *packed
	if told != nil {
		now = m.pack(c, told, old)
	}
	if now.equal(old) && (now == nil || now.open == old.open) {
		if now != nil {
			m.kinds.give(now.kind)
		}
		return
	}
	if now == nil {
		delete(c.workloads, uid)
	} else {
		c.workloads[uid] = now
		m.join(now)
	}
	if old != nil {
		m.leave(old)
		m.kinds.give(old.kind)
	}
	if len(m.views) > 0 {
		m.dirt.workload(uid, old, now)
	}
}

func (m *Mesh) pack(c *cluster, told *Workload, before *packed) *packed {
	full, left := c.fillWorkload(told)
	shape := shapeOf(&full)
	p := pack(m.kinds.take(&shape, before), &full)
	p.open = left
	return p
}

// join adds a workload to the groups of its services.
func (m *Mesh) join(w *packed) {
	for i := range w.shape.Services {
		s := m.state(w.shape.Services[i].Service)
		g := s.groups[w.place()]
		if g == nil {
			g = newGroup()
			s.groups[w.place()] = g
		}
		d := m.dirt.service(s)
		d.entry = g.add(w, w.shape.Services[i].Ports) || d.entry
		d.group(w.place())
	}
}

// leave is the opposite of join.
func (m *Mesh) leave(w *packed) {
	for i := range w.shape.Services {
		s := m.state(w.shape.Services[i].Service)
		g := s.groups[w.place()]
		d := m.dirt.service(s)
		d.entry = g.remove(w, w.shape.Services[i].Ports) || d.entry
		d.group(w.place())
		if len(g.members) == 0 {
			delete(s.groups, w.place())
		}
	}
}

// setGateway replaces a gateway; the zero fact removes it.
func (m *Mesh) setGateway(c *cluster, key string, f gatewayFact) {
	old := c.gateways[key].full
	if f.full == nil {
		delete(c.gateways, key)
	} else {
		c.gateways[key] = f
	}
	if f.full.Equal(old) {
		return
	}
	m.frontsVersion++
	if old != nil {
		m.dirt.networks[old.Network] = struct{}{}
		m.fronts.remove(old.Network, c.ID, key)
	}
	if f.full != nil {
		m.dirt.networks[f.full.Network] = struct{}{}
		m.fronts.add(f.full.Network, c.ID, f.full)
	}
}

// fronts holds the gateways of each network, as clusters tell of them, sorted by name, then by cluster.
type fronts map[string][]front

// A front is a gateway as a cluster tells of it.
type front struct {
	cluster string
	*Gateway
}

func (f fronts) add(network, cluster string, g *Gateway) {
	f[network] = append(f[network], front{cluster, g})
	slices.SortFunc(f[network], compareFronts)
}

func (f fronts) remove(network, cluster, key string) {
	f[network] = slices.DeleteFunc(f[network], func(x front) bool {
		return x.cluster == cluster && x.Key() == key
	})
	if len(f[network]) == 0 {
		delete(f, network)
	}
}
