package xds

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// served returns a client of a server with these resources. Changes are pushed at once.
func served(t *testing.T, resources ...Resource) (*rawClient, *Collection, *Server) {
	t.Helper()
	c := new(Collection)
	c.Update(resources, nil)
	s := &Server{Source: ByType{fruit: c}, PushDelay: -1}
	return serveXDS(t, s).openRaw(), c, s
}

func TestServerWildcard(t *testing.T) {
	tests := []struct {
		name  string
		first *discoverypb.DeltaDiscoveryRequest
	}{
		{"legacy: no names, as ztunnel", &discoverypb.DeltaDiscoveryRequest{}},
		{"explicit", &discoverypb.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"*"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, c, _ := served(t, items("apple=1 pear=1")...)
			test.first.TypeUrl = fruit
			r.open(test.first)
			resp := r.want("apple=1 pear=1")
			if resp.GetTypeUrl() != fruit || resp.GetSystemVersionInfo() == "" || resp.GetControlPlane().GetIdentifier() != "eastwest" {
				t.Errorf("header of %v", resp)
			}
			for _, res := range resp.GetResources() {
				if res.GetVersion() == "" || res.GetResource().GetTypeUrl() != fruit {
					t.Errorf("resource %v lacks a version or has the wrong type", res)
				}
			}
			r.ack(resp)
			c.Update(items("apple=2"), []string{"pear"})
			r.ack(r.want("apple=2 -pear"))
			c.Update(items("apple=2"), []string{"pear"}) // no change
			c.Update(items("short-lived=1"), nil)
			r.ack(r.want("short-lived=1"))
		})
	}
}

func TestServerAnswersEmptyView(t *testing.T) {
	r, _, _ := served(t)
	r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit})
	r.want("")
}

func TestServerReconnect(t *testing.T) {
	apple, pear := Resource{Name: "apple", Version: "v2", Body: []byte("2")}, Resource{Name: "pear", Version: "v1", Body: []byte("1")}
	fig := Resource{Name: "fig", Version: "v1", Body: []byte("1")}
	tests := []struct {
		name      string
		have      map[string]string
		subscribe []string
		want      string
	}{
		{"all the same", map[string]string{"apple": "v2", "pear": "v1", "fig": "v1"}, nil, ""},
		{"one changed", map[string]string{"apple": "v1", "pear": "v1", "fig": "v1"}, nil, "apple=2"},
		{"without versions", map[string]string{"apple": "", "pear": "", "fig": ""}, nil, "apple=2 pear=1 fig=1"},
		{"removed while away", map[string]string{"apple": "v2", "pear": "v1", "fig": "v1", "plum": "v1", "kiwi": ""}, nil, "-kiwi -plum"},
		{"on demand, same", map[string]string{"apple": "v2"}, []string{"apple"}, ""},
		{"on demand, changed and removed", map[string]string{"apple": "v1", "plum": "v1"}, []string{"apple", "plum"}, "apple=2 -plum"},
		{"on demand, held but not named", map[string]string{"apple": "v1", "plum": "v1"}, []string{"fig"}, "apple=2 fig=1 -plum"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, _, _ := served(t, apple, pear, fig)
			r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, InitialResourceVersions: test.have, ResourceNamesSubscribe: test.subscribe})
			r.want(test.want)
		})
	}
}

