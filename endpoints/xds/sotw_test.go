package xds

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// openSotw begins a stream of the older variant.
func (n *network) openSotw() grpc.ClientStream {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	n.t.Cleanup(cancel)
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	stream, err := n.dial().NewStream(ctx, desc, "/"+serviceName+"/"+sotwName)
	if err != nil {
		n.t.Fatal(err)
	}
	return stream
}

// TestServerSotw speaks the older variant, in which sidecars ask for name tables.
func TestServerSotw(t *testing.T) {
	c := new(Collection)
	c.Update(items("apple=1 pear=1"), nil)
	s := &Server{Source: ByType{fruit: c, nuts: c}, PushDelay: -1}
	n := serveXDS(t, s)
	stream := n.openSotw()
	send := func(req *discoverypb.DiscoveryRequest) {
		t.Helper()
		req.Node = &discoverypb.Node{Id: "sidecar"}
		if err := stream.SendMsg(req); err != nil {
			t.Fatal(err)
		}
	}
	want := func(typeURL, bodies string) *discoverypb.DiscoveryResponse {
		t.Helper()
		resp := new(discoverypb.DiscoveryResponse)
		if err := stream.RecvMsg(resp); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range resp.GetResources() {
			got = append(got, string(r.GetValue()))
		}
		if resp.GetTypeUrl() != typeURL || strings.Join(got, " ") != bodies || resp.GetVersionInfo() == "" {
			t.Fatalf("got %v, want %s of %s", resp, bodies, typeURL)
		}
		return resp
	}
	ack := func(resp *discoverypb.DiscoveryResponse, names ...string) {
		t.Helper()
		send(&discoverypb.DiscoveryRequest{TypeUrl: resp.GetTypeUrl(), VersionInfo: resp.GetVersionInfo(), ResponseNonce: resp.GetNonce(), ResourceNames: names})
	}

	send(&discoverypb.DiscoveryRequest{TypeUrl: fruit})
	first := want(fruit, "1 1")
	ack(first)
	send(&discoverypb.DiscoveryRequest{TypeUrl: nuts, ResourceNames: []string{"pear", "plum"}})
	named := want(nuts, "1")
	ack(named, "pear", "plum")

	c.Update(items("apple=2"), nil)
	second := want(fruit, "1 2")
	ack(first, "apple") // stale
	ack(second)
	ack(named, "pear", "apple") // other names
	named = want(nuts, "2 1")
	ack(named, "pear", "apple")
	c.Update(nil, []string{"pear"})
	ack(want(fruit, "2"))
	named = want(nuts, "2")
	ack(named) // no names any more: wants nothing
	want(nuts, "")
	if got := s.Clients(); len(got) != 1 || got[0].Delta || len(got[0].Types) != 2 {
		t.Errorf("clients %+v", got)
	}
}

// TestServerSotwRepeatedNames has a client name a resource twice: its ACK, which does so again, asks for nothing new.
func TestServerSotwRepeatedNames(t *testing.T) {
	c := new(Collection)
	c.Update(items("apple=1"), nil)
	n := serveXDS(t, &Server{Source: ByType{fruit: c, nuts: c}, PushDelay: -1})
	stream := n.openSotw()
	ask := func(typeURL, nonce string) {
		t.Helper()
		req := &discoverypb.DiscoveryRequest{Node: &discoverypb.Node{Id: "sidecar"}, TypeUrl: typeURL, ResponseNonce: nonce, ResourceNames: []string{"apple", "apple"}}
		if err := stream.SendMsg(req); err != nil {
			t.Fatal(err)
		}
	}
	ask(fruit, "")
	first := new(discoverypb.DiscoveryResponse)
	if err := stream.RecvMsg(first); err != nil {
		t.Fatal(err)
	}
	ask(fruit, first.GetNonce())
	ask(nuts, "") // what is asked for later is answered later
	next := new(discoverypb.DiscoveryResponse)
	if err := stream.RecvMsg(next); err != nil || next.GetTypeUrl() != nuts {
		t.Errorf("after an ACK came %v, %v; want the answer to the next question", next, err)
	}
}
