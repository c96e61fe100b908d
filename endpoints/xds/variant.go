package xds

import (
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// deltaVariant is incremental discovery: requests change subscriptions, responses carry
// differences.
type deltaVariant struct{ identifier string }

func (deltaVariant) receive(stream grpc.ServerStream) (request, error) {
	req := new(discoverypb.DeltaDiscoveryRequest)
	return req, stream.RecvMsg(req)
}

func (deltaVariant) apply(sub *subscription, req request, first bool) error {
	return sub.request(req.(*discoverypb.DeltaDiscoveryRequest), first)
}

func (deltaVariant) take(sub *subscription) (delta, bool) { return sub.take() }

func (v deltaVariant) next(sub *subscription, d *delta, limit int) proto.Message {
	part := d.cut(sub.url, limit)
	resp := part.encode(sub.url, !sub.wildcard)
	resp.Nonce = sub.nonces.next(!d.empty())
	resp.SystemVersionInfo = version(sub.watcher.served)
	resp.ControlPlane = &discoverypb.ControlPlane{Identifier: v.identifier}
	sub.status.sent(resp.Nonce, part)
	return resp
}

// sotwVariant is state-of-the-world discovery: requests list all names, responses carry all
// resources whenever one changes.
type sotwVariant struct{ identifier string }

func (sotwVariant) receive(stream grpc.ServerStream) (request, error) {
	req := new(discoverypb.DiscoveryRequest)
	return req, stream.RecvMsg(req)
}

func (sotwVariant) apply(sub *subscription, req request, first bool) error {
	names := slices.Clone(req.(*discoverypb.DiscoveryRequest).GetResourceNames())
	if len(names) > sub.limit {
		return status.Errorf(codes.ResourceExhausted, "more than %d subscriptions to %s", sub.limit, sub.url)
	}
	// A client that never named anything means everything.
	wildcard := len(names) == 0 && (first || sub.wildcard) || slices.Contains(names, Wildcard)
	wanted := make(map[string]struct{}, len(names))
	changed := wildcard != sub.wildcard || len(names) != len(sub.names)
	for _, name := range names {
		wanted[name] = struct{}{}
		_, asked := sub.names[name]
		changed = changed || !asked
	}
	if stale := req.GetResponseNonce() != "" && !first && req.GetResponseNonce() != sub.status.Sent; stale {
		return nil // the client will answer the later response, with the names that it wants then
	}
	sub.wildcard, sub.names = wildcard, wanted
	sub.due = sub.due || first || changed
	return nil
}

func (sotwVariant) take(sub *subscription) (delta, bool) {
	c := sub.collection
	c.mu.RLock()
	defer c.mu.RUnlock()
	changes := c.since(sub.watcher, sub.wants)
	send := sub.due || !changes.empty()
	sub.watcher.served = c.revision
	sub.due = false
	if !send {
		return delta{}, false
	}
	if sub.wildcard {
		return c.everything(nil), true
	}
	var d delta
	for name := range sub.names {
		d.upserts = append(d.upserts, c.lookup(name)...)
	}
	d.compact()
	return d, true
}

func (v sotwVariant) next(sub *subscription, d *delta, _ int) proto.Message {
	resp := d.encodeSotw(sub.url) // the whole state is one response, by definition
	resp.Nonce = sub.nonces.next(false)
	resp.VersionInfo = version(sub.watcher.served)
	resp.ControlPlane = &discoverypb.ControlPlane{Identifier: v.identifier}
	sub.status.sent(resp.Nonce, *d)
	*d = delta{}
	return resp
}
