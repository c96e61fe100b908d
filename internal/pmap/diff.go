package pmap

// A Change says how an entry differs between two maps. An entry that is missing on one side has the zero
// value there.
type Change[K, V comparable] struct {
	Key      K
	Old, New V
}

// Diff calls emit for each entry that differs between old and now. Parts that both share are not looked at,
// so it costs about as much as there are differences, if one was made from the other; it is right for any
// two maps. Values must not be zero.
func Diff[K, V comparable](old, now Map[K, V], emit func(Change[K, V])) {
	if now.root == old.root {
		return
	}
	if now.root == nil || old.root == nil || now.seed != old.seed {
		diffUnrelated(old, now, emit)
		return
	}
	diffNodes(old.root, now.root, emit)
}

func diffUnrelated[K, V comparable](old, now Map[K, V], emit func(Change[K, V])) {
	for k, v := range old.All() {
		if got, _ := now.Get(k); got != v {
			emit(Change[K, V]{k, v, got})
		}
	}
	var zero V
	for k, v := range now.All() {
		if _, ok := old.Get(k); !ok {
			emit(Change[K, V]{k, zero, v})
		}
	}
}

func diffNodes[K, V comparable](old, now *node[K, V], emit func(Change[K, V])) {
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
func (n *node[K, V]) at(bit uint64) *node[K, V] {
	switch {
	case n.kids&bit != 0:
		return n.children[rank(n.kids, bit)]
	case n.data&bit != 0:
		i := rank(n.data, bit)
		return &node[K, V]{entries: n.entries[i : i+1]}
	}
	return nil
}

// diffLeaves compares two subtrees of which at least one is a row of entries, by walking both.
func diffLeaves[K, V comparable](old, now *node[K, V], emit func(Change[K, V])) {
	var zero V
	if old != nil {
		old.all(func(k K, v V) bool {
			if got, _ := now.search(k); got != v {
				emit(Change[K, V]{k, v, got})
			}
			return true
		})
	}
	if now != nil {
		now.all(func(k K, v V) bool {
			if _, ok := old.search(k); !ok {
				emit(Change[K, V]{k, zero, v})
			}
			return true
		})
	}
}

// search walks a whole subtree. Those that it is used on are small: they share a slot with a single entry.
func (n *node[K, V]) search(key K) (v V, ok bool) {
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
