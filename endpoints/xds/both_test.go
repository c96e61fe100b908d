package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
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

// likeIstiod makes a server pass over that a client has more to list, as one does that does not know it.
func likeIstiod() grpc.ServerOption {
	return grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return handler(srv, forgetful{ss})
	})
}

type forgetful struct{ grpc.ServerStream }

func (f forgetful) RecvMsg(m any) error {
	err := f.ServerStream.RecvMsg(m)
	if req, ok := m.(*discoverypb.DeltaDiscoveryRequest); ok {
		req.MoreVersions = false
	}
	return err
}

// TestReconnectSendsNothingAgain reconnects with more resources than a request has room for, of which one has
// changed.
func TestReconnectSendsNothingAgain(t *testing.T) {
	const resources = 2000
	var c Collection
	for i := range resources {
		c.Update([]Resource{item(fmt.Sprint("fruit-", i), "1")}, nil)
	}
	s := &Server{Source: ByType{fruit: &c}, PushDelay: -1}
	n := serveXDS(t, s)
	b := newBasket()
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: b.handle}}, MaxRequestBytes: 5000}
	start(t, client)
	b.await(t, joined(contents(&c)))
	n.cut()
	c.Update(items("fruit-7=2"), []string{"fruit-1999"})
	n.heal()
	b.await(t, joined(contents(&c)))
	if got := s.Clients()[0].Types[0]; got.Resources != 1 || got.Removals != 1 {
		t.Errorf("the second stream got %d resources and %d removals, want one of each", got.Resources, got.Removals)
	}
}

// TestCutAndHeal changes a collection at random while the link is cut at random. In the end the clients have what
// the server has: those that follow everything, with room for all versions in a request or not; one that is
// restarted at random, and has only what its store has; and one that follows some names. Whether or not the server
// can be told versions in several requests.
func TestCutAndHeal(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { cutAndHeal(t, rand.New(rand.NewPCG(seed, 1)), seed%2 == 1) })
		})
	}
}

func cutAndHeal(t *testing.T, rnd *rand.Rand, istiod bool) {
	var c Collection
	var options []grpc.ServerOption
	if istiod {
		options = append(options, likeIstiod())
	}
	n := serveXDS(t, &Server{Source: ByType{fruit: &c}, PushDelay: -1, MaxResponseBytes: 600}, options...)
	all, truncating, some := newBasket(), newBasket(), newBasket()
	clients := []*Client{
		{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: all.handle}}},
		{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: truncating.handle}}, MaxRequestBytes: 300 << rnd.IntN(4)},
		{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: some.handle, OnDemand: true}}, MaxRequestBytes: 300},
	}
	for _, client := range clients {
		start(t, client)
	}
	var store memoryStore
	var restarted *basket
	var last *Client
	restart := func() {
		if last != nil {
			if err := last.Close(); err != nil {
				t.Fatal(err)
			}
		}
		restarted = newBasket()
		last = &Client{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: restarted.handle}}, Store: &store, SaveInterval: time.Second}
		start(t, last)
	}
	restart()
	followed := map[string]bool{}
	check := func() {
		want := contents(&c)
		for _, b := range []*basket{all, truncating, restarted} {
			b.await(t, joined(want))
		}
		maps.DeleteFunc(want, func(name, _ string) bool { return !followed[name] })
		some.await(t, joined(want))
	}
	for range 60 {
		randomChanges(rnd, &c)
		followRandomly(t, rnd, clients[2], followed)
		switch rnd.IntN(5) {
		case 0:
			n.cut()
			randomChanges(rnd, &c)
			followRandomly(t, rnd, clients[2], followed)
			n.heal()
		case 1:
			restart()
		case 2:
			check()
		}
	}
	check()
	for _, client := range append(clients, last) {
		if k := client.Status().Types[0]; k.Rejected > 0 {
			t.Errorf("rejected: %s", k.LastError)
		}
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
