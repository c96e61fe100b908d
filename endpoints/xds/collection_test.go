package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestCollection(t *testing.T) {
	var c Collection
	if _, ok := c.Get("apple"); ok || c.Len() != 0 {
		t.Error("the zero Collection is not empty")
	}
	c.Update(nil, []string{"apple"})
	c.Update([]Resource{item("apple", "1"), {Name: "pear", Version: "mine", Body: []byte("1")}}, nil)
	apple, ok := c.Get("apple")
	if !ok || string(apple.Body) != "1" || len(apple.Version) != 16 {
		t.Errorf("apple is %+v, %v; want it with a version", apple, ok)
	}
	if pear, _ := c.Get("pear"); pear.Version != "mine" {
		t.Errorf("pear has version %q, want its own", pear.Version)
	}
	c.Update(items("apple=2"), nil)
	if got := joined(contents(&c)); got != "apple=2 pear=1" {
		t.Errorf("holds %q", got)
	}
	if again, _ := c.Get("apple"); again.Version == apple.Version {
		t.Error("another body has the same version")
	}
	var order []string
	for r := range c.All() {
		order = append(order, r.Name)
		c.Update(nil, []string{"apple"}) // no lock is held
		if len(order) == 2 {
			break
		}
	}
	if got := strings.Join(order, " "); got != "pear apple" {
		t.Errorf("All yields %q, want the latest change last", got)
	}
	if c.Len() != 1 {
		t.Errorf("Len %d, want 1", c.Len())
	}
}

// TestCollectionAgainstOracle lets watchers follow random changes at random speeds. Each must
// end with what the collection holds, hear of nothing twice, and leave no tombstones behind.
func TestCollectionAgainstOracle(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		var c Collection
		oracle := map[string]string{}
		followers := []*follower{newFollower(&c), newFollower(&c), newFollower(&c)}
		for step := range 1000 {
			randomUpdate(rnd, &c, oracle, step)
			f := followers[rnd.IntN(len(followers))]
			if rnd.IntN(1+10*slices.Index(followers, f)) == 0 {
				f.catchUp(t)
				if got, want := joined(f.holds), joined(oracle); got != want {
					t.Fatalf("seed %d step %d: follower holds %q, want %q", seed, step, got, want)
				}
			}
			if rnd.IntN(300) == 0 {
				c.unwatch(f.watcher)
				followers[slices.Index(followers, f)] = newFollower(&c)
			}
		}
		for _, f := range followers {
			f.catchUp(t)
		}
		if got, want := joined(contents(&c)), joined(oracle); got != want {
			t.Fatalf("seed %d: holds %q, want %q", seed, got, want)
		}
		if got := len(c.entries); got != c.live.Len()+c.dead.Len() || c.dead.Len() > 2*minSweep {
			t.Errorf("seed %d: %d entries, %d live, %d dead", seed, got, c.live.Len(), c.dead.Len())
		}
	}
}

func randomUpdate(rnd *rand.Rand, c *Collection, oracle map[string]string, step int) {
	// Half of the names are used once, as those of pods are.
	name := func() string {
		if rnd.IntN(2) == 0 {
			return fmt.Sprint("pod-", step, rnd.IntN(3))
		}
		return fmt.Sprint("svc-", rnd.IntN(10))
	}
	var upserts []Resource
	var removals []string
	for range rnd.IntN(4) {
		n := name()
		if old := slices.Sorted(maps.Keys(oracle)); rnd.IntN(2) == 0 && len(old) > 0 {
			n = old[rnd.IntN(len(old))]
		}
		removals = append(removals, n)
		delete(oracle, n)
	}
	for range rnd.IntN(4) {
		r := item(name(), fmt.Sprint(rnd.IntN(3)))
		upserts = append(upserts, r)
		oracle[r.Name] = string(r.Body)
	}
	if rnd.IntN(20) > 0 {
		c.Update(upserts, removals)
		return
	}
	var all []Resource
	for n, body := range oracle {
		all = append(all, item(n, body))
	}
	c.Replace(all)
}

// follower keeps a copy of a collection by its changes.
type follower struct {
	collection *Collection
	watcher    *watcher
	holds      map[string]string
	notified   bool
}

func newFollower(c *Collection) *follower {
	f := &follower{collection: c, holds: map[string]string{}}
	f.watcher = c.watch(func() { f.notified = true })
	for r := range c.All() {
		f.holds[r.Name] = string(r.Body)
	}
	return f
}

func (f *follower) catchUp(t *testing.T) {
	t.Helper()
	c := f.collection
	c.mu.RLock()
	d := c.since(f.watcher, func(*entry) bool { return true })
	f.watcher.served = c.revision
	c.mu.RUnlock()
	if !d.empty() && !f.notified {
		t.Error("a change without a notification")
	}
	f.notified = false
	for _, name := range d.removals {
		// A name that comes and goes more than once may be removed twice: that is harmless.
		if _, ok := f.holds[name]; !ok && strings.HasPrefix(name, "pod-") {
			t.Errorf("%s is removed, but came and went unseen", name)
		}
		delete(f.holds, name)
	}
	for _, r := range d.upserts {
		f.holds[r.Name] = string(r.Body)
	}
	seen := map[string]bool{}
	for _, name := range append(d.removals, names(d.upserts)...) {
		if seen[name] {
			t.Errorf("%s changed twice in one delta", name)
		}
		seen[name] = true
	}
}

func names(resources []*Resource) []string {
	var all []string
	for _, r := range resources {
		all = append(all, r.Name)
	}
	return all
}
