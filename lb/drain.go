package lb

import (
	"slices"
	"sync"
	"sync/atomic"
)

// A Drain selects targets that get no new connections. The fields that are set
// must all match. The zero Drain selects nothing.
type Drain struct {
	Network string
	Cluster string
	Gateway string
}

func (d Drain) matches(l *Locality, gateway string) bool {
	return d != Drain{} &&
		(d.Network == "" || d.Network == l.Network) &&
		(d.Cluster == "" || d.Cluster == l.Cluster) &&
		(d.Gateway == "" || d.Gateway == gateway)
}

// A DrainSet is one switch for all Balancers that share it: what is drained in
// it gets no new connections, even if nothing else is left. The zero value
// drains nothing. All methods may be called by any number of goroutines.
type DrainSet struct {
	version atomic.Uint64 // grows after each change

	mu     sync.Mutex
	drains []Drain // replaced, never changed
}

// Set makes drains all that is drained.
func (s *DrainSet) Set(drains ...Drain) {
	s.change(func([]Drain) []Drain { return slices.Clone(drains) })
}

// Add drains d too.
func (s *DrainSet) Add(d Drain) {
	s.change(func(old []Drain) []Drain {
		if slices.Contains(old, d) {
			return old
		}
		return append(slices.Clone(old), d)
	})
}

// Remove ends the drain that equals d.
func (s *DrainSet) Remove(d Drain) {
	s.change(func(old []Drain) []Drain {
		return slices.DeleteFunc(slices.Clone(old), func(o Drain) bool { return o == d })
	})
}

// List returns what is drained, in the order in which it was added.
func (s *DrainSet) List() []Drain {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.drains)
}

func (s *DrainSet) change(f func([]Drain) []Drain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drains = f(s.drains)
	s.version.Add(1)
}
