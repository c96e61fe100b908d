package xds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

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

// TestClientListsInChunks reconnects to a server that asks for the rest of what did not fit into a request.
func TestClientListsInChunks(t *testing.T) {
	s, n := serveRaw(t)
	b := newBasket()
	client := &Client{Conn: n.dial(), Types: []Type{{URL: fruit, Handle: b.handle}}, MaxRequestBytes: 500}
	start(t, client)
	stream := s.accept()
	if req := stream.receive(); req.GetMoreVersions() {
		t.Errorf("a client that holds nothing says that there is more: %v", req)
	}
	var words []string
	for i := range 50 {
		words = append(words, fmt.Sprintf("fruit-%02d=1", i))
	}
	stream.respond(fruit, "1", strings.Join(words, " "))
	stream.end <- nil

	stream = s.accept()
	req := stream.receive()
	listed := maps.Clone(req.GetInitialResourceVersions())
	for i := 0; req.GetMoreVersions(); i++ {
		nonce := fmt.Sprint("more", i)
		stream.send(&discoverypb.DeltaDiscoveryResponse{TypeUrl: fruit, Nonce: nonce + moreSuffix, MoreVersions: true})
		req = stream.receive()
		if size := proto.Size(req); size > 500 || req.GetResponseNonce() != nonce+moreSuffix {
			t.Errorf("a request of %d bytes, to nonce %q", size, req.GetResponseNonce())
		}
		for name, version := range req.GetInitialResourceVersions() {
			if listed[name] != "" {
				t.Errorf("%s was listed twice", name)
			}
			listed[name] = version
		}
	}
	if len(listed) != 50 {
		t.Fatalf("%d resources listed, want all", len(listed))
	}
	stream.respond(fruit, "2", "fruit-00=2", "fruit-49")
	words[0] = "fruit-00=2"
	b.await(t, strings.Join(words[:49], " "))
	if got := client.Status().Types[0].Resources; got != 49 {
		t.Errorf("%d resources held", got)
	}
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
