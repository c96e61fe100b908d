package xds

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	wire, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// FuzzServerRequests sends a server two requests and a change. It may end the stream, but must
// not panic, and must not send what was not asked for.
func FuzzServerRequests(f *testing.F) {
	seed := func(first, second *discoverypb.DeltaDiscoveryRequest) { f.Add(marshal(f, first), marshal(f, second)) }
	seed(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit}, &discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResponseNonce: "-1"})
	seed(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesSubscribe: []string{"*"}, ResourceNamesUnsubscribe: []string{"*"}},
		&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesSubscribe: []string{"en", "fig"}})
	seed(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, InitialResourceVersions: map[string]string{"apple": "1", "fig": ""}, ResourceNamesSubscribe: []string{"apple"}},
		&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesUnsubscribe: []string{"apple"}, ErrorDetail: &discoverypb.Status{Message: "bad"}, ResponseNonce: "-2"})
	seed(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, InitialResourceVersions: map[string]string{"apple": "1"}, MoreVersions: true},
		&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, InitialResourceVersions: map[string]string{"fig": "1"}, ResponseNonce: "-1;more"})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		c := new(Collection)
		c.Update([]Resource{{Name: "apple", Version: "1", Aliases: []string{"en"}}, {Name: "core", With: []string{"apple"}}, {Name: "pear"}}, nil)
		s := &stream{
			server:  &Server{Source: ByType{fruit: c}, MaxSubscriptions: 4, MaxResponseBytes: 1},
			grpc:    new(discard),
			variant: deltaVariant{},
			prepare: prepareEncoded,
			changed: make(chan struct{}, 1),
			asked:   make(chan struct{}, 1),
			ended:   make(chan struct{}),
		}
		for _, wire := range [][]byte{first, second} {
			req := new(discoverypb.DeltaDiscoveryRequest)
			if proto.Unmarshal(wire, req) != nil || s.handle(req) != nil {
				return
			}
			for _, sub := range s.subs {
				if sub.collection == nil {
					continue
				}
				if err := s.push(sub); err != nil {
					t.Fatal(err)
				}
				if a, send := sub.take(); send {
					t.Errorf("still owes %+v after a push", a)
				}
			}
			c.Update(items("fig=1 pear=2"), []string{"apple"})
		}
		_, _ = s.snapshot()
	})
}

// FuzzClientResponses gives a client two responses. Whatever they are, what it counts as held is
// what Handle accepted and was not told to remove.
func FuzzClientResponses(f *testing.F) {
	istiod := fromIstiod(f)
	istiod.Resources = istiod.Resources[:3]
	istiod.TypeUrl = fruit
	gone := &discoverypb.DeltaDiscoveryResponse{TypeUrl: fruit, RemovedResources: []string{istiod.Resources[0].GetName(), "never"}}
	some := (&delta{upserts: []*Resource{{Name: "apple", Aliases: []string{"en"}}, {Name: "apple", Body: []byte("bad")}}}).encode(fruit, true)
	f.Add(marshal(f, istiod), marshal(f, gone), true)
	f.Add(marshal(f, some), marshal(f, gone), false)
	f.Add(marshal(f, some), marshal(f, &discoverypb.DeltaDiscoveryResponse{TypeUrl: fruit, MoreVersions: true}), false)
	f.Fuzz(func(t *testing.T, first, second []byte, onDemand bool) {
		held := map[string]bool{}
		c := &Client{Types: []Type{{URL: fruit, OnDemand: onDemand, Handle: func(u Update) map[string]error {
			rejected := map[string]error{}
			for _, name := range u.Removals {
				delete(held, name)
			}
			for _, r := range u.Upserts {
				if string(r.Body) == "bad" {
					rejected[r.Name] = errors.New("is rotten")
				} else if rejected[r.Name] == nil {
					held[r.Name] = true
				}
			}
			return rejected
		}}}}
		c.init()
		conv := &conversation{cancel: func(error) {}, wake: make(chan struct{}, 1)}
		for _, wire := range [][]byte{first, second} {
			resp := new(discoverypb.DeltaDiscoveryResponse)
			if proto.Unmarshal(wire, resp) != nil {
				return
			}
			c.handle(conv, resp)
		}
		for name := range c.byURL[fruit].held {
			if !held[name] {
				t.Errorf("counts %q as held", name)
			}
		}
	})
}
