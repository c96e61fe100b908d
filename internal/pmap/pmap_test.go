package pmap

import (
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"
)

// TestMapOracle drives a persistent map and plain Go maps through the same random edits and compares every
// state and every difference, with hashes of different quality: with bad ones many keys share their hash.
func TestMapOracle(t *testing.T) {
	spread := func(key string) uint64 {
		h := fnv.New64a()
		h.Write([]byte(key))
		return h.Sum64()
	}
	for name, hash := range map[string]func(string) uint64{
		"good":      nil,
		"few":       func(key string) uint64 { return spread(key) % 5 },
		"high bits": func(key string) uint64 { return spread(key) << 62 },
		"one":       func(string) uint64 { return 42 },
	} {
		t.Run(name, func(t *testing.T) { runOracle(t, hash) })
	}
}

type oracleState struct {
	m    Map[string, int]
	want map[string]int
}

func runOracle(t *testing.T, hash func(string) uint64) {
	rng := rand.New(rand.NewPCG(1, 2))
	keys := 3000
	if hash != nil {
		keys = 60 // lists are slow
	}
	states := []oracleState{{want: map[string]int{}}}
	if hash != nil {
		// Maps that do not come from one another are compared by their own hash, which is not this one.
		ed := states[0].m.Edit()
		ed.badHash = hash
		ed.Set("first", 1)
		states[0] = oracleState{ed.Map(), map[string]int{"first": 1}}
	}
	for range 400 {
		from := states[rng.IntN(len(states))]
		ed, want := from.m.Edit(), maps.Clone(from.want)
		ed.badHash = hash
		for range rng.IntN(40) {
			key := strconv.Itoa(rng.IntN(keys))
			if rng.IntN(3) == 0 {
				_, there := want[key]
				if got := ed.Delete(key); got != there {
					t.Fatalf("Delete(%s) = %v, want %v", key, got, there)
				}
				delete(want, key)
				continue
			}
			v := 1 + rng.IntN(5)
			ed.Set(key, v)
			want[key] = v
		}
		next := oracleState{ed.Map(), want}
		checkDiff(t, from.m, from.want, next.m, next.want)
		other := states[rng.IntN(len(states))]
		checkDiff(t, other.m, other.want, next.m, next.want)
		states = append(states, next)
	}
	for _, s := range states {
		s.check(t, hash)
	}
}

func (s oracleState) check(t *testing.T, hash func(string) uint64) {
	t.Helper()
	if got := maps.Collect(s.m.All()); !maps.Equal(got, s.want) || s.m.Len() != len(s.want) {
		t.Fatalf("a state changed after it was returned: %d entries, Len %d, want %d", len(got), s.m.Len(), len(s.want))
	}
	get := s.m.Get
	if hash != nil {
		ed := s.m.Edit()
		ed.badHash = hash
		get = ed.Get
	}
	for k, v := range s.want {
		if got, ok := get(k); !ok || got != v {
			t.Fatalf("Get(%s) = %d, %v; want %d", k, got, ok, v)
		}
	}
	if s.m.root != nil {
		checkShape(t, s.m.root, true)
	}
	yielded := 0
	for range s.m.All() {
		if yielded++; yielded == 3 {
			break
		}
	}
}

// checkShape: no node below the root is empty or has one entry only, so that a map is never deeper than what
// it holds needs.
func checkShape(t *testing.T, n *node[string, int], root bool) {
	t.Helper()
	if !root && len(n.children) == 0 && len(n.entries) < 2 {
		t.Fatalf("a node has %d entries below it", len(n.entries))
	}
	for _, c := range n.children {
		checkShape(t, c, false)
	}
}

func checkDiff(t *testing.T, old Map[string, int], oldWant map[string]int, now Map[string, int], nowWant map[string]int) {
	t.Helper()
	got := maps.Clone(oldWant)
	Diff(old, now, func(d Change[string, int]) {
		if got[d.Key] != d.Old {
			t.Fatalf("diff says %s was %d, it was %d", d.Key, d.Old, got[d.Key])
		}
		if d.Old == d.New {
			t.Fatalf("diff names %s, which did not change", d.Key)
		}
		delete(got, d.Key)
		if d.New != 0 {
			got[d.Key] = d.New
		}
	})
	if !maps.Equal(got, nowWant) {
		t.Fatalf("old state + diff has %d entries, new state %d", len(got), len(nowWant))
	}
}

// TestMapSmallAfterDeletes shows that a map that shrank keeps no nodes.
func TestMapSmallAfterDeletes(t *testing.T) {
	ed := Map[int, int]{}.Edit()
	for i := range 10000 {
		ed.Set(i, 1)
	}
	for i := range 9999 {
		ed.Delete(i)
	}
	if root := ed.Map().root; len(root.children) != 0 || len(root.entries) != 1 {
		t.Errorf("root has %d children and %d entries, want one entry", len(root.children), len(root.entries))
	}
}
