package pmap

import "iter"

// A Set is a persistent set of values that know their own keys: who asks says the hash of a key, and which
// value has it. Hashes must be those of [HashString] or as good. It never changes, so that readers need no
// lock; a SetEditor makes the next one. The zero value is empty.
type Set[V comparable] struct{ trie trie[V] }

// Len returns the number of values.
func (s Set[V]) Len() int { return s.trie.n }

// Find returns the value of that hash that has the key, or the zero value. It allocates nothing.
func (s Set[V]) Find(hash uint64, has func(V) bool) (v V) {
	if p := s.trie.root.find(hash, 0, func(p *V) bool { return has(*p) }); p != nil {
		return *p
	}
	return v
}

// All yields all values in no particular order.
func (s Set[V]) All() iter.Seq[V] {
	return func(yield func(V) bool) {
		s.trie.root.all(func(e *entry[V]) bool { return yield(e.val) })
	}
}

// Edit returns an editor that starts from s. It costs next to nothing until something changes.
func (s Set[V]) Edit() *SetEditor[V] { return &SetEditor[V]{edit[V]{trie: s.trie}} }

// A SetEditor collects changes to a Set. It is for one goroutine.
type SetEditor[V comparable] struct{ edit edit[V] }

// Find is [Set.Find], as edited so far.
func (e *SetEditor[V]) Find(hash uint64, has func(V) bool) V {
	return Set[V]{e.edit.trie}.Find(hash, has)
}

// Put adds a value in the place of the one that has the same key.
func (e *SetEditor[V]) Put(hash uint64, val V, has func(V) bool) {
	e.edit.put(hash, val, func(p *V) bool { return has(*p) })
}

// Delete removes the value that has the key, and reports whether it was there.
func (e *SetEditor[V]) Delete(hash uint64, has func(V) bool) bool {
	return e.edit.drop(hash, func(p *V) bool { return has(*p) })
}

// Set returns the set as edited so far. The editor may go on; what it has returned stays as it is.
func (e *SetEditor[V]) Set() Set[V] { return Set[V]{e.edit.done()} }

// DiffSets calls emit for each key whose value differs between old and now, with the zero value where there
// is none. What it costs is as with [Diff]. same says whether two values have the same key.
func DiffSets[V comparable](old, now Set[V], same func(a, b V) bool, emit func(old, now V)) {
	d := differ[V]{
		same:  func(a, b *V) bool { return same(*a, *b) },
		equal: func(a, b *V) bool { return *a == *b },
		emit: func(old, now *V) bool {
			var o, n V
			if old != nil {
				o = *old
			}
			if now != nil {
				n = *now
			}
			emit(o, n)
			return true
		},
	}
	d.diff(old.trie.root, now.trie.root, 0)
}

// EqualSets reports whether each value of a set equals one of the other, which has the same key. Parts that
// both share are not looked at.
func EqualSets[V comparable](a, b Set[V], equal func(a, b V) bool) bool {
	d := differ[V]{
		same:  func(a, b *V) bool { return *a == *b || equal(*a, *b) },
		equal: func(_, _ *V) bool { return true },
		emit:  func(_, _ *V) bool { return false },
	}
	return a.Len() == b.Len() && d.diff(a.trie.root, b.trie.root, 0)
}
