package endpoints

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// TestMapOracle drives a persistent map and plain Go maps through the same random edits and compares every
// state and every difference.
func TestMapOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	type state struct {
		m    pmap[string, int]
		want map[string]int
	}
	states := []state{{want: map[string]int{}}}
	for range 400 {
		from := states[rng.IntN(len(states))]
		ed, want := from.m.Edit(), maps.Clone(from.want)
		for range rng.IntN(40) {
			key := fmt.Sprint(rng.IntN(3000))
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
		next := state{ed.Map(), want}
		checkDiff(t, from.m, from.want, next.m, next.want)
		other := states[rng.IntN(len(states))]
		checkDiff(t, other.m, other.want, next.m, next.want)
		states = append(states, next)
	}
	for _, s := range states {
		if got := maps.Collect(s.m.All()); !maps.Equal(got, s.want) || s.m.Len() != len(s.want) {
			t.Fatalf("a state changed after it was returned: %d entries, Len %d, want %d", len(got), s.m.Len(), len(s.want))
		}
		for k, v := range s.want {
			if got, ok := s.m.Get(k); !ok || got != v {
				t.Fatalf("Get(%s) = %d, %v; want %d", k, got, ok, v)
			}
		}
	}
}

func checkDiff(t *testing.T, old pmap[string, int], oldWant map[string]int, now pmap[string, int], nowWant map[string]int) {
	t.Helper()
	got := maps.Clone(oldWant)
	now.diff(old, func(d pdiff[string, int]) {
		if got[d.key] != d.old {
			t.Fatalf("diff says %s was %d, it was %d", d.key, d.old, got[d.key])
		}
		if d.old == d.new {
			t.Fatalf("diff names %s, which did not change", d.key)
		}
		delete(got, d.key)
		if d.new != 0 {
			got[d.key] = d.new
		}
	})
	if !maps.Equal(got, nowWant) {
		t.Fatalf("old state + diff has %d entries, new state %d", len(got), len(nowWant))
	}
}

// TestMapCollisions puts entries into a leaf at the end of the hash, where equal hashes end up.
func TestMapCollisions(t *testing.T) {
	ed := pmap[string, int]{}.Edit()
	ed.begin()
	leaf := &pnode[string, int]{owner: ed.owner}
	for i, k := range []string{"a", "b", "c"} {
		leaf, _ = ed.set(leaf, pentry[string, int]{k, i + 1}, 0, hashBits+2)
	}
	if leaf, added := ed.set(leaf, pentry[string, int]{"b", 20}, 0, hashBits+2); added || leaf.entries[leaf.find("b")].val != 20 {
		t.Error("a second value of a key was not set in place")
	}
	if leaf = ed.delete(leaf, "a", 0, hashBits+2); leaf.find("a") >= 0 || leaf.find("c") < 0 {
		t.Error("delete from a leaf removed the wrong entry")
	}
}

// TestMapSmallAfterDeletes shows that a map that shrank keeps no nodes.
func TestMapSmallAfterDeletes(t *testing.T) {
	ed := pmap[int, int]{}.Edit()
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
