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
	"google.golang.org/grpc/status"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

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

// TestServerThousandClients changes one resource for a thousand clients, of which some do not read.
func TestServerThousandClients(t *testing.T) {
	c := new(Collection)
	c.Update(items("apple=1"), nil)
	s := &Server{Source: ByType{fruit: c}}
	n := serveXDS(t, s)
	var clients []*rawClient
	for range 1000 / 50 {
		conn := n.dial()
		for range 50 {
			clients = append(clients, openRawOn(t, conn))
		}
	}
	for _, r := range clients {
		r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit})
	}
	for _, r := range clients {
		r.ack(r.want("apple=1"))
	}
	if got := len(s.Clients()); got != 1000 {
		t.Errorf("%d clients", got)
	}
	reading := clients[100:]
	for i := range 3 {
		body := fmt.Sprint("again", i)
		c.Update([]Resource{item("apple", body)}, nil)
		for _, r := range reading {
			r.want("apple=" + body)
		}
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
			"too many resources held",
			&Server{Source: source(nil), Authenticate: Anonymous, MaxHeld: 2},
			[]*discoverypb.DeltaDiscoveryRequest{{Node: node, TypeUrl: fruit, InitialResourceVersions: map[string]string{"a": "", "b": "", "c": ""}}}, codes.ResourceExhausted, "held",
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
