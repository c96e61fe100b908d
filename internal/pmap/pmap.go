// Package pmap is a persistent map: each change makes another map that shares with the one before all but
// the way to what changed.
//
//	m0 --Edit--> Editor --Set, Delete--> Editor --Map--> m1      Diff(m0, m1) costs what the change did
//
// It is what immutable snapshots are made of, which are read without a lock while the next one is made. It
// keeps no order.
package pmap

import (
	"hash/maphash"
	"iter"
	"math/bits"
)

// A Map is a compressed hash trie with 64-way nodes. It never changes, so that readers need no lock; an
// Editor makes the next one, copying only the nodes on the way to what it changes, and each of these once.
// The zero value is empty.
type Map[K comparable, V any] struct {
	root *node[K, V]
	n    int
	seed maphash.Seed
}

// A node has, for each of 64 slots, nothing, an entry or a child. Both bitmaps say which slots are taken;
// entries and children are packed in the order of slots. A leaf at the end of the hash holds its entries in
// a row.
type node[K comparable, V any] struct {
	owner    *owner
	data     uint64
	kids     uint64
	entries  []entry[K, V]
	children []*node[K, V]
}

type entry[K comparable, V any] struct {
	key K
	val V
}

// An owner marks the nodes that one editor made and may still change. It must not have size zero, or all
// owners would be one.
type owner struct{ _ byte }

const (
	slotBits = 6
	hashBits = 64
)

func slot(hash uint64, shift uint) uint64 { return 1 << (hash >> shift & (1<<slotBits - 1)) }

func rank(bitmap, bit uint64) int { return bits.OnesCount64(bitmap & (bit - 1)) }

// Len returns the number of entries.
func (m Map[K, V]) Len() int { return m.n }

// Get returns the value of key. It allocates nothing.
func (m Map[K, V]) Get(key K) (v V, ok bool) {
	if m.root == nil {
		return v, false
	}
	return m.root.get(key, maphash.Comparable(m.seed, key))
}

func (n *node[K, V]) get(key K, hash uint64) (v V, ok bool) {
	for shift := uint(0); shift < hashBits; shift += slotBits {
		bit := slot(hash, shift)
		if n.data&bit != 0 {
			e := &n.entries[rank(n.data, bit)]
			if e.key == key {
				return e.val, true
			}
			return v, false
		}
		if n.kids&bit == 0 {
			return v, false
		}
		n = n.children[rank(n.kids, bit)]
	}
	if i := n.find(key); i >= 0 {
		return n.entries[i].val, true
	}
	return v, false
}

// find looks through a leaf at the end of the hash.
func (n *node[K, V]) find(key K) int {
	for i := range n.entries {
		if n.entries[i].key == key {
			return i
		}
	}
	return -1
}

// All yields all entries in no particular order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.root != nil {
			m.root.all(yield)
		}
	}
}

func (n *node[K, V]) all(yield func(K, V) bool) bool {
	for i := range n.entries {
		if !yield(n.entries[i].key, n.entries[i].val) {
			return false
		}
	}
	for _, c := range n.children {
		if !c.all(yield) {
			return false
		}
	}
	return true
}

// Edit returns an editor that starts from m. It costs next to nothing until something changes.
func (m Map[K, V]) Edit() *Editor[K, V] { return &Editor[K, V]{m: m} }

// An Editor collects changes to a Map. It is for one goroutine.
type Editor[K comparable, V any] struct {
	m       Map[K, V]
	owner   *owner         // nil: no node may be changed
	badHash func(K) uint64 // for tests; nil: that of the map
}

// Get returns the value of key as edited so far.
func (e *Editor[K, V]) Get(key K) (v V, ok bool) {
	if e.m.root == nil {
		return v, false
	}
	return e.m.root.get(key, e.hash(key))
}

func (e *Editor[K, V]) hash(key K) uint64 {
	if e.badHash != nil {
		return e.badHash(key)
	}
	return maphash.Comparable(e.m.seed, key)
}

// Map returns the map as edited so far. The editor may go on; what it has returned stays as it is.
func (e *Editor[K, V]) Map() Map[K, V] {
	e.owner = nil
	return e.m
}

