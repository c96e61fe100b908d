package lb

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Algorithm chooses among the targets of one rank.
type Algorithm int

const (
	// WeightedRandom chooses at random, by weight, as ztunnel does.
	WeightedRandom Algorithm = iota
	// RoundRobin goes round a precomputed cycle in which each target comes as
	// often as its weight says, as evenly spread as possible.
	RoundRobin
	// LeastRequest draws two targets by weight and takes the one with fewer
	// picks in flight for its weight. It needs Done.
	LeastRequest
	// Consistent gives equal Request.Hashes the same target, and moves few of
	// them when targets change (Maglev). Targets need Keys that are the same
	// everywhere for several Balancers to agree.
	Consistent
)

// String returns the name of the constant.
func (a Algorithm) String() string {
	return name("Algorithm", int(a), "WeightedRandom", "RoundRobin", "LeastRequest", "Consistent")
}

// Config of a Balancer. The zero value balances at random, by weight, over all
// healthy targets.
type Config struct {
	// Source is where the traffic comes from.
	Source Locality

	// Policy says which targets are used; SetPolicy changes it.
	Policy Policy

	// Algorithm within the best rank. Default: WeightedRandom.
	Algorithm Algorithm

	// Outlier takes targets that fail out for a while. Default: never.
	Outlier Outlier

	// Drains are clusters, networks and gateways to stay away from. One
	// DrainSet can be shared by any number of Balancers. Default: none.
	Drains *DrainSet

	// Rand returns uniformly random numbers; it is called concurrently.
	// Default: rand.Uint64 of math/rand/v2.
	Rand func() uint64

	// Now is the clock that ejections are timed by. Default: time.Now.
	Now func() time.Time
}

// A Balancer chooses targets for the connections of one source to one service.
// All methods may be called by any number of goroutines.
type Balancer[T any] struct {
	source    Locality
	algorithm Algorithm
	outlier   Outlier
	drains    *DrainSet
	rand      func() uint64
	now       func() time.Time

	turn    atomic.Uint64 // of RoundRobin
	current atomic.Pointer[snapshot[T]]

	// What a snapshot is made of.
	mu      sync.Mutex
	policy  Policy
	targets []Target[T]
	states  []*state // of targets, by index
	byKey   map[string]*state
	lastID  ID
}

// state is what a Balancer knows about a target besides what it was told.
type state struct {
	id       ID
	inFlight atomic.Int64
	failures atomic.Int64 // in a row
	ejection ejection     // guarded by Balancer.mu
}

// New returns a Balancer without targets. A failure is a *PolicyError.
func New[T any](c Config) (*Balancer[T], error) {
	if err := c.Policy.validate(); err != nil {
		return nil, err
	}
	if c.Algorithm < WeightedRandom || c.Algorithm > Consistent {
		return nil, &PolicyError{"Algorithm", c.Algorithm.String()}
	}
	outlier, err := c.Outlier.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Balancer[T]{
		source:    c.Source,
		algorithm: c.Algorithm,
		outlier:   outlier,
		drains:    c.Drains,
		rand:      c.Rand,
		now:       c.Now,
		policy:    c.Policy.clone(),
	}
	if b.drains == nil {
		b.drains = &DrainSet{}
	}
	if b.rand == nil {
		b.rand = rand.Uint64
	}
	if b.now == nil {
		b.now = time.Now
	}
	b.rebuild()
	return b, nil
}

// Update replaces the targets, at once for all Picks that begin after it. A
// refused update is a *TargetError and changes nothing. The slice is copied.
func (b *Balancer[T]) Update(targets []Target[T]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(targets) > maxTargets {
		return &TargetError{Index: maxTargets, Reason: "is one too many"}
	}
	states := make([]*state, len(targets))
	byKey := make(map[string]*state, len(targets))
	for i := range targets {
		st, err := b.stateOf(i, &targets[i], byKey)
		if err != nil {
			return err
		}
		states[i] = st
	}
	b.targets = slices.Clone(targets)
	b.states, b.byKey = states, byKey
	b.rebuild()
	return nil
}

// stateOf returns the state that the i-th target of an Update has already, or
// a new one, and notes it in byKey.
func (b *Balancer[T]) stateOf(i int, t *Target[T], byKey map[string]*state) (*state, error) {
	if t.Health != Healthy && t.Health != Unhealthy {
		return nil, &TargetError{i, t.Key, "unknown health " + t.Health.String()}
	}
	st := b.byKey[t.Key]
	if st == nil {
		b.lastID++
		st = &state{id: b.lastID}
	}
	if t.Key != "" {
		if byKey[t.Key] != nil {
			return nil, &TargetError{i, t.Key, "another target has the same key"}
		}
		byKey[t.Key] = st
	}
	return st, nil
}

// SetPolicy replaces the policy and keeps all else. A failure is a
// *PolicyError and changes nothing.
func (b *Balancer[T]) SetPolicy(p Policy) error {
	if err := p.validate(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.policy = p.clone()
	b.rebuild()
	return nil
}
