package pmap

import (
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"
)

// A subject is a map or a set, as the oracle drives it.
type subject interface {
	get(key string) (int, bool)
	set(key string, v int)
	remove(key string) bool
	state() state
}

// A state is what a subject once was.
type state interface {
	edit() subject
	len() int
	all() map[string]int
	diff(old state, emit func(key string, old, now int))
	root() int // leaves and branches that have less in them than they may
}

// TestOracle drives persistent maps and sets and plain Go maps through the same random edits and compares
// every state and every difference, with hashes of different quality: with bad ones many keys share theirs.
func TestOracle(t *testing.T) {
	spread := func(key string) uint64 {
		h := fnv.New64a()
		h.Write([]byte(key))
		return h.Sum64()
	}
	for name, hash := range map[string]func(string) uint64{
		"good":      HashString,
		"few":       func(key string) uint64 { return spread(key) % 5 },
		"high bits": func(key string) uint64 { return spread(key) << 62 },
		"one":       func(string) uint64 { return 42 },
	} {
		t.Run("map/"+name, func(t *testing.T) { runOracle(t, mapState{hash: hash}, name == "good") })
		t.Run("set/"+name, func(t *testing.T) { runOracle(t, setState{hash: hash}, name == "good") })
	}
}

type oracleState struct {
	state
	want map[string]int
}

func runOracle(t *testing.T, empty state, good bool) {
	rng := rand.New(rand.NewPCG(1, 2))
	keys := 3000
	if !good {
		keys = 200 // rows are slow
	}
	states := []oracleState{{empty, map[string]int{}}}
	for range 400 {
		from := states[rng.IntN(len(states))]
		ed, want := from.edit(), maps.Clone(from.want)
		remove := 1 + rng.IntN(4)
		for range rng.IntN(80) {
			key := strconv.Itoa(rng.IntN(keys))
			if rng.IntN(5) < remove {
				_, there := want[key]
				if got := ed.remove(key); got != there {
					t.Fatalf("remove(%s) = %v, want %v", key, got, there)
				}
				delete(want, key)
				continue
			}
			v := 1 + rng.IntN(5)
			ed.set(key, v)
			want[key] = v
			if got, ok := ed.get(key); !ok || got != v {
				t.Fatalf("get(%s) = %d, %v after it was set to %d", key, got, ok, v)
			}
		}
		next := oracleState{ed.state(), want}
		next.checkSince(t, from)
		next.checkSince(t, states[rng.IntN(len(states))])
		states = append(states, next)
	}
	for _, s := range states {
		s.check(t)
	}
}

func (s oracleState) check(t *testing.T) {
	t.Helper()
	if got := s.all(); !maps.Equal(got, s.want) || s.len() != len(s.want) {
		t.Fatalf("a state changed after it was returned: %d entries, len %d, want %d", len(got), s.len(), len(s.want))
	}
	ed := s.edit()
	for k, v := range s.want {
		if got, ok := ed.get(k); !ok || got != v {
			t.Fatalf("get(%s) = %d, %v; want %d", k, got, ok, v)
		}
	}
	if n := s.root(); n > 0 {
		t.Fatalf("%d nodes hold less than they may", n)
	}
}

func (s oracleState) checkSince(t *testing.T, old oracleState) {
	t.Helper()
	got := maps.Clone(old.want)
	s.diff(old.state, func(key string, o, n int) {
		if got[key] != o {
			t.Fatalf("diff says %s was %d, it was %d", key, o, got[key])
		}
		if o == n {
			t.Fatalf("diff names %s, which did not change", key)
		}
		delete(got, key)
		if n != 0 {
			got[key] = n
		}
	})
	if !maps.Equal(got, s.want) {
		t.Fatalf("old state + diff has %d entries, new state %d", len(got), len(s.want))
	}
}

type mapState struct {
	m    Map[string, int]
	hash func(string) uint64
}

type mapSubject struct {
	*Editor[string, int]
}

func (s mapState) edit() subject {
	ed := s.m.Edit()
	ed.badHash = s.hash
	return mapSubject{ed}
}
func (s mapState) len() int            { return s.m.Len() }
func (s mapState) all() map[string]int { return maps.Collect(s.m.All()) }
func (s mapState) root() int           { return poor(s.m.trie.root, true) }
func (s mapState) diff(old state, emit func(string, int, int)) {
	Diff(old.(mapState).m, s.m, func(c Change[string, int]) { emit(c.Key, c.Old, c.New) })
}

func (s mapSubject) get(key string) (int, bool) { return s.Get(key) }
func (s mapSubject) set(key string, v int)      { s.Set(key, v) }
func (s mapSubject) remove(key string) bool     { return s.Delete(key) }
func (s mapSubject) state() state               { return mapState{s.Map(), s.badHash} }

type setState struct {
	s    Set[item]
	hash func(string) uint64
}

type item struct {
	key string
	val int
}

type setSubject struct {
	*SetEditor[item]
	hash func(string) uint64
}

