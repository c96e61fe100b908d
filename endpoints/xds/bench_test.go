package xds

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// fill returns a collection of n resources with bodies as large as those of workloads.
func fill(n int) *Collection {
	c := new(Collection)
	all := make([]Resource, n)
	for i := range all {
		all[i] = Resource{Name: fmt.Sprintf("cluster1//Pod/app/reviews-%d", i), Body: fmt.Appendf(make([]byte, 200), "%d", i)}
	}
	c.Replace(all)
	return c
}

// discard is a stream whose client takes everything at once. It encodes as gRPC does.
type discard struct {
	grpc.ServerStream
	buf []byte
	n   int64
}

// encoded is a message that was encoded for more than one stream.
type encoded []byte

func (d *discard) SendMsg(m any) error {
	if shared, ok := m.(encoded); ok {
		d.n += int64(len(shared))
		return nil
	}
	var err error
	d.buf, err = proto.MarshalOptions{}.MarshalAppend(d.buf[:0], m.(proto.Message))
	d.n += int64(len(d.buf))
	return err
}

func prepareEncoded(m proto.Message) (any, error) {
	body, err := proto.Marshal(m)
	return encoded(body), err
}

func (d *discard) Context() context.Context { return context.Background() }

// benchStream is an open stream that wants everything, and counts as having it.
func benchStream(b *testing.B, c *Collection) (*stream, *subscription, *discard) {
	b.Helper()
	out := new(discard)
	s := &stream{
		server:  &Server{Source: ByType{fruit: c}},
		grpc:    out,
		variant: deltaVariant{},
		prepare: prepareEncoded,
		changed: make(chan struct{}, 1),
		asked:   make(chan struct{}, 1),
		ended:   make(chan struct{}),
	}
	if err := s.handle(&discoverypb.DeltaDiscoveryRequest{TypeUrl: fruit}); err != nil {
		b.Fatal(err)
	}
	sub := s.subs[0]
	sub.due, sub.full = false, false // it watches from here on
	sub.status.Responses = 1
	return s, sub, out
}

// BenchmarkPushOneChange changes one resource of many, and sends it to many clients; "each" encodes it for each of
// them anew.
func BenchmarkPushOneChange(b *testing.B) {
	for _, resources := range []int{1_000, 100_000} {
		c := fill(resources)
		for _, bench := range []struct {
			name    string
			clients int
			each    bool
		}{{"clients=1", 1, false}, {"clients=1000", 1000, false}, {"clients=1000/each", 1000, true}} {
			b.Run(fmt.Sprintf("resources=%d/%s", resources, bench.name), func(b *testing.B) {
				var streams []*stream
				for range bench.clients {
					s, sub, _ := benchStream(b, c)
					if bench.each {
						sub.broadcast = nil
					}
					streams = append(streams, s)
				}
				body := make([]byte, 200)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					c.Update([]Resource{{Name: "cluster1//Pod/app/reviews-7", Version: fmt.Sprint(i), Body: body}}, nil)
					for _, s := range streams {
						if err := s.push(s.subs[0]); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(bench.clients), "ns/client")
				for _, s := range streams {
					s.subs[0].close()
				}
			})
		}
	}
}

// BenchmarkFirstPush sends everything to a client that is new, or that has it already.
func BenchmarkFirstPush(b *testing.B) {
	const resources = 100_000
	c := fill(resources)
	have := make(map[string]string, resources)
	for r := range c.All() {
		have[r.Name] = r.Version
	}
	for _, bench := range []struct {
		name   string
		have   map[string]string
		shared bool // others are sent the same at the time
	}{{"new", nil, false}, {"another", nil, true}, {"reconnect", have, false}} {
		b.Run(bench.name, func(b *testing.B) {
			s, sub, out := benchStream(b, c)
			var first *broadcast
			if bench.shared {
				first = c.broadcasts.find(broadcastKey{
					url: fruit, identifier: "eastwest", limit: s.server.maxResponseBytes(), whole: true,
				}, c.revision, func() delta { return c.everything(nil) })
			}
			out.n = 0
			b.ReportAllocs()
			for b.Loop() {
				sub.due, sub.full, sub.have = true, true, bench.have
				if bench.shared {
					sub.status.Responses, sub.broadcasted = 0, false
				}
				if err := s.push(sub); err != nil {
					b.Fatal(err)
				}
			}
			runtime.KeepAlive(first)
			b.SetBytes(out.n / int64(b.N))
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/resources, "ns/resource")
		})
	}
}

// BenchmarkUpdate changes one resource of a collection that nobody watches.
func BenchmarkUpdate(b *testing.B) {
	c := fill(100_000)
	body := make([]byte, 200)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		body[0], body[1], body[2] = byte(i), byte(i>>8), byte(i>>16)
		c.Update([]Resource{{Name: "cluster1//Pod/app/reviews-7", Body: append([]byte(nil), body...)}}, nil)
	}
}
