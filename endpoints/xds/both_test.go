package xds

import (
	"fmt"
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

// TestCutAndHeal changes a collection at random while the link is cut at random. In the end the
// client has what the server has.
func TestCutAndHeal(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			var c Collection
			n := serveXDS(t, &Server{Source: ByType{fruit: &c}, PushDelay: -1, MaxResponseBytes: 600})
			b := newBasket()
			client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: b.handle}}, MaxRequestBytes: 300 << rnd.IntN(8)}
			start(t, client)
			for round := range 60 {
				randomChanges(rnd, &c, 20)
				switch rnd.IntN(4) {
				case 0:
					n.cut()
					randomChanges(rnd, &c, 20)
					n.heal()
				case 1:
					c.Update(items(fmt.Sprintf("round=%d", round)), nil)
					b.await(t, contents(&c))
				}
			}
			b.await(t, contents(&c))
			for _, k := range client.Status().Types {
				if k.Rejected > 0 {
					t.Errorf("rejected: %s", k.LastError)
				}
			}
		})
	}
}

func randomChanges(rnd *rand.Rand, c *Collection, n int) {
	for range rnd.IntN(n) {
		name := fmt.Sprintf("fruit-%d", rnd.IntN(40))
		if rnd.IntN(3) == 0 {
			c.Update(nil, []string{name})
		} else {
			c.Update([]Resource{item(name, fmt.Sprint(rnd.IntN(5)))}, nil)
		}
	}
}

func contents(c *Collection) string {
	all := map[string]string{}
	for r := range c.All() {
		all[r.Name] = string(r.Body)
	}
	return joined(all)
}
