package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

func TestWildcard(t *testing.T) {
	var c, d Collection
	c.Update(items("apple=1 pear=1"), nil)
	n := serveXDS(t, &Server{Source: ByType{fruit: &c, nuts: &d}})
	b, none := newBasket(), newBasket()
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: b.handle}, {URL: nuts, Handle: none.handle}}}
	start(t, client)

	await(t, "sync", client.Synced(fruit))
	await(t, "sync of an empty type", client.Synced(nuts))
	b.await(t, "apple=1 pear=1")
	c.Update(items("plum=1 apple=2"), []string{"pear", "never"})
	b.await(t, "apple=2 plum=1")
	c.Replace(items("apple=2 fig=1"))
	b.await(t, "apple=2 fig=1")
}

// TestCutAndHeal changes a collection at random while the link is cut at random. In the end the clients have what the server has: those that follow everything, with
// room for all versions in a request or not, and one that follows some names.
func TestCutAndHeal(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			var c Collection
			n := serveXDS(t, &Server{Source: ByType{fruit: &c}, PushDelay: -1, MaxResponseBytes: 600})
			all, truncating, some := newBasket(), newBasket(), newBasket()
			clients := []*Client{
				{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: all.handle}}},
				{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: truncating.handle}}, MaxRequestBytes: 300 << rnd.IntN(4)},
				{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: some.handle, OnDemand: true}}, MaxRequestBytes: 300},
			}
			for _, client := range clients {
				start(t, client)
			}
			followed := map[string]bool{}
			check := func() {
				want := contents(&c)
				all.await(t, joined(want))
				truncating.await(t, joined(want))
				maps.DeleteFunc(want, func(name, _ string) bool { return !followed[name] })
				some.await(t, joined(want))
			}
			for range 60 {
				randomChanges(rnd, &c)
				followRandomly(t, rnd, clients[2], followed)
				switch rnd.IntN(4) {
				case 0:
					n.cut()
					randomChanges(rnd, &c)
					followRandomly(t, rnd, clients[2], followed)
					n.heal()
				case 1:
					check()
				}
			}
			check()
			for _, client := range clients {
				if k := client.Status().Types[0]; k.Rejected > 0 {
					t.Errorf("rejected: %s", k.LastError)
				}
			}
		})
	}
}

// followRandomly subscribes to a name, or unsubscribes from one.
func followRandomly(t *testing.T, rnd *rand.Rand, client *Client, followed map[string]bool) {
	t.Helper()
	name := fmt.Sprintf("fruit-%d", rnd.IntN(40))
	change := client.Subscribe
	if rnd.IntN(4) == 0 {
		change = client.Unsubscribe
		delete(followed, name)
	} else {
		followed[name] = true
	}
	if err := change(fruit, name); err != nil {
		t.Fatal(err)
	}
}

func randomChanges(rnd *rand.Rand, c *Collection) {
	for range rnd.IntN(20) {
		name := fmt.Sprintf("fruit-%d", rnd.IntN(40))
		if rnd.IntN(3) == 0 {
			c.Update(nil, []string{name})
		} else {
			c.Update([]Resource{item(name, fmt.Sprint(rnd.IntN(5)))}, nil)
		}
	}
}

func contents(c *Collection) map[string]string {
	all := map[string]string{}
	for r := range c.All() {
		all[r.Name] = string(r.Body)
	}
	return all
}
