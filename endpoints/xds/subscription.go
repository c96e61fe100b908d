package xds

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// subscription is what one stream wants of one type, and has got of it. The stream's mutex
// guards it.
type subscription struct {
	url        string
	collection *Collection // nil: a type that is not served
	watcher    *watcher
	limit      int // most names
	maxHeld    int // most of have

	wildcard bool
	names    map[string]struct{} // asked for
	along    map[string]struct{} // names of resources that came with those: by alias, or With

	// What the next response owes to requests.
	due  bool              // a response, even an empty one
	full bool              // everything; only with the wildcard
	ask  []string          // the resource of each name, or its removal
	have map[string]string // what the client holds from an earlier stream: name to version
	more bool              // that is not all of it: the client has to be asked

	broadcast    *broadcastKey // how answers to all such clients are told from others; nil: there are none
	broadcasted  bool          // one was sent
	broadcastsTo uint64        // the revision that the last one led to

	nonces nonces
	status StreamType
}

// An answer is what a client has to be told: something of its own, or what others are told as well.
type answer struct {
	own    delta
	more   bool // nothing: the client is to say first what else it holds
	shared *broadcast
	sent   int // how many parts of it
}

// request takes in the parts of a delta request that change what the client wants.
func (s *subscription) request(req *discoverypb.DeltaDiscoveryRequest, first bool) error {
	subscribe, unsubscribe := req.GetResourceNamesSubscribe(), req.GetResourceNamesUnsubscribe()
	switch {
	case first:
		s.start(req)
	case s.more && req.GetResponseNonce() != "":
		s.due = true
		s.more = req.GetMoreVersions()
		maps.Copy(s.have, req.GetInitialResourceVersions())
	}
	if len(s.have) > s.maxHeld {
		return status.Error(codes.ResourceExhausted, fmt.Sprintf("more than %d resources of %s held", s.maxHeld, s.url))
	}
	for _, name := range subscribe {
		s.due = true
		if name == Wildcard {
			s.wildcard, s.full = true, true
			continue
		}
		s.names[name] = struct{}{}
		s.ask = append(s.ask, name)
	}
	for _, name := range unsubscribe {
		if name == Wildcard {
			s.wildcard, s.full = false, false
			continue
		}
		delete(s.names, name)
		delete(s.along, name)
		if s.wildcard {
			// The client may have dropped it, although the wildcard still covers it: tell it
			// again what there is.
			s.due = true
			s.ask = append(s.ask, name)
		}
	}
	if len(s.names) > s.limit || len(s.ask) > 2*s.limit {
		return status.Error(codes.ResourceExhausted, fmt.Sprintf("more than %d subscriptions to %s", s.limit, s.url))
	}
	return nil
}

// start takes in what only the first request of a type can say.
func (s *subscription) start(req *discoverypb.DeltaDiscoveryRequest) {
	subscribe, unsubscribe := req.GetResourceNamesSubscribe(), req.GetResourceNamesUnsubscribe()
	s.due = true
	s.have = req.GetInitialResourceVersions()
	// A first request that names nothing asks for everything (the legacy wildcard). One that
	// subscribes to the wildcard and unsubscribes from it is how ztunnel asks for nothing yet.
	s.wildcard = (len(subscribe) == 0 || slices.Contains(subscribe, Wildcard)) && !slices.Contains(unsubscribe, Wildcard)
	s.full = s.wildcard
	if s.wildcard {
		s.more = req.GetMoreVersions() && len(s.have) > 0
		return
	}
	// What an on-demand client holds it is subscribed to, as in istiod.
	for name := range s.have {
		s.names[name] = struct{}{}
		s.ask = append(s.ask, name)
	}
}

// take returns what the client has to be told now, and whether there is anything to send.
func (s *subscription) take() (answer, bool) {
	c := s.collection
	c.mu.RLock()
	defer c.mu.RUnlock()
	if s.more {
		ask := s.due
		s.due = false
		return answer{more: true}, ask
	}
	if b := s.share(); b != nil {
		send := s.due || !b.empty
		s.taken()
		return answer{shared: b}, send
	}
	d, send := s.takeOwn()
	s.taken()
	return answer{own: d}, send
}

