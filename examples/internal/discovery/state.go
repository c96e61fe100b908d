package discovery

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/identity/authz"
)

// State holds the last known state of the mesh. It stays as it is while the
// control plane is away. The zero value is empty. Readers never block; updates
// come from one xds.Client.
type State struct {
	// Aliases are further names of trust domains: policies are kept for peers by
	// their canonical names. Set it before the first update.
	Aliases identity.Aliases

	index    endpoints.Store
	known    atomic.Bool
	policies atomic.Pointer[authz.Set] // nil until they are complete

	mu       sync.Mutex // guards what follows
	byName   map[string]authz.Policy
	compiled *authz.Set
	complete bool // compiled is to be shown
	watchers []func()

	notifying sync.Mutex // lets watchers be called one at a time
}

// Index returns the current services and workloads.
func (s *State) Index() *endpoints.Index { return s.index.Index() }

// Known reports whether Index has been complete once. Before that, what it does
// not have may exist all the same.
func (s *State) Known() bool { return s.known.Load() }

// Policies returns the current authorization policies. It is nil until all of
// them have come: what some allow, one that is still missing may deny.
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

// Complete says that all there is of a type has come, as xds.Client.Synced
// tells. A mesh may have no policy at all: then nothing else says so.
func (s *State) Complete(typeURL string) {
	switch typeURL {
	case wds.AddressTypeURL:
		s.known.Store(true)
	case wds.AuthorizationTypeURL:
		s.completePolicies()
	}
	s.notify()
}

func (s *State) completePolicies() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.compiled == nil {
		none, err := authz.Compile(nil)
		if err != nil {
			return // which leaves everything closed
		}
		s.compiled = none
	}
	s.complete = true
	s.policies.Store(s.compiled)
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
	if u.Stored && len(rejected) == 0 {
		s.known.Store(true)
	}
	s.notify()
	return rejected
}

func (s *State) applyPolicies(u xds.Update) map[string]error {
	rejected := s.updatePolicies(u)
	if u.Stored && len(rejected) == 0 {
		s.completePolicies()
	}
	s.notify()
	return rejected
}

func (s *State) updatePolicies(u xds.Update) map[string]error {
	s.mu.Lock()
	defer s.mu.Unlock()
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
			// allowed. Workloads that name a policy that never came are closed.
			rejected[r.Name] = err
			continue
		}
		next[r.Name] = p.Canonical(s.Aliases)
	}
	set, err := authz.Compile(slices.Collect(maps.Values(next)))
	if err != nil {
		return rejectAll(u, err)
	}
	s.byName, s.compiled = next, set
	if s.complete {
		s.policies.Store(set)
	}
	return rejected
}

func decodePolicy(r xds.Resource) (authz.Policy, error) {
	a, err := wds.DecodeAuthorization(r.Name, r.Body)
	if err != nil {
		return authz.Policy{}, err
	}
	if err := onlyKnownConditions(a); err != nil {
		return authz.Policy{}, err
	}
	p := Policy(a)
	_, err = authz.Compile([]authz.Policy{p})
	return p, err
}

// onlyKnownConditions refuses a policy with a condition that this proxy does
// not know: without it, the policy could allow what it must not.
func onlyKnownConditions(a *wds.Authorization) error {
	for _, g := range a.Groups {
		for _, r := range g.Rules {
			for _, m := range r.Matches {
				if len(m.Extensions) > 0 {
					return fmt.Errorf("policy %s: the condition %q is not known here", a.ResourceName(), m.Extensions[0].Name)
				}
			}
		}
	}
	return nil
}

var errTogether = errors.New("the policies do not fit together")

func rejectAll(u xds.Update, err error) map[string]error {
	rejected := map[string]error{}
	for _, r := range u.Upserts {
		rejected[r.Name] = fmt.Errorf("%w: %w", errTogether, err)
	}
	return rejected
}

func (s *State) notify() {
	s.notifying.Lock()
	defer s.notifying.Unlock()
	s.mu.Lock()
	watchers := slices.Clone(s.watchers)
	s.mu.Unlock()
	for _, f := range watchers {
		f()
	}
}
