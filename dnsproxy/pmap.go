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

func (m *pmap[V]) get(key string) (v V, ok bool) {
	n := m.root
	if n == nil {
		return v, false
	}
	h := maphash.String(m.seed, key)
	for shift := 0; shift < hashBits; shift += pmapBits {
		i, _, found := n.slot(h, shift)
		if !found {
			return v, false
		}
		s := &n.slots[i]
		if s.child == nil {
			if s.key != key {
				return v, false
			}
			return s.value, true
		}
		n = s.child
	}
	if i := n.listed(key); i >= 0 {
		return n.slots[i].value, true
	}
	return v, false
}

// set puts v under key, as part of the batch e.
func (m *pmap[V]) set(e *edit, key string, v V) {
	if m.root == nil {
		if m.seed == (maphash.Seed{}) {
			m.seed = maphash.MakeSeed()
		}
		m.root = &pnode[V]{owner: e}
	}
	root, added := m.insert(m.root, e, 0, maphash.String(m.seed, key), key, v)
	m.root = root
	if added {
		m.len++
	}
}

func (m *pmap[V]) insert(n *pnode[V], e *edit, shift int, h uint64, key string, v V) (_ *pnode[V], added bool) {
	n = n.editable(e)
	leaf := pslot[V]{key: key, value: v}
	if shift >= hashBits {
		if i := n.listed(key); i >= 0 {
			n.slots[i] = leaf
			return n, false
		}
		n.slots = append(n.slots, leaf)
		return n, true
	}
	i, bit, found := n.slot(h, shift)
	if !found {
		n.bitmap |= bit
		n.slots = slices.Insert(n.slots, i, leaf)
		return n, true
	}
	s := &n.slots[i]
	switch {
	case s.child != nil:
		s.child, added = m.insert(s.child, e, shift+pmapBits, h, key, v)
		return n, added
	case s.key == key:
		*s = leaf
		return n, false
	}
	child := &pnode[V]{owner: e} // two keys in one slot: a level more
	child, _ = m.insert(child, e, shift+pmapBits, maphash.String(m.seed, s.key), s.key, s.value)
	child, _ = m.insert(child, e, shift+pmapBits, h, key, v)
	*s = pslot[V]{child: child}
	return n, true
}

// remove takes key out, as part of the batch e.
func (m *pmap[V]) remove(e *edit, key string) {
	if _, ok := m.get(key); !ok {
		return
	}
	m.root = m.cut(m.root, e, 0, maphash.String(m.seed, key), key)
	m.len--
}

// cut removes key, which is there, from below n. It returns nil when nothing is left.
func (m *pmap[V]) cut(n *pnode[V], e *edit, shift int, h uint64, key string) *pnode[V] {
	n = n.editable(e)
	var i int
	var bit uint32
	if shift >= hashBits {
		i = n.listed(key)
	} else {
		i, bit, _ = n.slot(h, shift)
	}
	if child := n.slots[i].child; child != nil {
		child = m.cut(child, e, shift+pmapBits, h, key)
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
