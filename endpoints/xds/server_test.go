package xds

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

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

// TestServerAsksForMoreVersions lets a client say in three requests what it holds. What changes meanwhile waits.
func TestServerAsksForMoreVersions(t *testing.T) {
	r, c, _ := served(t, items("apple=1 fig=1 pear=1 plum=1")...)
	held := func(name string) map[string]string {
		res, _ := c.Get(name)
		return map[string]string{name: res.Version}
	}
	r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, InitialResourceVersions: held("apple"), MoreVersions: true})
	more := func() string {
		resp := r.want("")
		if !resp.GetMoreVersions() || !strings.HasSuffix(resp.GetNonce(), moreSuffix) {
			t.Fatalf("got %v, want to be asked for more", resp)
		}
		return resp.GetNonce()
	}
	nonce := more()
	c.Update(items("apple=2"), nil)
	gone := map[string]string{"kiwi": "v1"}
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, InitialResourceVersions: gone, ResponseNonce: nonce, MoreVersions: true})
	nonce = more()
	r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, InitialResourceVersions: held("pear"), ResponseNonce: nonce})
	if resp := r.want("fig=1 plum=1 apple=2 -kiwi"); resp.GetMoreVersions() {
		t.Errorf("asked for more than there is: %v", resp)
	}
	c.Update(items("apple=3"), nil)
	r.want("apple=3")
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

// TestServerWildcardAgain asks for everything once more while a removal waits to
// be sent: the answer has both.
func TestServerWildcardAgain(t *testing.T) {
	for _, test := range []struct {
		name string
		held []string // what the client is subscribed to by then
	}{
		{"after the wildcard", []string{"*"}},
		{"after names", []string{"apple", "pear"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := new(Collection)
			c.Update(items("apple=1 pear=1"), nil)
			r := serveXDS(t, &Server{Source: ByType{fruit: c}, PushDelay: time.Hour}).openRaw()
			r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesSubscribe: test.held})
			r.want("apple=1 pear=1")
			c.Update(nil, []string{"pear"})
			r.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesSubscribe: []string{"*"}})
			r.want("apple=1 -pear")
		})
	}
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
