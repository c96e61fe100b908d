package xds

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// cache is what a Client knows of one type. Client.mu guards it; only the goroutine of Run
// changes what is held.
type cache struct {
	Type
	synced chan struct{}
	held   map[string]Resource // what Handle has accepted; without bodies if nothing stores them
	status TypeStatus

	// doubt has the names of held resources for which the first request of the stream had no
	// room, until the first answer is complete: what is not in it is gone.
	doubt map[string]struct{}

	partly bool // part of the response that is not complete yet was rejected

	// The rest is for on-demand types only.

	wanted  map[string]struct{}      // what was asked for
	aliases map[string]string        // alias to name, of what is held
	absent  map[string]struct{}      // wanted names that the server says do not exist
	refused map[string]error         // wanted names that Handle did not accept
	waiting map[string]chan struct{} // closed when the server has answered for the name
	ask     []string                 // still to be subscribed on this stream
	drop    []string                 // still to be unsubscribed on this stream, with the next ask
	removed []string                 // unsubscribed: still to be taken from Handle
	ignored map[string]string        // unsubscribed: what still comes on this stream is not wanted; resource to name
}

func newCache(t Type) *cache {
	return &cache{
		Type:    t,
		synced:  make(chan struct{}),
		held:    make(map[string]Resource),
		wanted:  make(map[string]struct{}),
		aliases: make(map[string]string),
		absent:  make(map[string]struct{}),
		refused: make(map[string]error),
		waiting: make(map[string]chan struct{}),
		ignored: make(map[string]string),
	}
}

// subscribe adds a name, and asks for it on the open stream.
func (k *cache) subscribe(name string) {
	if _, ok := k.wanted[name]; ok {
		return
	}
	k.wanted[name] = struct{}{}
	maps.DeleteFunc(k.ignored, func(target, other string) bool { return target == name || other == name })
	k.drop = slices.DeleteFunc(k.drop, func(other string) bool { return other == name })
	k.ask = append(k.ask, name)
}

func (k *cache) unsubscribe(name string) {
	if _, ok := k.wanted[name]; !ok {
		return
	}
	delete(k.wanted, name)
	delete(k.absent, name)
	delete(k.refused, name)
	target := name
	if primary, ok := k.aliases[name]; ok {
		target = primary
	}
	if !k.wants(target, k.held[target].Aliases) {
		k.ignored[target] = name
		k.removed = append(k.removed, target)
	}
	k.ask = slices.DeleteFunc(k.ask, func(other string) bool { return other == name })
	k.drop = append(k.drop, name)
	k.answer(name)
}

// wants reports whether a resource is subscribed to, by any of its names.
func (k *cache) wants(name string, aliases []string) bool {
	_, ok := k.wanted[name]
	return ok || slices.ContainsFunc(aliases, func(alias string) bool { _, ok := k.wanted[alias]; return ok })
}

// find says whether there is a resource of that name or alias, if that is known.
func (k *cache) find(name string) (found, known bool, err error) {
	if err := k.refused[name]; err != nil {
		return false, true, &RejectedError{TypeURL: k.URL, Name: name, Err: err}
	}
	if _, ok := k.absent[name]; ok {
		return false, true, nil
	}
	if primary, ok := k.aliases[name]; ok {
		name = primary
	}
	_, ok := k.held[name]
	return ok, ok, nil
}

// await returns a channel that is closed when the server has answered for the name.
func (k *cache) await(name string) <-chan struct{} {
	if k.waiting[name] == nil {
		k.waiting[name] = make(chan struct{})
	}
	return k.waiting[name]
}

func (k *cache) answer(name string) {
	if done := k.waiting[name]; done != nil {
		close(done)
		delete(k.waiting, name)
	}
}

