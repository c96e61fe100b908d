package xds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// versions is a request's initial_resource_versions as sorted "name=version" words.
func versions(req *discoverypb.DeltaDiscoveryRequest) string {
	return joined(req.GetInitialResourceVersions())
}

func TestClientFirstRequest(t *testing.T) {
	s, n := serveRaw(t)
	b := newBasket()
	client := &Client{
		Conn: n.dial(),
		Node: Node{ID: "ztunnel~10.0.0.1~z.ns~ns.svc.cluster.local", Metadata: map[string]any{"NETWORK": "east"}, Locality: Locality{Region: "r"}},
		Types: []Type{
			{URL: fruit, Handle: b.handle},
			{URL: nuts, OnDemand: true, Handle: b.handle},
		},
	}
	start(t, client)
	stream := s.accept()
	want := []*discoverypb.DeltaDiscoveryRequest{
		{TypeUrl: fruit}, // names nothing: wants everything
		{TypeUrl: nuts, ResourceNamesSubscribe: []string{"*"}, ResourceNamesUnsubscribe: []string{"*"}},
	}
	node, err := nodeToProto(client.Node)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range want {
		want.Node = node
		if got := stream.receive(); !proto.Equal(got, want) {
			t.Errorf("got request %v, want %v", got, want)
		}
	}
}

func TestClientReconnect(t *testing.T) {
	s, n := serveRaw(t)
	b := newBasket()
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: b.handle}}}
	start(t, client)
	stream := s.accept()
	stream.receive()
	if req := stream.respond(fruit, "1", "apple=1 pear=1 unversioned="); req.GetErrorDetail() != nil {
		t.Fatalf("NACK %v", req)
	}
	await(t, "sync", client.Synced(fruit))
	stream.respond(fruit, "2", "apple=2", "pear", "never-held")
	if got, want := b.takeLog(), "+apple=1 +pear=1 +unversioned= -pear +apple=2"; got != want {
		t.Errorf("handled %q, want %q", got, want)
	}
	if st := client.Status(); !st.Connected || !st.Synced() || st.Types[0].Resources != 2 || !st.Types[0].Synced {
		t.Errorf("status %+v", st)
	}

	stream.end <- status.Error(codes.Unavailable, "going away")
	stream = s.accept()
	req := stream.receive()
	if got, want := versions(req), "apple=2 unversioned="; got != want || len(req.GetResourceNamesSubscribe()) > 0 || req.GetResponseNonce() != "" {
		t.Errorf("reconnects with %v, want versions %q", req, want)
	}
	if st := client.Status(); status.Code(st.LastError) != codes.Unavailable || st.Types[0].Resources != 2 {
		t.Errorf("status %+v, want the reason and what is held", st)
	}
	stream.respond(fruit, "1", "", "apple")
	b.await(t, "unversioned=")
}

func TestClientPartialNack(t *testing.T) {
	s, n := serveRaw(t)
	b := newBasket()
	b.refuse = func(r Resource) error {
		if strings.HasPrefix(string(r.Body), "bad") {
			return errors.New("is rotten")
		}
		return nil
	}
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: b.handle}}}
	start(t, client)
	stream := s.accept()
	stream.receive()
	req := stream.respond(fruit, "1", "apple=1 pear=bad1 plum=1")
	if got := req.GetErrorDetail(); got.GetMessage() != "pear: is rotten" || got.GetCode() != int32(codes.InvalidArgument) {
		t.Errorf("NACK detail %v", got)
	}
	if req := stream.respond(fruit, "2", "apple=bad2 plum=2"); req.GetErrorDetail().GetMessage() != "apple: is rotten" {
		t.Errorf("NACK %v", req)
	}
	b.await(t, "apple=1 plum=2")
	if client.Status().Synced() {
		t.Error("synced, although no response was accepted as a whole")
	}
	stream.respond(fruit, "3"+moreSuffix, "plum=bad3")
	stream.respond(fruit, "4", "plum=2") // completes a response of which a part was rejected
	if client.Status().Synced() {
		t.Error("synced, although no response was accepted as a whole")
	}
	if st := client.Status().Types[0]; st.Rejected != 3 || st.LastError != "plum: is rotten" {
		t.Errorf("status %+v", st)
	}
	// What was rejected is not claimed to be held, so that it is sent again.
	stream.end <- nil
	if got, want := versions(s.accept().receive()), "apple=1 plum=2"; got != want {
		t.Errorf("reconnects with %q, want %q", got, want)
	}
}