func TestServerOnDemand(t *testing.T) {
	service := Resource{Name: "app/web", Body: []byte("s"), Aliases: []string{"net/10.0.0.1"}}
	pod := func(name, body string) Resource {
		return Resource{Name: name, Body: []byte(body), With: []string{"app/web"}}
	}
	r, c, s := served(t, service, pod("pod-1", "1"), item("other", "1"))

	// ztunnel's way to ask for nothing yet.
	r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesSubscribe: []string{"*"}, ResourceNamesUnsubscribe: []string{"*"}})
	r.ack(r.want(""))

	// A service by its address brings its workloads, now and later.
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesSubscribe: []string{"net/10.0.0.1", "nothing"}})
	resp := r.want("app/web=s pod-1=1 -nothing")
	if got := resp.GetResources()[0].GetAliases(); len(got) != 1 || got[0] != "net/10.0.0.1" {
		t.Errorf("aliases %q of an on-demand response", got)
	}
	r.ack(resp)
	c.Update([]Resource{pod("pod-2", "1"), item("other", "2")}, nil)
	r.ack(r.want("pod-2=1"))
	c.Update([]Resource{item("pod-2", "2")}, []string{"pod-1"}) // not of the service any more, but sent once
	r.ack(r.want("pod-2=2 -pod-1"))
	c.Update(items("nothing=1"), nil) // subscribed before it existed
	r.ack(r.want("nothing=1"))

	// What is asked for again is sent again; a request that only unsubscribes has no answer.
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesUnsubscribe: []string{"nothing"}})
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesSubscribe: []string{"other"}})
	r.ack(r.want("other=2"))
	c.Update(items("nothing=2"), nil)
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesSubscribe: []string{"other"}})
	r.ack(r.want("other=2"))

	if got := s.Clients()[0].Types[0]; got.Wildcard || got.Subscribed != 2 {
		t.Errorf("status %+v, want 2 subscriptions", got)
	}
}

func TestServerWildcardAndNames(t *testing.T) {
	r, c, _ := served(t, items("apple=1 pear=1")...)
	r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit})
	r.want("apple=1 pear=1")
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesSubscribe: []string{"pear", "plum"}})
	r.want("pear=1 -plum")
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesUnsubscribe: []string{"pear"}})
	r.want("pear=1")
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesUnsubscribe: []string{"*"}, ResourceNamesSubscribe: []string{"pear"}})
	r.want("pear=1")
	c.Update(items("apple=2 pear=2 plum=2"), nil)
	r.want("pear=2 plum=2")
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesSubscribe: []string{"*"}})
	r.want("apple=2 pear=2 plum=2")
}

func TestServerNackAndStaleNonce(t *testing.T) {
	r, c, s := served(t, items("apple=1")...)
	r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit})
	first := r.want("apple=1")
	nack := func(nonce string) {
		r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResponseNonce: nonce, ErrorDetail: &discoverypb.Status{Message: "apple: rotten"}})
	}
	nack(first.GetNonce())
	nack("not a nonce")
	nack(first.GetNonce()) // answered already
	// Nothing is sent again until there is a change.
	c.Update(items("apple=2"), nil)
	second := r.want("apple=2")
	r.ack(second)
	r.ack(first) // stale
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesSubscribe: []string{"apple"}})
	r.want("apple=2")
	got := s.Clients()[0].Types[0]
	if got.Rejected != 1 || got.LastError != "apple: rotten" || got.Acked != second.GetNonce() {
		t.Errorf("status %+v, want one NACK and the second response acknowledged", got)
	}
	if got.Responses != 3 || got.Resources != 3 || got.Removals != 0 {
		t.Errorf("status %+v, want 3 responses with 3 resources", got)
	}
}

func TestServerSplitsResponses(t *testing.T) {
	c := new(Collection)
	n := serveXDS(t, &Server{Source: ByType{fruit: c}, PushDelay: -1, MaxResponseBytes: 250})
	var want []string
	for i := range 10 {
		c.Update([]Resource{item(fmt.Sprintf("f%d", i), strings.Repeat("x", 50))}, nil)
		want = append(want, fmt.Sprintf("f%d", i))
	}
	c.Update([]Resource{item("huge", strings.Repeat("x", 1000))}, nil)
	r := n.openRaw()
	r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, InitialResourceVersions: map[string]string{strings.Repeat("gone", 70): "", "gone": ""}})
	var got []string
	for {
		resp := r.receive()
		for _, res := range resp.GetResources() {
			got = append(got, res.GetName())
		}
		got = append(got, resp.GetRemovedResources()...)
		if !strings.HasSuffix(resp.GetNonce(), moreSuffix) {
			break
		}
	}
	want = append(want, "huge", "gone", strings.Repeat("gone", 70))
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestServerCoalesces makes many changes while the client does not read.
func TestServerCoalesces(t *testing.T) {
	c := new(Collection)
	s := &Server{Source: ByType{fruit: c}, PushDelay: -1}
	r := serveXDS(t, s).openRaw()
	r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit})
	r.want("")
	big := strings.Repeat("x", 100_000) // more than the stream's window
	const changes = 500
	for i := range changes {
		c.Update([]Resource{item("big", fmt.Sprint(i, big)), item("small", fmt.Sprint(i))}, nil)
	}
	responses := 0
	for last := ""; last != fmt.Sprint(changes-1); responses++ {
		for _, res := range r.receive().GetResources() {
			if res.GetName() == "small" {
				last = string(res.GetResource().GetValue())
			}
		}
	}
	if responses > changes/2 {
		t.Errorf("%d changes came in %d responses", changes, responses)
	}
}

func TestServerEndsSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(Collection)
		s := &Server{Source: ByType{fruit: c}}
		n := serveXDS(t, s)
		quick, slow := n.openRaw(), n.openRaw()
		quick.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit})
		quick.want("")
		c.Update([]Resource{item("big", strings.Repeat("x", 1<<20))}, nil)
		quick.receive()
		slow.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit})
		synctest.Wait()

		c.Update(items("apple=1"), nil)
		quick.want("apple=1") // is not held up
		if got := len(s.Clients()); got != 2 {
			t.Fatalf("%d clients, want both", got)
		}
		time.Sleep(2 * time.Minute) // of the bubble's time: more than SendTimeout
		synctest.Wait()
		if got := s.Clients(); len(got) != 1 {
			t.Fatalf("clients %+v, want only the quick one", got)
		}
		c.Update(items("apple=2"), nil)
		quick.want("apple=2")
	})
}

func TestServerRefuses(t *testing.T) {
	node := &discoverypb.Node{Id: "node"}
	request := func() *discoverypb.DeltaDiscoveryRequest {
		return &discoverypb.DeltaDiscoveryRequest{Node: node, TypeUrl: fruit}
	}
	source := func(err error) Source { return sourceFunc(func() (*Collection, error) { return new(Collection), err }) }
	tests := []struct {
		name     string
		server   *Server
		requests []*discoverypb.DeltaDiscoveryRequest
		code     codes.Code
		message  string
	}{
		{
			"no authentication configured",
			&Server{Source: source(nil)},
			[]*discoverypb.DeltaDiscoveryRequest{request()}, codes.Unauthenticated, "the server lacks",
		}, {
			"not authenticated", // with a reason that is not the client's business
			&Server{Source: source(nil), Authenticate: func(context.Context) (any, error) { return nil, errors.New("secret") }},
			[]*discoverypb.DeltaDiscoveryRequest{request()}, codes.Unauthenticated, "not authenticated",
		}, {
			"not authorized",
			&Server{Source: source(nil), Authenticate: Anonymous, Authorize: func(ClientInfo) error { return errors.New("secret") }},
			[]*discoverypb.DeltaDiscoveryRequest{request()}, codes.PermissionDenied, "not authorized",
		}, {
			"no node",
			&Server{Source: source(nil), Authenticate: Anonymous},
			[]*discoverypb.DeltaDiscoveryRequest{{TypeUrl: fruit}}, codes.InvalidArgument, "missing node information",
		}, {
			"node without ID",
			&Server{Source: source(nil), Authenticate: Anonymous},
			[]*discoverypb.DeltaDiscoveryRequest{{TypeUrl: fruit, Node: &discoverypb.Node{Cluster: "c"}}}, codes.InvalidArgument, "missing node information",
		}, {
			"source not ready",
			&Server{Source: source(status.Error(codes.Unavailable, "not yet")), Authenticate: Anonymous},
			[]*discoverypb.DeltaDiscoveryRequest{request()}, codes.Unavailable, "not yet",
		}, {
			"too many types",
			&Server{Source: source(nil), Authenticate: Anonymous, MaxTypes: 1},
			[]*discoverypb.DeltaDiscoveryRequest{request(), {TypeUrl: nuts}}, codes.ResourceExhausted, "types",
		}, {
			"too many subscriptions",
			&Server{Source: source(nil), Authenticate: Anonymous, MaxSubscriptions: 2},
			[]*discoverypb.DeltaDiscoveryRequest{request(), {TypeUrl: fruit, ResourceNamesSubscribe: []string{"a", "b", "c"}}}, codes.ResourceExhausted, "subscriptions",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := serve(t, func(g *grpc.Server) { test.server.Register(g) })
			r := n.openRaw()
			for _, req := range test.requests {
				_ = r.stream.SendMsg(req) // may be refused before it is sent
			}
			var err error
			for err == nil {
				err = r.stream.RecvMsg(new(discoverypb.DeltaDiscoveryResponse))
			}
			if status.Code(err) != test.code || !strings.Contains(err.Error(), test.message) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %v %q", err, test.code, test.message)
			}
			if err := test.server.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

type sourceFunc func() (*Collection, error)

func (f sourceFunc) Collection(context.Context, ClientInfo, string) (*Collection, error) { return f() }

func TestServerIgnoresUnknownType(t *testing.T) {
	r, _, s := served(t, items("apple=1")...)
	r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: nuts})
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: nuts, ResourceNamesSubscribe: []string{"hazel"}})
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit})
	r.want("apple=1")
	if got := s.Clients()[0].Types; len(got) != 1 || got[0].TypeURL != fruit {
		t.Errorf("types %+v, want fruit only", got)
	}
}

