package dnsproxy

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// pmap is a persistent map from names to values, a hash array mapped trie: a
// changed map shares everything with the one it was made from except for the
// path to what changed. The zero pmap is empty.
//
//	root  [ . leaf . node . . leaf . ]       5 bits of the hash choose a slot,
//	                  |                      the bitmap says which of 32 exist
//	               [ leaf . leaf . node ]    the next 5 bits
type pmap[V any] struct {
	seed maphash.Seed
	root *pnode[V]
	len  int
}

type pnode[V any] struct {
	owner  *edit
	bitmap uint32
	slots  []pslot[V] // below the last bits of the hash: a plain list
}

type pslot[V any] struct {
	child *pnode[V] // nil: a leaf
	hash  uint64
	key   string
	value V
}

// edit marks the nodes that were made by one batch of changes: nobody else has
// seen them, so the batch may change them in place.
type edit struct{ _ byte }

const (
	pmapBits = 5
	hashBits = 64
)

func (n *pnode[V]) slot(h uint64, shift int) (index int, bit uint32, found bool) {
	bit = 1 << (h >> shift & (1<<pmapBits - 1))
	return bits.OnesCount32(n.bitmap & (bit - 1)), bit, n.bitmap&bit != 0
}

// listed is slot for the lists of keys whose hashes are equal.
func (n *pnode[V]) listed(key string) int {
	return slices.IndexFunc(n.slots, func(s pslot[V]) bool { return s.key == key })
}

func (m *pmap[V]) get(key string) (V, bool) {
	if m.root == nil {
		var none V
		return none, false
	}
	return m.root.find(maphash.String(m.seed, key), key)
}

func (n *pnode[V]) find(h uint64, key string) (none V, ok bool) {
	for shift := 0; shift < hashBits; shift += pmapBits {
		i, _, found := n.slot(h, shift)
		if !found {
			return none, false
		}
		s := &n.slots[i]
		if s.child == nil {
			if s.key != key {
				return none, false
			}
			return s.value, true
		}
		n = s.child
	}
	if i := n.listed(key); i >= 0 {
		return n.slots[i].value, true
	}
	return none, false
}

// set puts v under key, as part of the batch e.
func (m *pmap[V]) set(e *edit, key string, v V) {
	if m.root == nil {
		if m.seed == (maphash.Seed{}) {
			m.seed = maphash.MakeSeed()
		}
		m.root = &pnode[V]{owner: e}
	}
	root, added := m.root.insert(e, 0, pslot[V]{hash: maphash.String(m.seed, key), key: key, value: v})
	m.root = root
	if added {
		m.len++
	}
}

// insert puts leaf below n, and says whether its key is new.
func (n *pnode[V]) insert(e *edit, shift int, leaf pslot[V]) (_ *pnode[V], added bool) {
	n = n.editable(e)
	if shift >= hashBits {
		if i := n.listed(leaf.key); i >= 0 {
			n.slots[i] = leaf
			return n, false
		}
		n.slots = append(n.slots, leaf)
		return n, true
	}
	i, bit, found := n.slot(leaf.hash, shift)
	if !found {
		n.bitmap |= bit
		n.slots = slices.Insert(n.slots, i, leaf)
		return n, true
	}
	s := &n.slots[i]
	switch {
	case s.child != nil:
		s.child, added = s.child.insert(e, shift+pmapBits, leaf)
		return n, added
	case s.key == leaf.key:
		*s = leaf
		return n, false
	}
	child := &pnode[V]{owner: e} // two keys in one slot: a level more
	child, _ = child.insert(e, shift+pmapBits, *s)
	child, _ = child.insert(e, shift+pmapBits, leaf)
	*s = pslot[V]{child: child}
	return n, true
}

// remove takes key out, as part of the batch e.
func (m *pmap[V]) remove(e *edit, key string) {
	if _, ok := m.get(key); !ok {
		return
	}
	m.root = m.root.cut(e, 0, maphash.String(m.seed, key), key)
	m.len--
}

// cut removes key, which is there, from below n. It returns nil when nothing is left.
func (n *pnode[V]) cut(e *edit, shift int, h uint64, key string) *pnode[V] {
	n = n.editable(e)
	var i int
	var bit uint32
	if shift >= hashBits {
		i = n.listed(key)
	} else {
		i, bit, _ = n.slot(h, shift)
	}
	if child := n.slots[i].child; child != nil {
		child = child.cut(e, shift+pmapBits, h, key)
		switch {
		case child == nil:
		case len(child.slots) == 1 && child.slots[0].child == nil:
			n.slots[i] = child.slots[0] // the last leaf of a level moves up
			return n
		default:
			n.slots[i].child = child
			return n
		}
	}
	n.bitmap &^= bit
	n.slots = slices.Delete(n.slots, i, i+1)
	if len(n.slots) == 0 {
		return nil
	}
	return n
}

func (n *pnode[V]) editable(e *edit) *pnode[V] {
	if n.owner == e {
		return n
	}
	return &pnode[V]{owner: e, bitmap: n.bitmap, slots: slices.Clone(n.slots)}
}

func (m *pmap[V]) all() iter.Seq[V] {
	return func(yield func(V) bool) {
		if m.root != nil {
			m.root.each(yield)
		}
	}
}

func (n *pnode[V]) each(yield func(V) bool) bool {
	for i := range n.slots {
		s := &n.slots[i]
		if s.child != nil {
			if !s.child.each(yield) {
				return false
			}
		} else if !yield(s.value) {
			return false
		}
	}
	return true
}
