package xds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

func TestClientOnDemand(t *testing.T) {
	s, n := serveRaw(t)
	b := newBasket()
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, OnDemand: true, Handle: b.handle}, {URL: nuts, Handle: b.handle}}}
	if err := client.Subscribe(fruit, "apple"); err != nil { // before Run
		t.Fatal(err)
	}
	start(t, client)
	stream := s.accept()
	first := stream.receive()
	if got := first.GetResourceNamesSubscribe(); !slices.Equal(got, []string{"apple"}) || len(first.GetResourceNamesUnsubscribe()) > 0 {
		t.Errorf("first request %v, want apple", first)
	}
	stream.receive() // nuts
	stream.respond(fruit, "1", "apple=1")

	// An unsubscription waits for the next subscription, but is local at once.
	if err := client.Unsubscribe(fruit, "apple", "never"); err != nil {
		t.Fatal(err)
	}
	b.await(t, "")
	stream.respond(fruit, "2", "apple=2") // not wanted any more, but acknowledged
	if err := client.Subscribe(fruit, "pear", "pear"); err != nil {
		t.Fatal(err)
	}
	req := stream.receive()
	if got := req.GetResourceNamesSubscribe(); !slices.Equal(got, []string{"pear"}) || !slices.Equal(req.GetResourceNamesUnsubscribe(), []string{"apple"}) {
		t.Errorf("request %v, want pear instead of apple", req)
	}
	stream.respond(fruit, "3", "pear=1 pod-of-pear=1")
	b.await(t, "pear=1 pod-of-pear=1")

	stream.end <- nil
	stream = s.accept()
	req = stream.receive()
	if got := req.GetResourceNamesSubscribe(); !slices.Equal(got, []string{"pear"}) || versions(req) != "pear=1 pod-of-pear=1" {
		t.Errorf("reconnects with %v, want pear, and what is held", req)
	}

	// Subscribing again brings it back.
	stream.receive()
	if err := client.Subscribe(fruit, "apple"); err != nil {
		t.Fatal(err)
	}
	stream.receive()
	stream.respond(fruit, "1", "apple=3")
	b.await(t, "apple=3 pear=1 pod-of-pear=1")

	for _, url := range []string{nuts, "unknown"} {
		var wrong *TypeError
		if err := client.Subscribe(url, "x"); !errors.As(err, &wrong) || wrong.TypeURL != url {
			t.Errorf("Subscribe to %s: %v, want a TypeError", url, err)
		}
	}
}

// TestClientOnDemandChunks subscribes to more names than fit into a request.
func TestClientOnDemandChunks(t *testing.T) {
	s, n := serveRaw(t)
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, OnDemand: true, Handle: newBasket().handle}}, MaxRequestBytes: 600}
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprintf("fruit-%02d", i))
	}
	if err := client.Subscribe(fruit, want...); err != nil {
		t.Fatal(err)
	}
	start(t, client)
	stream := s.accept()
	var got []string
	for len(got) < len(want) {
		req := stream.receive()
		if size := proto.Size(req); size > 600 {
			t.Errorf("a request of %d bytes", size)
		}
		got = append(got, req.GetResourceNamesSubscribe()...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("subscribed to %q, want %q", got, want)
	}
}

// TestClientOnDemandTruncates reconnects with more than fits into a request that nobody asked for
// by name: it came along with something. The server must hear of all of it.
func TestClientOnDemandTruncates(t *testing.T) {
	s, n := serveRaw(t)
	b := newBasket()
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, OnDemand: true, Handle: b.handle}}, MaxRequestBytes: 500}
	if err := client.Subscribe(fruit, "tree"); err != nil {
		t.Fatal(err)
	}
	start(t, client)
	stream := s.accept()
	stream.receive()
	want := map[string]bool{"tree": true}
	words := "tree=1"
	for i := range 50 {
		name := fmt.Sprintf("fruit-%02d", i)
		want[name] = true
		words += " " + name + "=1"
	}
	stream.respond(fruit, "1", words)
	stream.end <- nil
	stream = s.accept()
	for len(want) > 0 {
		req := stream.receive()
		for _, name := range req.GetResourceNamesSubscribe() {
			delete(want, name)
		}
		for name := range req.GetInitialResourceVersions() {
			delete(want, name)
		}
	}
	// What the server has no more is gone.
	var gone []string
	for i := range 50 {
		gone = append(gone, fmt.Sprintf("fruit-%02d", i))
	}
	stream.respond(fruit, "1", "", gone...)
	b.await(t, "tree=1")
}

