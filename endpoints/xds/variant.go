package xds

import (
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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

func (deltaVariant) take(sub *subscription) (answer, bool) { return sub.take() }

func (v deltaVariant) next(s *stream, sub *subscription, a *answer) (any, bool, error) {
	limit := s.server.maxResponseBytes()
	if a.more {
		nonce := sub.nonces.next(true)
		sub.status.sent(nonce, 0, 0)
		resp := v.response(delta{}, sub, sub.watcher.served, nonce)
		resp.MoreVersions = true
		return resp, false, nil
	}
	if a.shared == nil {
		d := a.own.cut(sub.url, limit)
		nonce := sub.nonces.next(!a.own.empty())
		sub.status.sent(nonce, len(d.upserts), len(d.removals))
		return v.response(d, sub, sub.watcher.served, nonce), !a.own.empty(), nil
	}
	p, err := a.shared.part(a.sent, sub.url, limit, func(d delta, nonce string) (any, error) {
		return s.prepare(v.response(d, sub, a.shared.to, nonce))
	})
	if err != nil {
		return nil, false, err
	}
	a.sent++
	sub.nonces.sent(p.nonce)
	sub.status.sent(p.nonce, p.upserts, p.removals)
	return p.message, !p.last, nil
}

func (v deltaVariant) response(d delta, sub *subscription, revision uint64, nonce string) *discoverypb.DeltaDiscoveryResponse {
	resp := d.encode(sub.url, !sub.wildcard)
	resp.Nonce = nonce
	resp.SystemVersionInfo = version(revision)
	resp.ControlPlane = &discoverypb.ControlPlane{Identifier: v.identifier}
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
	names := req.(*discoverypb.DiscoveryRequest).GetResourceNames()
	if len(names) > sub.limit {
		return status.Errorf(codes.ResourceExhausted, "more than %d subscriptions to %s", sub.limit, sub.url)
	}
	// A client that never named anything means everything.
	wildcard := len(names) == 0 && (first || sub.wildcard) || slices.Contains(names, Wildcard)
	wanted := make(map[string]struct{}, len(names))
	for _, name := range names {
		wanted[name] = struct{}{}
	}
	changed := wildcard != sub.wildcard || !maps.Equal(wanted, sub.names)
	if stale := req.GetResponseNonce() != "" && !first && req.GetResponseNonce() != sub.status.Sent; stale {
		return nil // the client will answer the later response, with the names that it wants then
	}
	sub.wildcard, sub.names = wildcard, wanted
	sub.due = sub.due || first || changed
	return nil
}

func (sotwVariant) take(sub *subscription) (answer, bool) {
	c := sub.collection
	c.mu.RLock()
	defer c.mu.RUnlock()
	changes := c.since(sub.watcher, sub.wants)
	send := sub.due || !changes.empty()
	sub.watcher.served = c.revision
	sub.due = false
	if !send {
		return answer{}, false
	}
	if sub.wildcard {
		return answer{own: c.everything(nil)}, true
	}
	var d delta
	for name := range sub.names {
		d.upserts = append(d.upserts, c.lookup(name)...)
	}
	d.compact()
	return answer{own: d}, true
}

func (v sotwVariant) next(_ *stream, sub *subscription, a *answer) (any, bool, error) {
	resp := a.own.encodeSotw(sub.url) // the whole state is one response, by definition
	resp.Nonce = sub.nonces.next(false)
	resp.VersionInfo = version(sub.watcher.served)
	resp.ControlPlane = &discoverypb.ControlPlane{Identifier: v.identifier}
	sub.status.sent(resp.Nonce, len(a.own.upserts), len(a.own.removals))
	return resp, false, nil
}
