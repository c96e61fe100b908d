package xds

import (
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/types/known/anypb"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// moreSuffix ends the nonce of a response that is one part of a whole, but the last. Clients
// treat nonces as opaque and know nothing of it; our Client is not synced before the last part.
const moreSuffix = ";more"

// nonces are those of the responses of one type on one stream.
type nonces struct {
	prefix  string // of the stream, which tells its own nonces from those of broadcasts
	made    uint64
	pending []string // sent and not answered, the oldest first
}

// maxPending bounds the nonces that a client does not answer.
const maxPending = 1000

// next returns the nonce of a response that only this stream sends, and notes that it is sent.
func (n *nonces) next(more bool) string {
	n.made++
	nonce := n.prefix + "-" + strconv.FormatUint(n.made, 10)
	if more {
		nonce += moreSuffix
	}
	n.sent(nonce)
	return nonce
}

// sent notes that a response is sent.
func (n *nonces) sent(nonce string) {
	if len(n.pending) >= maxPending {
		n.pending = slices.Delete(n.pending, 0, 1)
	}
	n.pending = append(n.pending, nonce)
}

// answered notes that the client has answered the response with that nonce. It returns false
// if there is none, or a later one was answered already: such a nonce is stale.
func (n *nonces) answered(nonce string) bool {
	i := slices.Index(n.pending, nonce)
	n.pending = n.pending[i+1:]
	return i >= 0
}

// wireSize is an upper bound of what r adds to the size of a response.
func wireSize(r *Resource, typeURL string) int {
	const overhead = 40 // the tags and lengths of nested messages
	size := len(r.Name) + len(r.Version) + len(typeURL) + len(r.Body) + overhead
	for _, alias := range r.Aliases {
		size += len(alias) + 6
	}
	return size
}

// cut takes from d what fits into one response. It always takes something from a d that is not
// empty.
func (d *delta) cut(typeURL string, limit int) delta {
	size, n := 0, 0
	for n < len(d.upserts) {
		if size += wireSize(d.upserts[n], typeURL); size > limit && n > 0 {
			break
		}
		n++
	}
	m := 0
	for n == len(d.upserts) && m < len(d.removals) {
		if size += len(d.removals[m]) + 6; size > limit && n+m > 0 {
			break
		}
		m++
	}
	part := delta{upserts: d.upserts[:n], removals: d.removals[:m]}
	d.upserts, d.removals = d.upserts[n:], d.removals[m:]
	return part
}

// encode makes the message of one part of a response. It shares names and bodies with d.
func (d *delta) encode(typeURL string, aliases bool) *discoverypb.DeltaDiscoveryResponse {
	resp := &discoverypb.DeltaDiscoveryResponse{
		TypeUrl:          typeURL,
		RemovedResources: d.removals,
		Resources:        make([]*discoverypb.Resource, len(d.upserts)),
	}
	messages := make([]discoverypb.Resource, len(d.upserts))
	anys := make([]anypb.Any, len(d.upserts))
	for i, r := range d.upserts {
		anys[i].TypeUrl, anys[i].Value = typeURL, r.Body
		messages[i].Name, messages[i].Version, messages[i].Resource = r.Name, r.Version, &anys[i]
		if aliases {
			messages[i].Aliases = r.Aliases
		}
		resp.Resources[i] = &messages[i]
	}
	return resp
}

// encodeSotw makes the message of a state-of-the-world response.
func (d *delta) encodeSotw(typeURL string) *discoverypb.DiscoveryResponse {
	resp := &discoverypb.DiscoveryResponse{TypeUrl: typeURL, Resources: make([]*anypb.Any, len(d.upserts))}
	for i, r := range d.upserts {
		resp.Resources[i] = &anypb.Any{TypeUrl: typeURL, Value: r.Body}
	}
	return resp
}

// version names a state of a collection, for people who debug.
func version(revision uint64) string { return fmt.Sprintf("r%d", revision) }
