package lb

import (
	"cmp"
	"slices"
)

// A Request says what is asked of one Pick. The zero value asks for any target.
type Request struct {
	// Hash of what is to stay with one target, such as a client or a session.
	// Only Consistent uses it.
	Hash uint64

	// Exclude are targets not to choose: those that were tried already. If the
	// best rank has no other target, the next one is used. IDs of targets that
	// are gone do no harm.
	Exclude []ID
}

// A Pick is a choice that was made.
type Pick[T any] struct {
	Value T
	ID    ID

	balancer *Balancer[T]
	state    *state
}

// An Outcome is how a Pick went.
type Outcome struct {
	// Err is why the target is to blame, nil if it did well. An error that
	// unwraps to context.Canceled says nothing about the target: we gave up.
	Err error
}

// Pick chooses a target. Call Done of the result once.
//
// The error is ErrPassthrough, or a *NoTargetError, which errors.Is takes for
// ErrNoTarget.
func (b *Balancer[T]) Pick(r Request) (Pick[T], error) {
	s := b.fresh()
	if s.err != nil {
		return Pick[T]{}, s.err
	}
	c := b.choose(s, r)
	if c == nil {
		return Pick[T]{}, s.excludedErr
	}
	c.state.inFlight.Add(1)
	return Pick[T]{Value: c.value, ID: c.state.id, balancer: b, state: c.state}, nil
}

// Done reports how the Pick went and that it is over: at once if connecting
// failed, else when the connection ends. It must be called exactly once.
func (p Pick[T]) Done(o Outcome) {
	if p.state == nil {
		return // the Pick of an error
	}
	p.state.inFlight.Add(-1)
	p.balancer.observe(p.state, o.Err)
}

// fresh returns the current snapshot, made anew if a drain was changed or an
// ejection is over. Should several Picks notice that, one of them does the work
// and the others go on with what there is.
func (b *Balancer[T]) fresh() *snapshot[T] {
	s := b.current.Load()
	if s.drains == b.drains.version.Load() && (s.expires.IsZero() || b.now().Before(s.expires)) {
		return s
	}
	if b.mu.TryLock() {
		if b.current.Load() == s {
			b.rebuild()
		}
		b.mu.Unlock()
	}
	return b.current.Load()
}

// choose returns nil if all targets are excluded.
func (b *Balancer[T]) choose(s *snapshot[T], r Request) *choice[T] {
	if len(r.Exclude) == 0 {
		t := &s.tiers[0]
		return &s.choices[t.first+b.position(s, t, r.Hash, nil)]
	}
	var room [16]int
	for i := range s.tiers {
		t := &s.tiers[i]
		skip := s.positions(room[:0], r.Exclude, i)
		if len(skip) < t.size() {
			return &s.choices[t.first+b.position(s, t, r.Hash, skip)]
		}
	}
	return nil
}

// positions appends the positions in a tier of the excluded targets, sorted,
// each once.
func (s *snapshot[T]) positions(dst []int, exclude []ID, tier int) []int {
	for _, id := range exclude {
		i, ok := slices.BinarySearchFunc(s.places, id, func(p place, id ID) int { return cmp.Compare(p.id, id) })
		if ok && s.places[i].tier == tier {
			dst = append(dst, s.places[i].position)
		}
	}
	slices.Sort(dst)
	return slices.Compact(dst)
}

// position chooses a position of t that is not in skip, of which there must be
// one.
func (b *Balancer[T]) position(s *snapshot[T], t *tier, hash uint64, skip []int) int {
	switch b.algorithm {
	case RoundRobin:
		if p := t.inTurn(b.turn.Add(1) - 1); !slices.Contains(skip, p) {
			return p
		}
	case LeastRequest:
		return b.leastLoaded(s, t, skip)
	case Consistent:
		return t.hashed(hash, skip)
	}
	return t.randomExcept(b.rand, skip)
}

// leastLoaded draws two targets by weight and compares what they have in
// flight per weight, so that without load the shares are those of the weights.
func (b *Balancer[T]) leastLoaded(s *snapshot[T], t *tier, skip []int) int {
	first := t.randomExcept(b.rand, skip)
	if t.size()-len(skip) == 1 {
		return first
	}
	second := t.randomExcept(b.rand, skip)
	if second == first {
		var room [16]int
		other := append(append(room[:0], skip...), first)
		slices.Sort(other)
		second = t.randomExcept(b.rand, other)
	}
	x, y := &s.choices[t.first+first], &s.choices[t.first+second]
	if x.state.inFlight.Load()*int64(y.weight) <= y.state.inFlight.Load()*int64(x.weight) {
		return first
	}
	return second
}
