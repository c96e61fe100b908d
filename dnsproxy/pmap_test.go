package dnsproxy

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// TestTrieAgainstMap runs random changes with hashes of different quality: with
// bad ones many keys share their hash and end up in lists.
func TestTrieAgainstMap(t *testing.T) {
	hashes := map[string]func(int) uint64{
		"good":     func(k int) uint64 { return rand.New(rand.NewPCG(uint64(k), 1)).Uint64() },
		"few":      func(k int) uint64 { return uint64(k % 5) },
		"high bit": func(k int) uint64 { return uint64(k%3) << 62 },
		"one":      func(int) uint64 { return 42 },
	}
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, 1))
			root, want := new(pnode[int]), map[string]int{}
			type version struct {
				root *pnode[int]
				want map[string]int
			}
			var history []version
			for step := range 2000 {
				k := rnd.IntN(60)
				key := strconv.Itoa(k)
				e := new(edit)
				if _, ok := want[key]; ok && rnd.IntN(2) == 0 {
					if root = root.cut(e, 0, hash(k), key); root == nil {
						root = new(pnode[int])
					}
					delete(want, key)
				} else {
					root, _ = root.insert(e, 0, pslot[int]{hash: hash(k), key: key, value: step})
					want[key] = step
				}
				checkShape(t, root, true)
				if step%50 == 0 {
					history = append(history, version{root, maps.Clone(want)})
				}
			}
			for _, v := range append(history, version{root, want}) {
				checkTrie(t, v.root, v.want, hash)
			}
		})
	}
}

func checkTrie(t *testing.T, root *pnode[int], want map[string]int, hash func(int) uint64) {
	t.Helper()
	for k := range 60 {
		key := strconv.Itoa(k)
		got, ok := root.find(hash(k), key)
		if v, has := want[key]; ok != has || got != v {
			t.Fatalf("%s is %d, %v, want %d, %v", key, got, ok, v, has)
		}
	}
	var all []int
	root.each(func(v int) bool { all = append(all, v); return true })
	if values := slices.Sorted(maps.Values(want)); !slices.Equal(slices.Sorted(slices.Values(all)), values) {
		t.Fatalf("it yields %v, want %v", all, values)
	}
	stopped := 0
	root.each(func(int) bool { stopped++; return stopped < 3 })
	if stopped > 3 {
		t.Fatalf("it yields %d values after the stop", stopped-3)
	}
}

// checkShape: no node below the root is empty or has one leaf only, so that a
// trie is never deeper than what it holds needs.
func checkShape(t *testing.T, n *pnode[int], root bool) {
	t.Helper()
	if !root && (len(n.slots) == 0 || len(n.slots) == 1 && n.slots[0].child == nil) {
		t.Fatal("a node has less than two leaves below it")
	}
	for _, s := range n.slots {
		if s.child != nil {
			checkShape(t, s.child, false)
		}
	}
}
