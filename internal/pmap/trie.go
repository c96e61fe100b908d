package pmap

// A trie is a tree over the bits of a hash, whose leaves are rows of entries. Nodes never change once an
// editor has handed them out.
type trie[T any] struct {
	root *node[T]
	n    int
}

// A node is a branch, if it has kids, or a leaf. Its owner is the editor that made it and may still change it.
type node[T any] struct {
	owner *owner
	kids  *[fan]*node[T]
	leaf  []entry[T]
}

type entry[T any] struct {
	hash uint64
	val  T
}

// It must not have size zero, or all owners would be one.
type owner struct{ _ byte }

// Narrow branches and long leaves keep both the memory of an entry and what a change has to copy small.
const (
	fanBits  = 4
	fan      = 1 << fanBits
	leafMax  = 32 // entries, unless the bits of the hash are used up
	hashBits = 64
)

func slot(hash uint64, shift uint) uint64 { return hash >> shift & (fan - 1) }

// find returns the entry's value in a subtree that begins at a bit of the hash, or nil.
func (n *node[T]) find(hash uint64, shift uint, is func(*T) bool) *T {
	for n != nil && n.kids != nil {
		n = n.kids[slot(hash, shift)]
		shift += fanBits
	}
	if n == nil {
		return nil
	}
	if i := n.index(hash, is); i >= 0 {
		return &n.leaf[i].val
	}
	return nil
}

func (n *node[T]) index(hash uint64, is func(*T) bool) int {
	for i := range n.leaf {
		if n.leaf[i].hash == hash && is(&n.leaf[i].val) {
			return i
		}
	}
	return -1
}

func (n *node[T]) all(yield func(*entry[T]) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.leaf {
		if !yield(&n.leaf[i]) {
			return false
		}
	}
	if n.kids == nil {
		return true
	}
	for _, kid := range n.kids {
		if !kid.all(yield) {
			return false
		}
	}
	return true
}

// An edit makes a trie from another one.
type edit[T any] struct {
	trie  trie[T]
	owner *owner // nil: no node may be changed
}

// done returns the trie, whose nodes may not be changed any more.
func (e *edit[T]) done() trie[T] {
	e.owner = nil
	return e.trie
}

func (e *edit[T]) begin() {
	if e.owner == nil {
		e.owner = new(owner)
	}
}

func (e *edit[T]) put(hash uint64, val T, is func(*T) bool) {
	e.begin()
	var added bool
	e.trie.root, added = e.set(e.trie.root, entry[T]{hash, val}, is, 0)
	if added {
		e.trie.n++
	}
}

func (e *edit[T]) set(n *node[T], ent entry[T], is func(*T) bool, shift uint) (_ *node[T], added bool) {
	if n == nil {
		return &node[T]{owner: e.owner, leaf: append(make([]entry[T], 0, 2), ent)}, true
	}
	n = e.own(n)
	if n.kids == nil && len(n.leaf) >= leafMax && shift+fanBits <= hashBits && n.index(ent.hash, is) < 0 {
		e.split(n, shift)
	}
	if n.kids != nil {
		at := &n.kids[slot(ent.hash, shift)]
		*at, added = e.set(*at, ent, is, shift+fanBits)
		return n, added
	}
	if i := n.index(ent.hash, is); i >= 0 {
		n.leaf[i].val = ent.val
		return n, false
	}
	if len(n.leaf) == cap(n.leaf) {
		n.leaf = append(make([]entry[T], 0, room(len(n.leaf)+1)), n.leaf...)
	}
	n.leaf = append(n.leaf, ent)
	return n, true
}

// room returns how many entries to make room for: nodes live long, so little more than there are.
func room(n int) int { return (n + 3) &^ 3 }

// own returns n if e may change it, else a copy.
func (e *edit[T]) own(n *node[T]) *node[T] {
	if n.owner == e.owner {
		return n
	}
	if n.kids != nil {
		b := e.branch()
		*b.kids = *n.kids
		return b
	}
	return &node[T]{owner: e.owner, leaf: append(make([]entry[T], 0, room(len(n.leaf))), n.leaf...)}
}

// branch returns a branch without kids, as one piece of memory.
func (e *edit[T]) branch() *node[T] {
	b := new(struct {
		node[T]
		array [fan]*node[T]
	})
	b.owner, b.kids = e.owner, &b.array
	return &b.node
}

// split makes a branch of a leaf.
func (e *edit[T]) split(n *node[T], shift uint) {
	var count [fan]int
	for i := range n.leaf {
		count[slot(n.leaf[i].hash, shift)]++
	}
	kids := new([fan]*node[T])
	for i, c := range count {
		if c > 0 {
			kids[i] = &node[T]{owner: e.owner, leaf: make([]entry[T], 0, room(c))}
		}
	}
	for _, ent := range n.leaf {
		kid := kids[slot(ent.hash, shift)]
		kid.leaf = append(kid.leaf, ent)
	}
	n.kids, n.leaf = kids, nil
}

func (e *edit[T]) drop(hash uint64, is func(*T) bool) bool {
	if e.trie.root.find(hash, 0, is) == nil {
		return false
	}
	e.begin()
	e.trie.root = e.delete(e.trie.root, hash, is, 0)
	e.trie.n--
	return true
}

// delete removes an entry that is there, and returns nil for a subtree that has no other.
func (e *edit[T]) delete(n *node[T], hash uint64, is func(*T) bool, shift uint) *node[T] {
	if n.kids == nil {
		if len(n.leaf) == 1 {
			return nil
		}
		n = e.own(n)
		last := len(n.leaf) - 1
		n.leaf[n.index(hash, is)] = n.leaf[last]
		clear(n.leaf[last:])
		n.leaf = n.leaf[:last]
		return n
	}
	n = e.own(n)
	at := &n.kids[slot(hash, shift)]
	*at = e.delete(*at, hash, is, shift+fanBits)
	if *at == nil || (*at).kids == nil {
		return e.joined(n)
	}
	return n
}

// joined returns a branch, or a leaf of what is in its kids where that is little.
func (e *edit[T]) joined(n *node[T]) *node[T] {
	sum := 0
	for _, kid := range n.kids {
		if kid == nil {
			continue
		}
		if sum += len(kid.leaf); kid.kids != nil || sum > leafMax/2 {
			return n
		}
	}
	leaf := make([]entry[T], 0, room(sum))
	for _, kid := range n.kids {
		if kid != nil {
			leaf = append(leaf, kid.leaf...)
		}
	}
	return &node[T]{owner: e.owner, leaf: leaf}
}

// A differ compares two tries.
type differ[T any] struct {
	same  func(a, b *T) bool            // whether both have the same key
	equal func(a, b *T) bool            // whether both have the same value, too
	emit  func(old, now *T) (more bool) // nil where there is none
}

// diff emits differences for as long as more are wanted, and reports whether they still are.
func (d *differ[T]) diff(old, now *node[T], shift uint) bool {
	if old == now {
		return true
	}
	if old != nil && now != nil && old.kids != nil && now.kids != nil {
		for i := range old.kids {
			if !d.diff(old.kids[i], now.kids[i], shift+fanBits) {
				return false
			}
		}
		return true
	}
	// One of them is a leaf, so the other one is not much more.
	return old.all(func(o *entry[T]) bool {
		n := now.find(o.hash, shift, func(n *T) bool { return d.same(&o.val, n) })
		return n != nil && d.equal(&o.val, n) || d.emit(&o.val, n)
	}) && now.all(func(n *entry[T]) bool {
		return old.find(n.hash, shift, func(o *T) bool { return d.same(o, &n.val) }) != nil || d.emit(nil, &n.val)
	})
}