// TestServerKnowsClients gives each client the view of its network.
func TestServerKnowsClients(t *testing.T) {
	views := map[string]*Collection{"east": {}, "west": {}}
	views["east"].Update(items("apple=east"), nil)
	views["west"].Update(items("apple=west"), nil)
	s := &Server{
		Source: viewSource(views),
		Authenticate: func(ctx context.Context) (any, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			return strings.Join(md.Get("authorization"), ""), nil
		},
		Authorize: func(c ClientInfo) error {
			if c.Peer != "Bearer token" || c.Addr == nil {
				return errors.New("not for you")
			}
			return nil
		},
	}
	n := serveXDS(t, s)
	for _, network := range []string{"east", "west"} {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer token"), patience)
		t.Cleanup(cancel)
		stream, err := n.dial().NewStream(ctx, &deltaStreamDesc, deltaMethod)
		if err != nil {
			t.Fatal(err)
		}
		node, err := nodeToProto(Node{ID: network + "-node", Metadata: map[string]any{"NETWORK": network}, Locality: Locality{"r", "z", "s"}})
		if err != nil {
			t.Fatal(err)
		}
		r := &rawClient{t: t, stream: stream}
		r.send(&discoverypb.DeltaDiscoveryRequest{Node: node, TypeUrl: fruit})
		r.want("apple=" + network)
	}
	clients := s.Clients()
	if len(clients) != 2 || clients[0].Node.ID != "east-node" || clients[1].Node.Locality != (Locality{"r", "z", "s"}) || !clients[0].Delta {
		t.Errorf("clients %+v", clients)
	}
}

type viewSource map[string]*Collection

func (v viewSource) Collection(_ context.Context, client ClientInfo, _ string) (*Collection, error) {
	return v[client.Node.Metadata["NETWORK"].(string)], nil
}

func TestServerShutdown(t *testing.T) {
	r, _, s := served(t, items("apple=1")...)
	r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit})
	r.want("apple=1")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 2 {
		if err := s.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.stream.RecvMsg(new(discoverypb.DeltaDiscoveryResponse)); status.Code(err) != codes.Unavailable {
		t.Errorf("after Shutdown: %v, want %v", err, codes.Unavailable)
	}
	if got := s.Clients(); len(got) != 0 {
		t.Errorf("clients %+v after Shutdown", got)
	}
}

func TestServerMaxStreams(t *testing.T) {
	s := &Server{Source: ByType{fruit: new(Collection)}, MaxStreams: 1}
	n := serveXDS(t, s)
	first := n.openRaw()
	first.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit})
	first.want("")
	second := n.openRaw()
	if err := second.stream.RecvMsg(new(discoverypb.DeltaDiscoveryResponse)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("second stream: %v, want %v", err, codes.ResourceExhausted)
	}
}