func TestClientSyncedAfterNack(t *testing.T) {
	s, n := serveRaw(t)
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: func(u Update) map[string]error {
		if u.Upserts[0].Version == "bad" {
			return map[string]error{u.Upserts[0].Name: errors.New("is rotten")}
		}
		return nil
	}}}}
	start(t, client)
	stream := s.accept()
	stream.receive()
	stream.respond(fruit, "1", "apple=bad")
	stream.respond(fruit, "2", "pear=1")
	await(t, "sync", client.Synced(fruit))
}

func TestClientRejectsMalformed(t *testing.T) {
	s, n := serveRaw(t)
	b := newBasket()
	start(t, &Client{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: b.handle}}})
	stream := s.accept()
	stream.receive()
	resp := (&delta{upserts: []*Resource{{Name: "wrong"}}}).encode(nuts, false)
	resp.Resources = append(resp.Resources, &discoverypb.Resource{Name: "empty"}, (&delta{upserts: []*Resource{{Name: "good"}}}).encode(fruit, false).GetResources()[0])
	resp.TypeUrl, resp.Nonce = fruit, "1"
	stream.send(&discoverypb.DeltaDiscoveryResponse{TypeUrl: nuts, Nonce: "0"}) // was not asked for
	stream.send(resp)
	want := `empty: has no body; wrong: has type "` + nuts + `"`
	if req := stream.receive(); req.GetResponseNonce() != "1" || req.GetErrorDetail().GetMessage() != want {
		t.Errorf("answer %v, want a NACK %q", req, want)
	}
	b.await(t, "good=")
}

// TestClientNamedTwice sends a resource and its removal in one response: it exists.
func TestClientNamedTwice(t *testing.T) {
	s, n := serveRaw(t)
	b := newBasket()
	start(t, &Client{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: b.handle}}})
	stream := s.accept()
	stream.receive()
	stream.respond(fruit, "1", "apple=1")
	stream.respond(fruit, "2", "apple=2", "apple")
	b.await(t, "apple=2")
}

// TestClientTruncates reconnects with more resources than fit into a request.
func TestClientTruncates(t *testing.T) {
	s, n := serveRaw(t)
	b := newBasket()
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: b.handle}}, MaxRequestBytes: 500}
	start(t, client)
	stream := s.accept()
	stream.receive()
	var words []string
	for i := range 50 {
		words = append(words, fmt.Sprintf("fruit-%02d=1", i))
	}
	stream.respond(fruit, "1", strings.Join(words, " "))
	stream.end <- nil

	stream = s.accept()
	req := stream.receive()
	if size := proto.Size(req); size > 500 {
		t.Errorf("a request of %d bytes", size)
	}
	listed := len(req.GetInitialResourceVersions())
	if listed == 0 || listed == 50 {
		t.Fatalf("%d resources listed, want some", listed)
	}
	// The server sends again what was not listed, in two parts. One of them is gone.
	unlisted := words[listed:]
	stream.respond(fruit, "1"+moreSuffix, strings.Join(unlisted[:5], " "))
	if got := client.Status().Types[0].Resources; got != 50 {
		t.Errorf("%d resources held before the answer was complete, want all", got)
	}
	stream.respond(fruit, "2", strings.Join(unlisted[6:], " "))
	want := slices.Delete(slices.Clone(words), listed+5, listed+6)
	b.await(t, strings.Join(want, " "))
}

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

func TestClientConfig(t *testing.T) {
	handle := newBasket().handle
	valid := func() *Client {
		return &Client{Conn: refusingConn{}, Node: Node{ID: "n"}, Types: []Type{{URL: fruit, Handle: handle}}}
	}
	tests := []struct {
		field string
		spoil func(*Client)
	}{
		{"Conn", func(c *Client) { c.Conn = nil }},
		{"Node.ID", func(c *Client) { c.Node.ID = "" }},
		{"Node.Metadata", func(c *Client) { c.Node.Metadata = map[string]any{"x": make(chan int)} }},
		{"Types", func(c *Client) { c.Types = nil }},
		{"Types[0].URL", func(c *Client) { c.Types[0].URL = "" }},
		{"Types[0].Handle", func(c *Client) { c.Types[0].Handle = nil }},
		{"Types[1].URL", func(c *Client) { c.Types = append(c.Types, c.Types[0]) }},
	}
	for _, test := range tests {
		t.Run(test.field, func(t *testing.T) {
			c := valid()
			test.spoil(c)
			var config *ConfigError
			if err := c.Run(context.Background()); !errors.As(err, &config) || config.Field != test.field {
				t.Errorf("got %v, want an error about %s", err, test.field)
			}
		})
	}
}

