package endpoints

import (
	"cmp"
	"iter"

	"github.com/eastwest-mesh/eastwest/internal/pmap"
)

// A farSet is what a view shows of the horizon. Views on all networks share the set itself, as long as they
// show services alike, so that a change is made once for all of them: then what is on a client's own network
// is in it, too, but hidden.
type farSet struct {
	all     pmap.Set[*packed]
	network string // the client's
	hidden  int32
	shared  bool // the client's own network is in it
}

func (f farSet) hides(w *packed) bool { return w != nil && w.shape.Network == f.network }

// Len returns the number of workloads that are shown.
func (f farSet) Len() int { return f.all.Len() - int(f.hidden) }

// find returns the workload of that UID that is shown, or nil.
func (f farSet) find(uid string) *packed {
	if w := findPacked(f.all, uid); !f.hides(w) {
		return w
	}
	return nil
}

// shown yields the workloads that are shown, in no particular order.
func (f farSet) shown() iter.Seq[*packed] {
	return func(yield func(*packed) bool) {
		for w := range f.all.All() {
			if !f.hides(w) && !yield(w) {
				return
			}
		}
	}
}

// alone returns the set without what is hidden.
func (f farSet) alone() pmap.Set[*packed] {
	e := f.all.Edit()
	for w := range f.all.All() {
		if f.hides(w) {
			e.Delete(pmap.HashString(w.uid), hasPackedUID(w.uid))
		}
	}
	return e.Set()
}

// diffFar calls emit for each UID whose shown workload differs, as [pmap.DiffSets] does.
func diffFar(old, now farSet, emit func(old, now *packed)) {
	if old.network != now.network { // what is the same in both may be hidden in one
		pmap.DiffSets(old.alone(), now.alone(), samePacked, emit)
		return
	}
	pmap.DiffSets(old.all, now.all, samePacked, func(a, b *packed) {
		if !now.hides(cmp.Or(a, b)) { // a UID says the network
			emit(a, b)
		}
	})
}

// A farChange replaces a workload by another one; nil: there is none.
type farChange struct{ old, now *packed }

// farChanges is how a farSet changes, by UID.
type farChanges map[string]farChange

func (c farChanges) apply(to pmap.Set[*packed]) pmap.Set[*packed] {
	e := to.Edit()
	for uid, w := range c {
		if w.now == nil {
			e.Delete(pmap.HashString(uid), hasPackedUID(uid))
		} else {
			e.Put(pmap.HashString(uid), w.now, hasPackedUID(uid))
		}
	}
	return e.Set()
}

// A farStep is how one view went from one set to the next. Others may go the same way.
type farStep struct {
	changes int
	to      pmap.Set[*packed]
}

// makes reports whether it is just these changes that a step from the same set made.
func (s farStep) makes(changes farChanges) bool {
	if len(changes) != s.changes {
		return false
	}
	for uid, w := range changes {
		if !s.to.Find(pmap.HashString(uid), hasPackedUID(uid)).equal(w.now) {
			return false
		}
	}
	return true
}

// newFarSet returns what a new view starts with, to make it its own: the set of others of the same horizons.
func (m *Mesh) newFarSet(c Client) farSet {
	far := farSet{network: c.Network}
	alike := m.viewsAlike(c)
	for _, v := range alike {
		far.shared = far.shared || v.far.shared || v.client.Network != c.Network
	}
	if len(alike) > 0 {
		if alike[0].far.shared != far.shared {
			m.share(alike)
		}
		far.all = alike[0].far.all
	}
	for w := range far.all.All() {
		if far.hides(w) {
			far.hidden++
		}
	}
	return far
}

// viewsAlike returns the views that show the same horizons as those of a client.
func (m *Mesh) viewsAlike(c Client) (alike []*sharedView) {
	for o, v := range m.views {
		if o.Role != GatewayRole && c.Role != GatewayRole && m.horizonKey(groupKey{}, o) == m.horizonKey(groupKey{}, c) {
			alike = append(alike, v)
		}
	}
	return alike
}

// share puts the networks of views into their sets. Until there is a view on another network nobody needs
// them there.
func (m *Mesh) share(views []*sharedView) {
	for _, v := range views {
		v.far.shared = true
	}
	m.build(views...)
}

// step makes changes to a set, once for all views that have it. Sets that have become the same on different
// ways are joined, sooner or later.
func (p *publisher) step(from pmap.Set[*packed], changes farChanges) pmap.Set[*packed] {
	for _, s := range p.steps[from] {
		if s.makes(changes) {
			return s.to
		}
	}
	to := changes.apply(from)
	if pmap.EqualSets(to, p.last, (*packed).equal) {
		to = p.last
	}
	p.last = to
	if p.steps == nil {
		p.steps = make(map[pmap.Set[*packed]][]farStep)
	}
	p.steps[from] = append(p.steps[from], farStep{len(changes), to})
	return to
}

// putFar shows a workload of the horizon in the place of the one of its name; now is nil for none.
func (u *update) putFar(uid string, now *packed) {
	old := u.view.far.all.Find(pmap.HashString(uid), hasPackedUID(uid))
	if old == now || old.equal(now) {
		delete(u.far, uid)
		return
	}
	if u.far == nil {
		u.far = make(farChanges)
	}
	u.far[uid] = farChange{old, now}
}

// finishFar makes the changes of the horizon.
func (u *update) finishFar() {
	far := &u.view.far
	for _, w := range u.far {
		switch {
		case !far.hides(cmp.Or(w.now, w.old)):
			u.changed = u.changed || w.now != nil
		case w.old == nil:
			far.hidden++
		case w.now == nil:
			far.hidden--
		}
	}
	if len(u.far) > 0 {
		far.all = u.step(far.all, u.far)
		clear(u.far)
	}
	u.changed = u.changed || far.Len() != u.view.current.Load().far.Len()
}