func is(key string) func(item) bool { return func(i item) bool { return i.key == key } }

func (s setState) edit() subject { return setSubject{s.s.Edit(), s.hash} }
func (s setState) len() int      { return s.s.Len() }
func (s setState) root() int     { return poor(s.s.trie.root, true) }
func (s setState) all() map[string]int {
	all := make(map[string]int)
	for i := range s.s.All() {
		all[i.key] = i.val
	}
	return all
}
func (s setState) diff(old state, emit func(string, int, int)) {
	same := func(a, b item) bool { return a.key == b.key }
	DiffSets(old.(setState).s, s.s, same, func(o, n item) { emit(max(o.key, n.key), o.val, n.val) })
}

func (s setSubject) get(key string) (int, bool) {
	i := s.Find(s.hash(key), is(key))
	return i.val, i != item{}
}
func (s setSubject) set(key string, v int)  { s.Put(s.hash(key), item{key, v}, is(key)) }
func (s setSubject) remove(key string) bool { return s.Delete(s.hash(key), is(key)) }
func (s setSubject) state() state           { return setState{s.Set(), s.hash} }

// poor counts the leaves below the root that are empty, and the branches that a leaf could stand for.
func poor[T any](n *node[T], root bool) int {
	if n == nil {
		return 0
	}
	if n.kids == nil {
		if len(n.leaf) == 0 && !root {
			return 1
		}
		return 0
	}
	sum, size := 0, 0
	n.all(func(*entry[T]) bool { size++; return true })
	if size <= leafMax/2 {
		sum++
	}
	for _, kid := range n.kids {
		sum += poor(kid, false)
	}
	return sum
}

// TestSmallAfterDeletes shows that a map that shrank keeps no nodes.
func TestSmallAfterDeletes(t *testing.T) {
	ed := Map[int, int]{}.Edit()
	for i := range 10000 {
		ed.Set(i, 1)
	}
	for i := range 9999 {
		ed.Delete(i)
	}
	if root := ed.Map().trie.root; root.kids != nil || len(root.leaf) != 1 {
		t.Errorf("%d entries are left in the root", len(root.leaf))
	}
	ed.Delete(9999)
	if m := ed.Map(); m.trie.root != nil || m.Len() != 0 {
		t.Error("something is left")
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	set := Set[*item]{}.Edit()
	m := Map[string, int]{}.Edit()
	for i := range 1000 {
		it := &item{key: strconv.Itoa(i)}
		set.Put(HashString(it.key), it, func(o *item) bool { return o.key == it.key })
		m.Set(it.key, i)
	}
	s, key := set.Set(), "77"
	find := func() {
		if s.Find(HashString(key), func(i *item) bool { return i.key == key }) == nil {
			t.Fatal("not found")
		}
		if _, ok := m.Get(key); !ok {
			t.Fatal("not found")
		}
	}
	if n := testing.AllocsPerRun(100, find); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestStopsEarly: a caller of All may stop.
func TestStopsEarly(t *testing.T) {
	ed := Map[int, int]{}.Edit()
	for i := range 1000 {
		ed.Set(i, 1)
	}
	yielded := 0
	for range ed.Map().All() {
		if yielded++; yielded == 40 {
			break
		}
	}
	if yielded != 40 {
		t.Errorf("%d yielded", yielded)
	}
}

// TestEqualSets: sets are equal if they have the same values, wherever they come from.
func TestEqualSets(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	set := func(n int) Set[item] {
		e := Set[item]{}.Edit()
		for _, i := range rng.Perm(n) {
			key := strconv.Itoa(i)
			e.Put(HashString(key), item{key, i}, is(key))
		}
		return e.Set()
	}
	equal := func(a, b Set[item]) bool {
		return EqualSets(a, b, func(a, b item) bool { return a.key == b.key && a.val%1000 == b.val%1000 })
	}
	for _, n := range []int{0, 1, 10, 500} {
		a, b := set(n), set(n)
		if !equal(a, b) || !equal(a, a) {
			t.Errorf("two sets of %d equal values are not equal", n)
		}
		for _, key := range []string{"0", strconv.Itoa(n / 2), strconv.Itoa(n)} {
			one := a.Edit()
			i := one.Find(HashString(key), is(key))
			one.Put(HashString(key), item{key, i.val + 1000}, is(key))
			if got, want := equal(one.Set(), b), i.key != ""; got != want {
				t.Errorf("%d values: equal with %s replaced by an equal one, or added: %v, want %v", n, key, got, want)
			}
			one.Put(HashString(key), item{key, i.val + 1}, is(key))
			if equal(one.Set(), b) || equal(b, one.Set()) {
				t.Errorf("%d values: equal with another value of %s", n, key)
			}
			one.Delete(HashString(key), is(key))
			one.Put(HashString("x"), item{"x", 1}, is("x"))
			if equal(one.Set(), b) || equal(b, one.Set()) {
				t.Errorf("%d values: equal with another one than %s", n, key)
			}
		}
	}
}