// taken notes that the client is served, or about to be.
func (s *subscription) taken() {
	s.watcher.served = s.collection.revision
	s.due, s.full, s.ask, s.have = false, false, nil, nil
}

// share returns the answer that other clients get as well, if this one is to be told just what they are: of
// everything, what it does not have. A nonce must not come twice on a stream, so it gets each but once.
func (s *subscription) share() *broadcast {
	c := s.collection
	again := s.broadcasted && s.broadcastsTo == c.revision
	if s.broadcast == nil || !s.wildcard || len(s.ask)+len(s.have) > 0 || again {
		return nil
	}
	key := *s.broadcast
	switch {
	case s.full && s.status.Responses == 0:
		key.whole = true
	case s.full || s.due || s.watcher.served == c.revision:
		return nil
	default:
		key.from = s.watcher.served
	}
	b := c.broadcasts.find(key, c.revision, func() delta {
		if key.whole {
			return c.everything(nil)
		}
		return c.since(s.watcher, s.wants)
	})
	s.broadcasted, s.broadcastsTo = true, c.revision
	return b
}

// takeOwn returns what this client alone is to be told.
func (s *subscription) takeOwn() (delta, bool) {
	c := s.collection
	d := c.since(s.watcher, s.wants)
	if s.full {
		// Removals that wait to be sent belong to it, if this is not the first time.
		gone := d.removals
		d = c.everything(s.have)
		d.removals = append(d.removals, gone...)
		slices.Sort(d.removals)
		d.removals = slices.Compact(d.removals)
	}
	s.answer(&d)
	return d, s.due || !d.empty()
}

// wants reports whether a change of e concerns the client.
func (s *subscription) wants(e *entry) bool {
	return s.wildcard || s.named(e.resource.Name) ||
		slices.ContainsFunc(e.resource.Aliases, s.named) || slices.ContainsFunc(e.resource.With, s.named)
}

func (s *subscription) named(name string) bool {
	if _, ok := s.names[name]; ok {
		return true
	}
	_, ok := s.along[name]
	return ok
}

// answer adds to d the resources of the names asked for, and to those of an on-demand client what
// comes along with them. A name that has no resource is reported as removed, even if it never was
// there: that is how the protocol says no.
func (s *subscription) answer(d *delta) {
	if len(s.ask) == 0 && (s.wildcard || d.empty()) {
		return
	}
	found := d.upserts
	for _, name := range s.ask {
		matches := s.collection.lookup(name)
		if len(matches) == 0 {
			d.removals = append(d.removals, name)
		}
		found = append(found, matches...)
	}
	if !s.wildcard {
		found = s.bringAlong(found, d.removals)
	}
	d.upserts = slices.DeleteFunc(found, func(r *Resource) bool { return held(s.have, r) })
	d.compact()
}

// bringAlong subscribes the client to the resources found for it, whatever names it asked for
// them by, and returns them together with those that come along with them.
func (s *subscription) bringAlong(found []*Resource, removals []string) []*Resource {
	for _, name := range removals {
		delete(s.along, name)
	}
	for i := 0; i < len(found); i++ { // found grows meanwhile
		name := found[i].Name
		if _, known := s.along[name]; !known {
			s.along[name] = struct{}{}
			found = append(found, s.collection.lookup(name)...)
		}
	}
	return found
}

// compact sorts d and takes out what is in it twice.
func (d *delta) compact() {
	slices.SortFunc(d.upserts, func(a, b *Resource) int { return cmp.Compare(a.Name, b.Name) })
	d.upserts = slices.CompactFunc(d.upserts, func(a, b *Resource) bool { return a.Name == b.Name })
	slices.Sort(d.removals)
	d.removals = slices.Compact(d.removals)
}

// close lets go of the collection.
func (s *subscription) close() {
	if s.collection != nil {
		s.collection.unwatch(s.watcher)
	}
}
