package xds

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// countingCodec counts the responses that a server encodes.
type countingCodec struct {
	encoding.CodecV2
	responses atomic.Int64
}

func newCountingCodec() *countingCodec {
	return &countingCodec{CodecV2: encoding.GetCodecV2(grpcproto.Name)}
}

func (c *countingCodec) Marshal(v any) (mem.BufferSlice, error) {
	c.responses.Add(1)
	return c.CodecV2.Marshal(v)
}

// TestServerEncodesOnce changes a resource for a thousand clients: each gets it, and it is encoded once.
func TestServerEncodesOnce(t *testing.T) {
	const clients = 1000
	c := new(Collection)
	c.Update(items("apple=1 pear=1"), nil)
	codec := newCountingCodec()
	n := serveXDS(t, &Server{Source: ByType{fruit: c}}, grpc.ForceServerCodecV2(codec))
	var all []*rawClient
	for range clients / 100 {
		conn := n.dial()
		for range 100 {
			all = append(all, openRawOn(t, conn))
		}
	}
	for _, r := range all {
		r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit})
	}
	for _, r := range all {
		r.ack(r.want("apple=1 pear=1"))
	}
	// Where a thousand first answers are sent over a while, the garbage collector may take one in between.
	if got := codec.responses.Load(); got > clients/10 {
		t.Errorf("%d clients' first answers were encoded %d times", clients, got)
	}
	for i := range 3 {
		before := codec.responses.Load()
		change := fmt.Sprint("apple=again", i)
		c.Update(items(change), nil)
		for _, r := range all {
			r.ack(r.want(change))
		}
		if got := codec.responses.Load() - before; got != 1 {
			t.Errorf("one change for %d clients was encoded %d times", clients, got)
		}
	}
}

// TestServerSharesParts splits a shared answer for clients that read at their own pace.
func TestServerSharesParts(t *testing.T) {
	c := new(Collection)
	for i := range 10 {
		c.Update([]Resource{item(fmt.Sprint("f", i), strings.Repeat("x", 50))}, nil)
	}
	codec := newCountingCodec()
	n := serveXDS(t, &Server{Source: ByType{fruit: c}, PushDelay: -1, MaxResponseBytes: 250}, grpc.ForceServerCodecV2(codec))
	first, second := n.openRaw(), n.openRaw()
	var nonces [2][]string
	for i, r := range []*rawClient{first, second} {
		r.open(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit})
		var got []string
		for more := true; more; {
			resp := r.receive()
			for _, res := range resp.GetResources() {
				got = append(got, res.GetName())
			}
			nonces[i] = append(nonces[i], resp.GetNonce())
			more = strings.HasSuffix(resp.GetNonce(), moreSuffix)
			r.ack(resp)
		}
		if want := "f0 f1 f2 f3 f4 f5 f6 f7 f8 f9"; strings.Join(got, " ") != want {
			t.Errorf("client %d got %q, want %s", i, got, want)
		}
	}
	if len(nonces[0]) < 3 || fmt.Sprint(nonces[0]) != fmt.Sprint(nonces[1]) {
		t.Errorf("nonces %q and %q, want the same of some parts", nonces[0], nonces[1])
	}
	// The same again is another answer: nonces do not come twice.
	first.send(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit, ResourceNamesSubscribe: []string{Wildcard}})
	for more := true; more; {
		resp := first.receive()
		for _, old := range nonces[0] {
			if resp.GetNonce() == old {
				t.Fatalf("nonce %s came twice", old)
			}
		}
		more = strings.HasSuffix(resp.GetNonce(), moreSuffix)
	}
}

// TestServerSharesWithItsLikeOnly has clients that want something else than others among them.
func TestServerSharesWithItsLikeOnly(t *testing.T) {
	c := new(Collection)
	c.Update(items("apple=1 pear=1"), nil)
	n := serveXDS(t, &Server{Source: ByType{fruit: c}, PushDelay: -1})
	open := func(req *discoverypb.DeltaDiscoveryRequest, options ...grpc.CallOption) *rawClient {
		stream, err := n.dial().NewStream(t.Context(), &deltaStreamDesc, deltaMethod, options...)
		if err != nil {
			t.Fatal(err)
		}
		r := &rawClient{t: t, stream: stream}
		req.TypeUrl = fruit
		r.open(req)
		return r
	}
	zipped := open(&discoverypb.DeltaDiscoveryRequest{}, grpc.UseCompressor(gzip.Name))
	zipped.want("apple=1 pear=1")
	plain := open(&discoverypb.DeltaDiscoveryRequest{})
	plain.want("apple=1 pear=1")
	some := open(&discoverypb.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"pear"}})
	some.want("pear=1")
	held := open(&discoverypb.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{"plum": "1"}})
	held.want("apple=1 pear=1 -plum")
	c.Update(items("apple=2"), []string{"pear"})
	plain.want("apple=2 -pear")
	zipped.want("apple=2 -pear")
	held.want("apple=2 -pear")
	some.want("-pear")
}

// TestBroadcastTriesAgain: what one stream could not encode, another one can.
func TestBroadcastTriesAgain(t *testing.T) {
	apple := item("apple", "1")
	b := &broadcast{to: 1, rest: delta{upserts: []*Resource{&apple}, removals: []string{"pear"}}}
	fails := errors.New("no")
	if _, err := b.part(0, fruit, 1000, func(delta, string) (any, error) { return nil, fails }); !errors.Is(err, fails) {
		t.Fatalf("got %v, want %v", err, fails)
	}
	p, err := b.part(0, fruit, 1000, func(d delta, nonce string) (any, error) {
		if len(d.upserts) != 1 || len(d.removals) != 1 || nonce != "r1.0" {
			t.Errorf("got %v under nonce %s", d, nonce)
		}
		return "encoded", nil
	})
	if err != nil || p.message != "encoded" || !p.last {
		t.Errorf("got %+v, %v", p, err)
	}
}
