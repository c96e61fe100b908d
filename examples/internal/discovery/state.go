package discovery

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/identity/authz"
)

// State holds the last known state of the mesh. It stays as it is while the
// control plane is away. The zero value is empty. Readers never block; updates
// come from one xds.Client.
type State struct {
	index    endpoints.Store
	policies atomic.Pointer[authz.Set]

	mu       sync.Mutex
	byName   map[string]authz.Policy
	watchers []func()
}

// Index returns the current services and workloads.
func (s *State) Index() *endpoints.Index { return s.index.Index() }

// Policies returns the current authorization policies. Before the first ones
// came it is nil.
func (s *State) Policies() *authz.Set { return s.policies.Load() }

// OnChange calls f after every update from now on, one call at a time.
func (s *State) OnChange(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = append(s.watchers, f)
}

// Types are the subscriptions that feed the State. Policies come first: a
// workload must not be served before it is known what it refuses.
func (s *State) Types() []xds.Type {
	return []xds.Type{
		{URL: wds.AuthorizationTypeURL, Handle: s.applyPolicies},
		{URL: wds.AddressTypeURL, Handle: s.applyAddresses},
	}
}

func (s *State) applyAddresses(u xds.Update) map[string]error {
	delta := endpoints.Delta{Removed: u.Removals}
	rejected := map[string]error{}
	for _, r := range u.Upserts {
		res, err := wds.DecodeAddress(r.Name, r.Body)
		if err != nil {
			rejected[r.Name] = err
			continue
		}
		delta.Upserts = append(delta.Upserts, res)
	}
	s.index.Apply(delta)
	s.notify()
	return rejected
}

func (s *State) applyPolicies(u xds.Update) map[string]error {
	next := maps.Clone(s.byName)
	if next == nil {
		next = map[string]authz.Policy{}
	}
	rejected := map[string]error{}
	for _, name := range u.Removals {
		delete(next, name)
	}
	for _, r := range u.Upserts {
		p, err := decodePolicy(r)
		if err != nil {
			// The old form stays, if there is one: without it more might be
			// allowed. A workload whose policy never came is closed.
			rejected[r.Name] = err
			continue
		}
		next[r.Name] = p
	}
	set, err := authz.Compile(slices.Collect(maps.Values(next)))
	if err != nil {
		return rejectAll(u, err)
	}
	s.byName = next
	s.policies.Store(set)
	s.notify()
	return rejected
}

func decodePolicy(r xds.Resource) (authz.Policy, error) {
	a, err := wds.DecodeAuthorization(r.Name, r.Body)
	if err != nil {
		return authz.Policy{}, err
	}
	p := Policy(a)
	_, err = authz.Compile([]authz.Policy{p})
	return p, err
}

func rejectAll(u xds.Update, err error) map[string]error {
	rejected := map[string]error{}
	for _, r := range u.Upserts {
		rejected[r.Name] = errors.Join(errors.New("the policies do not fit together"), err)
	}
	return rejected
}

func (s *State) notify() {
	s.mu.Lock()
	watchers := slices.Clone(s.watchers)
	s.mu.Unlock()
	for _, f := range watchers {
		f()
	}
}