// decode makes the update of a response, and says which of its resources cannot even be given
// to Handle. Removals of what was never held are left out: servers send them.
func (k *cache) decode(resp *discoverypb.DeltaDiscoveryResponse) (Update, map[string]error) {
	u := Update{TypeURL: k.URL}
	bad := make(map[string]error)
	sent := make(map[string]struct{}, len(resp.GetResources()))
	for _, r := range resp.GetResources() {
		sent[r.GetName()] = struct{}{}
		if _, ok := k.ignored[r.GetName()]; ok {
			if !k.wants(r.GetName(), r.GetAliases()) {
				continue
			}
			delete(k.ignored, r.GetName()) // it is wanted by another name, now
		}
		switch got := r.GetResource(); {
		case got == nil:
			bad[r.GetName()] = errors.New("has no body")
		case got.GetTypeUrl() != k.URL:
			bad[r.GetName()] = fmt.Errorf("has type %q", got.GetTypeUrl())
		default:
			u.Upserts = append(u.Upserts, Resource{Name: r.GetName(), Version: r.GetVersion(), Body: got.GetValue(), Aliases: r.GetAliases()})
		}
	}
	for _, name := range resp.GetRemovedResources() {
		_, ok := k.held[name]
		if _, stays := sent[name]; ok && !stays {
			u.Removals = append(u.Removals, name)
		}
	}
	return u, bad
}

// record notes what Handle made of an update. It keeps the bodies if they are to be stored. An alias that no
// resource has any more is answered for: the server names what it removes by nothing but its name.
func (k *cache) record(u Update, rejected map[string]error, bodies bool) {
	var lost []string
	for _, name := range u.Removals {
		lost = append(lost, k.held[name].Aliases...)
		k.forget(name)
	}
	for _, r := range u.Upserts {
		if rejected[r.Name] != nil {
			continue // the version that it replaces, if any, is still what Handle has
		}
		lost = append(lost, k.held[r.Name].Aliases...)
		k.forget(r.Name)
		if !bodies {
			r.Body = nil
		}
		k.held[r.Name] = r
		if k.OnDemand {
			k.found(r)
		}
	}
	k.missing(slices.DeleteFunc(lost, func(alias string) bool { _, has := k.aliases[alias]; return has }))
}

// found files a resource under its aliases, and answers for its names.
func (k *cache) found(r Resource) {
	for _, alias := range r.Aliases {
		k.aliases[alias] = r.Name
	}
	for _, name := range append([]string{r.Name}, r.Aliases...) {
		delete(k.absent, name)
		delete(k.refused, name)
		k.answer(name)
	}
}

// reject notes what was not accepted of a response.
func (k *cache) reject(resp *discoverypb.DeltaDiscoveryResponse, rejected map[string]error) {
	if len(rejected) == 0 {
		return
	}
	k.status.Rejected += uint64(len(rejected))
	k.status.LastError = rejections(rejected)
	for _, r := range resp.GetResources() {
		err := rejected[r.GetName()]
		if err == nil {
			continue
		}
		delete(k.doubt, r.GetName()) // it exists, in a version that we cannot use
		for _, name := range append([]string{r.GetName()}, r.GetAliases()...) {
			if _, ok := k.wanted[name]; ok {
				delete(k.absent, name)
				k.refused[name] = err
				k.answer(name)
			}
		}
	}
}

// forget takes a resource out of what is held.
func (k *cache) forget(name string) {
	for _, alias := range k.held[name].Aliases {
		if k.aliases[alias] == name {
			delete(k.aliases, alias)
		}
	}
	delete(k.held, name)
	delete(k.doubt, name)
}

// missing notes that the server says that there are no resources of these names.
func (k *cache) missing(names []string) {
	for _, name := range names {
		if _, ok := k.wanted[name]; ok {
			k.absent[name] = struct{}{}
			delete(k.refused, name)
			k.answer(name)
		}
	}
}

// snapshot describes the cache.
func (k *cache) snapshot() TypeStatus {
	st := k.status
	st.URL, st.OnDemand = k.URL, k.OnDemand
	st.Resources, st.Subscribed = len(k.held), len(k.wanted)
	return st
}