func TestClientFetch(t *testing.T) {
	var c Collection
	c.Update([]Resource{
		{Name: "app/web", Body: []byte("s"), Aliases: []string{"net/10.0.0.1"}},
		{Name: "pod-1", Body: []byte("1"), With: []string{"app/web"}},
		{Name: "rotten", Body: []byte("bad")},
	}, nil)
	n := serveXDS(t, &Server{Source: ByType{fruit: &c}})
	b := newBasket()
	rotten := errors.New("is rotten")
	b.refuse = func(r Resource) error {
		if string(r.Body) == "bad" {
			return rotten
		}
		return nil
	}
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, OnDemand: true, Handle: b.handle}}}
	start(t, client)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	fetch := func(name string, want bool) {
		t.Helper()
		if found, err := client.Fetch(ctx, fruit, name); found != want || err != nil {
			t.Errorf("Fetch %s: %v, %v; want %v", name, found, err, want)
		}
	}
	fetch("nothing", false)
	fetch("net/10.0.0.1", true)
	fetch("app/web", true) // came with its alias
	fetch("pod-1", true)   // came along
	b.await(t, "app/web=s pod-1=1")
	var rejected *RejectedError
	if _, err := client.Fetch(ctx, fruit, "rotten"); !errors.Is(err, rotten) || !errors.As(err, &rejected) || rejected.Name != "rotten" {
		t.Errorf("Fetch rotten: %v, want a RejectedError", err)
	}

	c.Update(items("nothing=1 rotten=1"), []string{"pod-1"})
	b.await(t, "app/web=s nothing=1 rotten=1")
	fetch("nothing", true)
	fetch("rotten", true)
	fetch("pod-1", false)

	if err := client.Unsubscribe(fruit, "net/10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	b.await(t, "nothing=1 rotten=1")
	fetch("net/10.0.0.1", true) // asks again

	n.cut()
	short, stop := context.WithCancelCause(ctx)
	tired := errors.New("tired")
	stop(tired)
	if _, err := client.Fetch(short, fruit, "unknown"); !errors.Is(err, tired) {
		t.Errorf("Fetch without a server: %v, want the context's cause", err)
	}
	n.heal()
	fetch("unknown", false)
}

// TestClientFetchByAliasOfTheRemoved: the server removes a resource by its name. That answers for its aliases, too.
func TestClientFetchByAliasOfTheRemoved(t *testing.T) {
	var c Collection
	pod := func(name, body string) Resource {
		return Resource{Name: name, Body: []byte(body), Aliases: []string{"net/10.0.0.1"}}
	}
	c.Update([]Resource{pod("pod-1", "1")}, nil)
	n := serveXDS(t, &Server{Source: ByType{fruit: &c}})
	b := newBasket()
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, OnDemand: true, Handle: b.handle}}}
	start(t, client)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	fetch := func(want bool) {
		t.Helper()
		if found, err := client.Fetch(ctx, fruit, "net/10.0.0.1"); found != want || err != nil {
			t.Errorf("Fetch by address: %v, %v; want %v", found, err, want)
		}
	}
	fetch(true)
	c.Update(nil, []string{"pod-1"})
	b.await(t, "")
	fetch(false)
	c.Update([]Resource{pod("pod-2", "2")}, nil) // the address is another one's
	b.await(t, "pod-2=2")
	fetch(true)
	c.Update([]Resource{{Name: "pod-2", Body: []byte("3")}}, nil) // and then nobody's
	b.await(t, "pod-2=3")
	fetch(false)
}

// TestClientSeveralNames: a resource is wanted for as long as any of its names is, and again when another one is.
func TestClientSeveralNames(t *testing.T) {
	var c Collection
	pod := func(body string) []Resource {
		return []Resource{{Name: "pod-1", Body: []byte(body), Aliases: []string{"net/10.0.0.1", "net/2001:db8::1"}}}
	}
	c.Update(pod("1"), nil)
	n := serveXDS(t, &Server{Source: ByType{fruit: &c}, PushDelay: -1})
	b := newBasket()
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, OnDemand: true, Handle: b.handle}, {URL: nuts, OnDemand: true, Handle: b.handle}}}
	start(t, client)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	fetch := func(name string) {
		t.Helper()
		if found, err := client.Fetch(ctx, fruit, name); !found || err != nil {
			t.Fatalf("Fetch %s: %v, %v", name, found, err)
		}
	}
	unsubscribe := func(name string) {
		t.Helper()
		if err := client.Unsubscribe(fruit, name); err != nil {
			t.Fatal(err)
		}
	}
	fetch("net/10.0.0.1")
	if err := client.Subscribe(fruit, "pod-1"); err != nil {
		t.Fatal(err)
	}
	unsubscribe("net/10.0.0.1")
	c.Update(pod("2"), nil)
	b.await(t, "pod-1=2")
	if log := b.takeLog(); strings.Contains(log, "-pod-1") {
		t.Errorf("what one name still asks for went: %s", log)
	}
	unsubscribe("pod-1")
	b.await(t, "")
	fetch("net/2001:db8::1")
	b.await(t, "pod-1=2")
	unsubscribe("net/2001:db8::1")
	b.await(t, "")
	fetch("pod-1")
	c.Update(pod("3"), nil)
	b.await(t, "pod-1=3")
}
