package xds

import (
	"context"
	"fmt"
	"sync"
	"weak"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/protobuf/proto"
)

// A broadcast is an answer that many streams send: the way of a collection from one revision to another. Each of
// its responses is encoded once, by the first stream that gets to it, and held once however many clients are slow
// to take it.
type broadcast struct {
	to    uint64
	empty bool

	mu    sync.Mutex
	rest  delta // what is not encoded yet
	parts []part
}

// A part is one response of a broadcast.
type part struct {
	message           any // what grpc.ServerStream.SendMsg takes
	nonce             string
	upserts, removals int
	last              bool
}

// A broadcastKey says what the encoding of an answer depends on.
type broadcastKey struct {
	url, identifier string
	limit           int
	whole           bool   // all resources, for a client that has none
	from            uint64 // else the revision that the client was served
}

// broadcasts finds the broadcasts of a collection that lead to its current revision. Those that no stream is
// sending any more may go, which is why references are weak: another stream makes them anew. Only the last change
// is kept, since all clients but the slow ones are about to send it.
type broadcasts struct {
	mu      sync.Mutex
	to      uint64
	current map[broadcastKey]weak.Pointer[broadcast]
	last    *broadcast
}

// find returns the broadcast to a revision, which is made if there is none. The caller holds the collection's lock,
// so that revisions do not go back.
func (b *broadcasts) find(key broadcastKey, to uint64, make func() delta) *broadcast {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.to != to || b.current == nil {
		b.to, b.current, b.last = to, map[broadcastKey]weak.Pointer[broadcast]{}, nil
	}
	found := b.current[key].Value()
	if found == nil {
		d := make()
		found = &broadcast{to: to, empty: d.empty(), rest: d}
		b.current[key] = weak.Make(found)
	}
	if !key.whole {
		b.last = found
	}
	return found
}

// part returns the response of that number. encode makes its message, if this is the first stream to send it.
func (b *broadcast) part(number int, url string, limit int, encode func(d delta, nonce string) (any, error)) (part, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if number < len(b.parts) {
		return b.parts[number], nil
	}
	rest := b.rest
	d := rest.cut(url, limit)
	p := part{
		nonce:   fmt.Sprintf("%s.%d", version(b.to), number),
		upserts: len(d.upserts), removals: len(d.removals),
		last: rest.empty(),
	}
	if p.last {
		rest = delta{}
	} else {
		p.nonce += moreSuffix
	}
	var err error
	if p.message, err = encode(d, p.nonce); err != nil {
		return part{}, err // another stream may try again
	}
	b.rest, b.parts = rest, append(b.parts, p)
	return p, nil
}

// prepare returns a way to encode messages for a stream so that any other stream with such a way can send them,
// or nil: its client wants another encoding or compression than most.
func prepare(stream grpc.ServerStream) func(proto.Message) (any, error) {
	if !isPlain(stream.Context()) {
		return nil
	}
	return func(m proto.Message) (any, error) {
		prepared := new(grpc.PreparedMsg)
		return prepared, prepared.Encode(stream, m)
	}
}

// isPlain reports whether a stream sends protobuf without compression, as far as gRPC lets it be known.
func isPlain(ctx context.Context) bool {
	stream, ok := grpc.ServerTransportStreamFromContext(ctx).(interface {
		SendCompress() string
		ContentSubtype() string
	})
	if !ok {
		return false
	}
	compressor, subtype := stream.SendCompress(), stream.ContentSubtype()
	return (compressor == "" || compressor == encoding.Identity) && (subtype == "" || subtype == grpcproto.Name)
}
