package xds

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"slices"
	"sync"
)

// Collection holds the resources of one type as one group of clients sees them. A Server sends
// its changes to all of these clients.
//
// It keeps no queue per client. Each resource knows the revision at which it last changed, and
// each client up to which revision it was served: a slow client just gets more at once, only the
// latest of each name, and costs nothing meanwhile.
//
// The zero value is empty and ready. Methods may be called concurrently.
type Collection struct {
	mu       sync.RWMutex
	entries  map[string]*entry // by name, with those removed that a watcher may still have to hear of
	byKey    map[string]map[*entry]struct{}
	live     list.List // of *entry, by revision
	dead     list.List // of tombstones, by revision
	revision uint64    // of the last Update that changed something
	sweepAt  int       // the number of tombstones at which to sweep
	watchers map[*watcher]struct{}

	broadcasts broadcasts
}

// entry is a resource, or the tombstone of one.
type entry struct {
	resource *Resource // never changed, so that it can be read without a lock
	revision uint64    // when it last changed
	created  uint64    // when it appeared; a watcher served before that has never had it
	removed  bool
	element  *list.Element // in live or dead
}

// watcher is a client's place in a collection.
type watcher struct {
	notify func() // called with the collection locked: must not block, or call back
	served uint64 // the revision up to which the client was served; guarded by Collection.mu
}

// minSweep keeps small collections from sweeping all the time.
const minSweep = 256

// Update applies changes: first the removals, then the upserts. What clients see of one Update
// they see at once. An upsert without a version gets a hash of its body; one that equals what is
// held is no change, and neither is the removal of a name that is not held.
// The Collection keeps the resources: their slices must not be changed later.
func (c *Collection) Update(upserts []Resource, removals []string) {
	upserts = withVersions(upserts)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apply(upserts, removals)
}

// Replace makes the collection hold exactly these resources. Only differences are sent.
func (c *Collection) Replace(all []Resource) {
	all = withVersions(all)
	keep := make(map[string]struct{}, len(all))
	for _, r := range all {
		keep[r.Name] = struct{}{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var removals []string
	for name, e := range c.entries {
		if _, ok := keep[name]; !ok && !e.removed {
			removals = append(removals, name)
		}
	}
	slices.Sort(removals)
	c.apply(all, removals)
}

// withVersions returns the resources, each with a version.
func withVersions(resources []Resource) []Resource {
	out := slices.Clone(resources)
	for i, r := range out {
		if r.Version == "" {
			sum := sha256.Sum256(r.Body)
			out[i].Version = hex.EncodeToString(sum[:8])
		}
	}
	return out
}

// apply is Update with the lock held.
func (c *Collection) apply(upserts []Resource, removals []string) {
	if c.entries == nil {
		c.entries = make(map[string]*entry)
		c.byKey = make(map[string]map[*entry]struct{})
	}
	next := c.revision + 1
	changed := false
	for _, name := range removals {
		changed = c.remove(name, next) || changed
	}
	for _, r := range upserts {
		changed = c.upsert(r, next) || changed
	}
	if !changed {
		return
	}
	c.revision = next
	c.sweep()
	for w := range c.watchers {
		w.notify()
	}
}

func (c *Collection) remove(name string, revision uint64) bool {
	e := c.entries[name]
	if e == nil || e.removed {
		return false
	}
	c.unindex(e)
	c.live.Remove(e.element)
	e.element = c.dead.PushBack(e)
	e.removed = true
	e.resource = &Resource{Name: name} // lets go of the body
	e.revision = revision
	return true
}

func (c *Collection) upsert(r Resource, revision uint64) bool {
	e := c.entries[r.Name]
	switch {
	case e == nil:
		e = &entry{created: revision}
		e.element = c.live.PushBack(e)
		c.entries[r.Name] = e
	case e.removed:
		// It keeps the revision of its creation: a watcher that had it may not have heard of
		// the removal.
		c.dead.Remove(e.element)
		e.element = c.live.PushBack(e)
		e.removed = false
	case e.resource.Version == r.Version && slices.Equal(e.resource.Aliases, r.Aliases) && slices.Equal(e.resource.With, r.With):
		return false
	default:
		c.unindex(e)
		c.live.MoveToBack(e.element)
	}
	e.resource = &r
	e.revision = revision
	c.index(e)
	return true
}

// index files e under the keys, other than its name, that an on-demand client may get it by.
func (c *Collection) index(e *entry) {
	for _, keys := range [][]string{e.resource.Aliases, e.resource.With} {
		for _, key := range keys {
			if c.byKey[key] == nil {
				c.byKey[key] = make(map[*entry]struct{}, 1)
			}
			c.byKey[key][e] = struct{}{}
		}
	}
}

func (c *Collection) unindex(e *entry) {
	for _, keys := range [][]string{e.resource.Aliases, e.resource.With} {
		for _, key := range keys {
			if delete(c.byKey[key], e); len(c.byKey[key]) == 0 {
				delete(c.byKey, key)
			}
		}
	}
}

// sweep forgets the tombstones that every watcher has been served. It runs when their number
// has doubled since it last ran, so that its cost per removal is constant. A watcher that does
// not move holds tombstones back; Server.SendTimeout bounds for how long.
func (c *Collection) sweep() {
	if c.dead.Len() < max(c.sweepAt, minSweep) {
		return
	}
	served := c.revision
	for w := range c.watchers {
		served = min(served, w.served)
	}
	for el := c.dead.Front(); el != nil && el.Value.(*entry).revision <= served; el = c.dead.Front() {
		delete(c.entries, c.dead.Remove(el).(*entry).resource.Name)
	}
	c.sweepAt = 2 * c.dead.Len()
}

// Get returns the resource of that name.
func (c *Collection) Get(name string) (Resource, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e := c.entries[name]
	if e == nil || e.removed {
		return Resource{}, false
	}
	return *e.resource, true
}

// All yields the resources, those first that did not change for the longest time. It does so of
// the state when it starts, and holds no lock while it yields.
func (c *Collection) All() iter.Seq[Resource] {
	return func(yield func(Resource) bool) {
		c.mu.RLock()
		all := make([]*Resource, 0, c.live.Len())
		for el := c.live.Front(); el != nil; el = el.Next() {
			all = append(all, el.Value.(*entry).resource)
		}
		c.mu.RUnlock()
		for _, r := range all {
			if !yield(*r) {
				return
			}
		}
	}
}

// Len returns the number of resources.
func (c *Collection) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live.Len()
}
