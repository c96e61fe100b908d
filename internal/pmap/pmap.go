// Package pmap holds persistent maps and sets: each change makes another one that shares with the one before
// all but the way to what changed.
//
//	m0 --Edit--> Editor --Set, Delete--> Editor --Map--> m1      Diff(m0, m1) costs what the change did
//
// They are what immutable snapshots are made of, which are read without a lock while the next one is made.
// They keep no order. A [Map] has keys and values; a [Set] has values that know their own keys, and so takes
// half the memory.
package pmap

import (
	"hash/maphash"
	"iter"
	"math/bits"
)

// seed makes hashes that nobody outside of this process can foresee. All maps have the same one, so that any
// two of them can be compared part by part.
var seed = maphash.MakeSeed()

// HashString hashes the key of a value of a Set.
func HashString(s string) uint64 { return maphash.String(seed, s) }

// Hash16 hashes a key of 16 bytes.
func Hash16(b [16]byte) uint64 { return bits.RotateLeft64(maphash.Bytes(seed, b[:]), 32) }

// A Map is a persistent map. It never changes, so that readers need no lock; an Editor makes the next one.
// The zero value is empty.
type Map[K comparable, V any] struct{ trie trie[pair[K, V]] }

type pair[K comparable, V any] struct {
	key K
	val V
}

// Len returns the number of entries.
func (m Map[K, V]) Len() int { return m.trie.n }

// Get returns the value of key. It allocates nothing.
func (m Map[K, V]) Get(key K) (v V, ok bool) {
	return m.get(key, maphash.Comparable(seed, key))
}

func (m Map[K, V]) get(key K, hash uint64) (v V, ok bool) {
	p := m.trie.root.find(hash, 0, func(p *pair[K, V]) bool { return p.key == key })
	if p == nil {
		return v, false
	}
	return p.val, true
}

// All yields all entries in no particular order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		m.trie.root.all(func(e *entry[pair[K, V]]) bool { return yield(e.val.key, e.val.val) })
	}
}

// Edit returns an editor that starts from m. It costs next to nothing until something changes.
func (m Map[K, V]) Edit() *Editor[K, V] { return &Editor[K, V]{edit: edit[pair[K, V]]{trie: m.trie}} }

// An Editor collects changes to a Map. It is for one goroutine.
type Editor[K comparable, V any] struct {
	edit    edit[pair[K, V]]
	badHash func(K) uint64 // for tests; nil: the right one
}

func (e *Editor[K, V]) hash(key K) uint64 {
	if e.badHash != nil {
		return e.badHash(key)
	}
	return maphash.Comparable(seed, key)
}

// Get returns the value of key as edited so far.
func (e *Editor[K, V]) Get(key K) (v V, ok bool) {
	return Map[K, V]{e.edit.trie}.get(key, e.hash(key))
}

// Set sets the value of key.
func (e *Editor[K, V]) Set(key K, val V) {
	e.edit.put(e.hash(key), pair[K, V]{key, val}, func(p *pair[K, V]) bool { return p.key == key })
}

// Delete removes key, and reports whether it was there.
func (e *Editor[K, V]) Delete(key K) bool {
	return e.edit.drop(e.hash(key), func(p *pair[K, V]) bool { return p.key == key })
}

// Map returns the map as edited so far. The editor may go on; what it has returned stays as it is.
func (e *Editor[K, V]) Map() Map[K, V] { return Map[K, V]{e.edit.done()} }

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
	d := differ[pair[K, V]]{
		same:  func(a, b *pair[K, V]) bool { return a.key == b.key },
		equal: func(a, b *pair[K, V]) bool { return a.val == b.val },
		emit: func(old, now *pair[K, V]) bool {
			var c Change[K, V]
			if old != nil {
				c.Key, c.Old = old.key, old.val
			}
			if now != nil {
				c.Key, c.New = now.key, now.val
			}
			emit(c)
			return true
		},
	}
	d.diff(old.trie.root, now.trie.root, 0)
}
