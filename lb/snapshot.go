package lb

import (
	"cmp"
	"slices"
	"time"
)

// A snapshot is all that a Pick looks at. It never changes.
type snapshot[T any] struct {
	policy  Policy
	entries []entry[T]  // in the order of Update
	tiers   []tier      // best rank first
	choices []choice[T] // those of each tier, one after the other
	places  []place     // of the choices, by ID

	err         error // of every Pick, if there are no tiers
	excludedErr error // of a Pick that excludes all there is

	drains  uint64    // version of the DrainSet
	expires time.Time // when the first ejection ends, zero if there is none
}

type entry[T any] struct {
	target  Target[T]
	state   *state
	verdict Verdict
	rank    int
}

// A choice is what a Pick needs of an entry, kept together for the sake of the
// cache.
type choice[T any] struct {
	value  T
	state  *state
	weight uint32
}

// A place is where a target stands.
type place struct {
	id             ID
	tier, position int
}

// rebuild makes a snapshot of what is known now. b.mu must be held.
func (b *Balancer[T]) rebuild() {
	s := &snapshot[T]{policy: b.policy, drains: b.drains.version.Load()}
	drains := b.drains.List()
	now := b.now()
	s.entries = make([]entry[T], len(b.targets))
	for i := range s.entries {
		e := &s.entries[i]
		e.target, e.state = b.targets[i], b.states[i]
		e.verdict, e.rank = b.judge(&e.target, drains)
	}
	if s.policy.Mode != Passthrough {
		s.eject(now)
		s.makeTiers(b.algorithm)
	}
	s.makeErrors()
	b.current.Store(s)
}

// judge says whether a target may be used, ejection aside, and its rank.
func (b *Balancer[T]) judge(t *Target[T], drains []Drain) (Verdict, int) {
	rank, strict := b.policy.rank(&b.source, &t.Locality)
	drained := func(d Drain) bool { return d.matches(&t.Locality, t.Gateway) }
	switch {
	case t.Weight == 0:
		// ztunnel ranks these too, and finds no endpoint if they are alone in
		// the best rank. Having no capacity, they are not there for us.
		return WeightZero, rank
	case slices.ContainsFunc(drains, drained):
		return Drained, rank
	case t.Health == Unhealthy && b.policy.Health == OnlyHealthy:
		return NotHealthy, rank
	case b.policy.Mode == Strict && !strict:
		return NotMatching, rank
	}
	return Standby, rank
}

// eject marks the usable entries that are ejected now, unless all are: then a
// target that failed is better than none.
func (s *snapshot[T]) eject(now time.Time) {
	usable, ejected := 0, 0
	for i := range s.entries {
		if s.entries[i].verdict == Standby {
			usable++
			if now.Before(s.entries[i].state.ejection.until) {
				ejected++
			}
		}
	}
	if ejected == 0 {
		return
	}
	for i := range s.entries {
		e := &s.entries[i]
		until := e.state.ejection.until
		if e.verdict != Standby || !now.Before(until) {
			continue
		}
		if ejected < usable {
			e.verdict = Ejected
		}
		if s.expires.IsZero() || until.Before(s.expires) {
			s.expires = until
		}
	}
}

// makeTiers groups the usable entries by rank.
func (s *snapshot[T]) makeTiers(algorithm Algorithm) {
	var usable []int
	for i := range s.entries {
		if s.entries[i].verdict == Standby {
			usable = append(usable, i)
		}
	}
	if s.policy.Mode == Failover {
		slices.SortStableFunc(usable, func(a, b int) int {
			return cmp.Compare(s.entries[b].rank, s.entries[a].rank)
		})
	}
	s.choices = make([]choice[T], 0, len(usable))
	s.places = make([]place, 0, len(usable))
	for len(usable) > 0 {
		n := len(usable)
		if s.policy.Mode == Failover {
			rank := s.entries[usable[0]].rank
			n = 1
			for n < len(usable) && s.entries[usable[n]].rank == rank {
				n++
			}
		}
		s.addTier(usable[:n], algorithm)
		usable = usable[n:]
	}
	slices.SortFunc(s.places, func(a, b place) int { return cmp.Compare(a.id, b.id) })
}

// addTier makes the next tier of the given entries.
func (s *snapshot[T]) addTier(members []int, algorithm Algorithm) {
	t := tier{first: len(s.choices), ends: make([]uint64, len(members))}
	keys := make([]string, len(members))
	var sum uint64
	for p, i := range members {
		e := &s.entries[i]
		if len(s.tiers) == 0 {
			e.verdict = InUse
		}
		sum += uint64(e.target.Weight)
		t.ends[p] = sum
		keys[p] = e.target.Key
		s.choices = append(s.choices, choice[T]{e.target.Value, e.state, e.target.Weight})
		s.places = append(s.places, place{e.state.id, len(s.tiers), p})
	}
	switch algorithm {
	case RoundRobin:
		t.cycle = newCycle(&t)
	case Consistent:
		t.table = newTable(&t, keys)
	default:
		t.alias = newAlias(&t)
	}
	s.tiers = append(s.tiers, t)
}
