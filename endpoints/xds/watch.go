package xds

import "slices"

// delta is what a client has to be told about a collection.
type delta struct {
	upserts  []*Resource
	removals []string
}

func (d *delta) empty() bool { return len(d.upserts) == 0 && len(d.removals) == 0 }

// watch starts to call notify after each change. The watcher counts as served with all that
// is there now.
func (c *Collection) watch(notify func()) *watcher {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watchers == nil {
		c.watchers = make(map[*watcher]struct{})
	}
	w := &watcher{notify: notify, served: c.revision}
	c.watchers[w] = struct{}{}
	return w
}

func (c *Collection) unwatch(w *watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watchers, w)
}

// everything returns all resources, as a change for a client that holds the versions in have.
// Removals are in no order.
// The caller holds the lock for reading.
func (c *Collection) everything(have map[string]string) delta {
	var d delta
	if len(have) == 0 {
		d.upserts = make([]*Resource, 0, c.live.Len())
	}
	for el := c.live.Front(); el != nil; el = el.Next() {
		if r := el.Value.(*entry).resource; !held(have, r) {
			d.upserts = append(d.upserts, r)
		}
	}
	for name := range have {
		if e := c.entries[name]; e == nil || e.removed {
			d.removals = append(d.removals, name)
		}
	}
	return d
}

// held reports whether a client that holds the versions in have holds r.
func held(have map[string]string, r *Resource) bool {
	version, ok := have[r.Name]
	return ok && version == r.Version
}

// since returns what has changed since the watcher was served, in the order of the changes, of
// the entries that want accepts. The caller holds the lock for reading.
func (c *Collection) since(w *watcher, want func(*entry) bool) delta {
	var d delta
	for el := c.live.Back(); el != nil; el = el.Prev() {
		e := el.Value.(*entry)
		if e.revision <= w.served {
			break
		}
		if want(e) {
			d.upserts = append(d.upserts, e.resource)
		}
	}
	for el := c.dead.Back(); el != nil; el = el.Prev() {
		e := el.Value.(*entry)
		if e.revision <= w.served {
			break
		}
		if e.created <= w.served && want(e) {
			d.removals = append(d.removals, e.resource.Name)
		}
	}
	slices.Reverse(d.upserts)
	slices.Reverse(d.removals)
	return d
}

// lookup returns the resources that have this name or alias, and those that come along with it.
// The caller holds the lock for reading.
func (c *Collection) lookup(key string) []*Resource {
	var found []*Resource
	if e := c.entries[key]; e != nil && !e.removed {
		found = append(found, e.resource)
	}
	for e := range c.byKey[key] {
		found = append(found, e.resource)
	}
	return found
}
