package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// entryOverhead is an upper bound of the bytes that a name, or a name with its version, takes in
// a request besides its own: tags and lengths.
const entryOverhead = 16

// firstRequest makes the first request of a stream for this type: what the client holds, and
// what it wants. Both may be more than fits into one request.
//
//   - Of what is held, as many as fit are listed. The rest is in doubt: a server that knows how asks for
//     it (moreVersions). Others, such as istiod, send it again, as they do not know that the client
//     has it, and what is not in the first answer is gone.
//   - Of the names wanted, those that do not fit follow in other requests; so do the names held
//     but not listed of an on-demand type, for which the server then answers one by one.
func (k *cache) firstRequest(node *discoverypb.Node, limit int) *discoverypb.DeltaDiscoveryRequest {
	req := &discoverypb.DeltaDiscoveryRequest{Node: node, TypeUrl: k.URL}
	k.ask, k.drop, k.doubt, k.partly = nil, nil, make(map[string]struct{}), false
	clear(k.ignored)
	clear(k.absent)
	clear(k.refused)
	limit -= proto.Size(node) + len(k.URL) + 2*entryOverhead
	if k.OnDemand {
		limit -= k.subscribeFirst(req, limit)
	}
	var rest []string
	req.InitialResourceVersions, rest = k.versions(slices.Sorted(maps.Keys(k.held)), limit)
	if k.OnDemand {
		k.ask = append(k.ask, rest...)
		return req
	}
	for _, name := range rest {
		k.doubt[name] = struct{}{}
	}
	req.MoreVersions = len(rest) > 0
	return req
}

// versions lists those of the names that fit into limit bytes, with the versions held, and returns the others.
func (k *cache) versions(names []string, limit int) (listed map[string]string, rest []string) {
	listed = make(map[string]string, len(names))
	for i, name := range names {
		version := k.held[name].Version
		if limit -= len(name) + len(version) + entryOverhead; limit < 0 {
			return listed, names[i:]
		}
		listed[name] = version
	}
	return listed, nil
}

// moreVersions makes the request that goes on with what is held. What it lists is no longer in doubt.
func (k *cache) moreVersions(nonce string, limit int) *discoverypb.DeltaDiscoveryRequest {
	req := &discoverypb.DeltaDiscoveryRequest{TypeUrl: k.URL, ResponseNonce: nonce}
	limit -= len(k.URL) + len(nonce) + 3*entryOverhead
	var rest []string
	req.InitialResourceVersions, rest = k.versions(slices.Sorted(maps.Keys(k.doubt)), limit)
	for name := range req.GetInitialResourceVersions() {
		delete(k.doubt, name)
	}
	// A request has room for one name at least. Were a name too long, it would stay in doubt.
	req.MoreVersions = len(rest) > 0 && len(req.GetInitialResourceVersions()) > 0
	return req
}

// subscribeFirst puts into the first request as many of the wanted names as fit, and returns
// their size. With none, the request subscribes to everything and unsubscribes from it: without
// names it would be a wildcard request.
func (k *cache) subscribeFirst(req *discoverypb.DeltaDiscoveryRequest, limit int) int {
	if len(k.wanted) == 0 {
		req.ResourceNamesSubscribe = []string{Wildcard}
		req.ResourceNamesUnsubscribe = []string{Wildcard}
		return 2 * entryOverhead
	}
	k.ask = slices.Sorted(maps.Keys(k.wanted))
	var size int
	req.ResourceNamesSubscribe, size = takeNames(&k.ask, limit)
	return size
}

// nextRequest makes a request for the names that are still to be asked for, or returns nil.
// Names to unsubscribe from wait for names to subscribe to; see Client.Unsubscribe.
func (k *cache) nextRequest(limit int) *discoverypb.DeltaDiscoveryRequest {
	if len(k.ask) == 0 {
		return nil
	}
	limit -= len(k.URL) + entryOverhead
	req := &discoverypb.DeltaDiscoveryRequest{TypeUrl: k.URL}
	var size int
	req.ResourceNamesSubscribe, size = takeNames(&k.ask, limit)
	req.ResourceNamesUnsubscribe, _ = takeNames(&k.drop, limit-size)
	return req
}

// takeNames takes from the front of names as many as fit into limit bytes, but at least one, and
// returns them with their size.
func takeNames(names *[]string, limit int) ([]string, int) {
	size, n := 0, 0
	for n < len(*names) && (n == 0 || size+len((*names)[n])+entryOverhead <= limit) {
		size += len((*names)[n]) + entryOverhead
		n++
	}
	taken := (*names)[:n:n]
	*names = (*names)[n:]
	return taken, size
}

// ack answers a response; with rejected resources it is a NACK that names them.
func ack(resp *discoverypb.DeltaDiscoveryResponse, rejected map[string]error) *discoverypb.DeltaDiscoveryRequest {
	req := &discoverypb.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}
	if len(rejected) > 0 {
		req.ErrorDetail = &discoverypb.Status{Code: int32(codes.InvalidArgument), Message: rejections(rejected)}
	}
	return req
}

// maxDetail bounds the text of a NACK.
const maxDetail = 4 << 10

// rejections is the text of a NACK: each resource with the reason, as far as they fit.
func rejections(rejected map[string]error) string {
	var text strings.Builder
	for i, name := range slices.Sorted(maps.Keys(rejected)) {
		line := fmt.Sprintf("%s: %v", name, rejected[name])
		if text.Len()+len(line) > maxDetail && i > 0 {
			fmt.Fprintf(&text, "; and %d more", len(rejected)-i)
			break
		}
		if i > 0 {
			text.WriteString("; ")
		}
		text.WriteString(line[:min(len(line), maxDetail)])
	}
	return strings.ToValidUTF8(text.String(), "?")
}
