package endpoints

// A pdiff says how an entry differs between two maps. An entry that is missing on one side has the zero
// value there.
type pdiff[K, V comparable] struct {
	key      K
	old, new V
}

// diff calls emit for each entry that differs between old and m. Parts that both share are not looked at,
// so it costs about as much as there are differences, if one was made from the other; it is right for any
// two maps. Values must not be zero.
func (m pmap[K, V]) diff(old pmap[K, V], emit func(pdiff[K, V])) {
	if m.root == old.root {
		return
	}
	if m.root == nil || old.root == nil || m.seed != old.seed {
		m.diffUnrelated(old, emit)
		return
	}
	diffNodes(old.root, m.root, emit)
}

func (m pmap[K, V]) diffUnrelated(old pmap[K, V], emit func(pdiff[K, V])) {
	for k, v := range old.All() {
		if now, _ := m.Get(k); now != v {
			emit(pdiff[K, V]{k, v, now})
		}
	}
	var zero V
	for k, v := range m.All() {
		if _, ok := old.Get(k); !ok {
			emit(pdiff[K, V]{k, zero, v})
		}
	}
}

func diffNodes[K, V comparable](old, now *pnode[K, V], emit func(pdiff[K, V])) {
	if old == now {
		return
	}
	if old.data|old.kids == 0 || now.data|now.kids == 0 {
		diffLeaves(old, now, emit) // at the end of the hash, or empty
		return
	}
	for slots := old.data | old.kids | now.data | now.kids; slots != 0; slots &= slots - 1 {
		bit := slots & -slots
		if old.kids&bit != 0 && now.kids&bit != 0 {
			diffNodes(old.children[rank(old.kids, bit)], now.children[rank(now.kids, bit)], emit)
			continue
		}
		diffLeaves(old.at(bit), now.at(bit), emit)
	}
}

// at returns what is in a slot as a node that can be walked; nil if nothing is.
func (n *pnode[K, V]) at(bit uint64) *pnode[K, V] {
	switch {
	case n.kids&bit != 0:
		return n.children[rank(n.kids, bit)]
	case n.data&bit != 0:
		i := rank(n.data, bit)
		return &pnode[K, V]{entries: n.entries[i : i+1]}
	}
	return nil
}

// diffLeaves compares two subtrees of which at least one is a row of entries, by walking both.
func diffLeaves[K, V comparable](old, now *pnode[K, V], emit func(pdiff[K, V])) {
	var zero V
	if old != nil {
		old.all(func(k K, v V) bool {
			if got, _ := now.search(k); got != v {
				emit(pdiff[K, V]{k, v, got})
			}
			return true
		})
	}
	if now != nil {
		now.all(func(k K, v V) bool {
			if _, ok := old.search(k); !ok {
				emit(pdiff[K, V]{k, zero, v})
			}
			return true
		})
	}
}

// search walks a whole subtree. Those that it is used on are small: they share a slot with a single entry.
func (n *pnode[K, V]) search(key K) (v V, ok bool) {
	if n == nil {
		return v, false
	}
	n.all(func(k K, val V) bool {
		if k == key {
			v, ok = val, true
		}
		return !ok
	})
	return v, ok
}