// begin prepares for a change.
func (e *Editor[K, V]) begin() {
	if e.owner == nil {
		e.owner = new(owner)
	}
	if e.m.root == nil {
		e.m.seed = maphash.MakeSeed()
		e.m.root = &node[K, V]{owner: e.owner}
	}
}

// Set sets the value of key.
func (e *Editor[K, V]) Set(key K, val V) {
	e.begin()
	var added bool
	e.m.root, added = e.set(e.m.root, entry[K, V]{key, val}, e.hash(key), 0)
	if added {
		e.m.n++
	}
}

// Delete removes key, and reports whether it was there.
func (e *Editor[K, V]) Delete(key K) bool {
	if _, ok := e.Get(key); !ok {
		return false
	}
	e.begin()
	e.m.root = e.delete(e.m.root, key, e.hash(key), 0)
	e.m.n--
	return true
}

// own returns n if e may change it, else a copy.
func (e *Editor[K, V]) own(n *node[K, V]) *node[K, V] {
	if n.owner == e.owner {
		return n
	}
	return &node[K, V]{
		owner: e.owner, data: n.data, kids: n.kids,
		entries:  append([]entry[K, V](nil), n.entries...),
		children: append([]*node[K, V](nil), n.children...),
	}
}

func (e *Editor[K, V]) set(n *node[K, V], ent entry[K, V], hash uint64, shift uint) (*node[K, V], bool) {
	n = e.own(n)
	if shift >= hashBits {
		if i := n.find(ent.key); i >= 0 {
			n.entries[i] = ent
			return n, false
		}
		n.entries = append(n.entries, ent)
		return n, true
	}
	bit := slot(hash, shift)
	switch {
	case n.kids&bit != 0:
		i := rank(n.kids, bit)
		child, added := e.set(n.children[i], ent, hash, shift+slotBits)
		n.children[i] = child
		return n, added
	case n.data&bit == 0:
		n.data |= bit
		n.entries = insert(n.entries, rank(n.data, bit), ent)
		return n, true
	}
	i := rank(n.data, bit)
	if n.entries[i].key == ent.key {
		n.entries[i] = ent
		return n, false
	}
	e.push(n, bit, ent, hash, shift)
	return n, true
}

// push moves the entry that sits in a slot one level down, together with another one.
func (e *Editor[K, V]) push(n *node[K, V], bit uint64, ent entry[K, V], hash uint64, shift uint) {
	i := rank(n.data, bit)
	sitting := n.entries[i]
	child := &node[K, V]{owner: e.owner}
	child, _ = e.set(child, sitting, e.hash(sitting.key), shift+slotBits)
	child, _ = e.set(child, ent, hash, shift+slotBits)
	n.data &^= bit
	n.entries = remove(n.entries, i)
	n.kids |= bit
	n.children = insert(n.children, rank(n.kids, bit), child)
}

// delete removes a key that is there. A child left with one entry is pulled up, so that equal maps have
// equal shapes.
func (e *Editor[K, V]) delete(n *node[K, V], key K, hash uint64, shift uint) *node[K, V] {
	n = e.own(n)
	if shift >= hashBits {
		n.entries = remove(n.entries, n.find(key))
		return n
	}
	bit := slot(hash, shift)
	if n.data&bit != 0 {
		n.entries = remove(n.entries, rank(n.data, bit))
		n.data &^= bit
		return n
	}
	i := rank(n.kids, bit)
	child := e.delete(n.children[i], key, hash, shift+slotBits)
	n.children[i] = child
	if len(child.children) == 0 && len(child.entries) == 1 {
		n.children = remove(n.children, i)
		n.kids &^= bit
		n.data |= bit
		n.entries = insert(n.entries, rank(n.data, bit), child.entries[0])
	}
	return n
}

// insert puts x at i. It grows by one, not by half, since nodes live long.
func insert[T any](s []T, i int, x T) []T {
	if len(s) == cap(s) {
		grown := make([]T, len(s)+1)
		copy(grown, s[:i])
		copy(grown[i+1:], s[i:])
		grown[i] = x
		return grown
	}
	s = append(s, x)
	copy(s[i+1:], s[i:])
	s[i] = x
	return s
}

func remove[T any](s []T, i int) []T {
	copy(s[i:], s[i+1:])
	clear(s[len(s)-1:])
	return s[:len(s)-1]
}