// refusingConn is a connection on which no stream can be opened.
type refusingConn struct {
	grpc.ClientConnInterface
	attempt func()
}

func (c refusingConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	if c.attempt != nil {
		c.attempt()
	}
	return nil, status.Error(codes.Unavailable, "refused")
}

func TestClientBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts []time.Time
		c := &Client{
			Conn:  refusingConn{attempt: func() { attempts = append(attempts, time.Now()) }},
			Node:  Node{ID: "n"},
			Types: []Type{{URL: fruit, Handle: newBasket().handle}},
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := c.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run: %v, want %v", err, context.DeadlineExceeded)
		}
		step := 100 * time.Millisecond
		for i := 1; i < len(attempts); i++ {
			if pause := attempts[i].Sub(attempts[i-1]); pause < step/2 || pause > step {
				t.Errorf("pause %d is %v, want %v to %v", i, pause, step/2, step)
			}
			step = min(2*step, 15*time.Second)
		}
		if n := len(attempts); n < 40 || n > 90 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
		if st := c.Status(); st.Connected || st.Failures != len(attempts) || status.Code(st.LastError) != codes.Unavailable {
			t.Errorf("status %+v", st)
		}
	})
}

// TestClientBackoffStartsAnew ends streams that worked for a while, and such that did not.
func TestClientBackoffStartsAnew(t *testing.T) {
	tests := []struct {
		name    string
		uptime  time.Duration
		longest time.Duration // of the pauses
	}{
		{"stable", time.Minute, 100 * time.Millisecond},
		{"broken soon after each connect", time.Second, 15 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, n := serveRaw(t)
				c := &Client{Conn: n.dial(), MinBackoff: 100 * time.Millisecond, MaxBackoff: 15 * time.Second, Types: []Type{{URL: fruit, Handle: newBasket().handle}}}
				start(t, c)
				stream := s.accept()
				var longest time.Duration
				for range 12 {
					stream.receive()
					stream.respond(fruit, "1", "apple=1")
					time.Sleep(test.uptime) // of the bubble's time
					stream.end <- nil
					ended := time.Now()
					stream = s.accept()
					longest = max(longest, time.Since(ended))
				}
				if longest > test.longest || longest < test.longest/2 {
					t.Errorf("longest pause %v, want %v to %v", longest, test.longest/2, test.longest)
				}
			})
		})
	}
}

func TestClientClose(t *testing.T) {
	t.Run("before Run", func(t *testing.T) {
		c := &Client{Conn: refusingConn{}, Node: Node{ID: "n"}, Types: []Type{{URL: fruit, OnDemand: true, Handle: newBasket().handle}}}
		for range 2 {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Run: %v, want %v", err, ErrClosed)
		}
		if _, err := c.Fetch(t.Context(), fruit, "apple"); !errors.Is(err, ErrClosed) {
			t.Errorf("Fetch: %v, want %v", err, ErrClosed)
		}
	})
	t.Run("while connecting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := &Client{Conn: refusingConn{}, Types: []Type{{URL: fruit, Handle: newBasket().handle}}}
			start(t, c)
			synctest.Wait()
			var config *ConfigError
			if err := c.Run(t.Context()); !errors.As(err, &config) {
				t.Errorf("second Run: %v, want a ConfigError", err)
			}
		})
	})
}

// TestClientDoesNotDeadlock talks to a server that sends much before it reads.
func TestClientDoesNotDeadlock(t *testing.T) {
	s, n := serveRaw(t)
	b := newBasket()
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, OnDemand: true, Handle: b.handle}}}
	var names []string
	for i := range 20_000 {
		names = append(names, fmt.Sprintf("a-fruit-with-a-name-that-takes-space-%d", i))
	}
	if err := client.Subscribe(fruit, names...); err != nil {
		t.Fatal(err)
	}
	client.MaxRequestBytes = 100_000
	start(t, client)
	stream := s.accept()
	for i := range 50 {
		resp := (&delta{upserts: []*Resource{{Name: "big", Body: make([]byte, 200_000)}}}).encode(fruit, false)
		resp.Nonce = fmt.Sprint(i)
		stream.send(resp)
	}
	got := map[string]bool{}
	acks := 0
	for len(got) < len(names) || acks < 50 {
		req := stream.receive()
		for _, name := range req.GetResourceNamesSubscribe() {
			got[name] = true
		}
		if req.GetResponseNonce() != "" {
			acks++
		}
	}
}
