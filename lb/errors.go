package lb

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoTarget is what every *NoTargetError is.
var ErrNoTarget = errors.New("lb: no target")

// ErrPassthrough says that the policy is to connect to the original
// destination.
var ErrPassthrough = errors.New("lb: passthrough: nothing to choose")

// NoTargetReason is why there is no target, in one word.
type NoTargetReason int

const (
	// NoTargets means that there are none at all.
	NoTargets NoTargetReason = iota
	// NoneWeighted means that all have weight 0.
	NoneWeighted
	// AllDrained means that those that have a weight are drained.
	AllDrained
	// NoneHealthy means that those that are left are unhealthy.
	NoneHealthy
	// NoneMatching means that usable ones do not match all preferences (Strict).
	NoneMatching
	// AllExcluded means that the request excludes all that could be used.
	AllExcluded
)

// String returns the reason in words.
func (r NoTargetReason) String() string {
	return name("NoTargetReason", int(r), "none at all", "all have weight 0", "all are drained",
		"none is healthy", "none matches", "all are excluded")
}

// A NoTargetError says why Pick has nothing to return. Each target counts
// once, for the first thing that keeps it out.
type NoTargetError struct {
	Reason NoTargetReason
	Policy Policy

	Targets     int // all there are
	WeightZero  int
	Drained     int
	NotHealthy  int
	NotMatching int
}

func (e *NoTargetError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "lb: no target: %s (policy %s, %d targets", e.Reason, e.Policy, e.Targets)
	for _, c := range []struct {
		count int
		what  string
	}{
		{e.WeightZero, "of weight 0"},
		{e.Drained, "drained"},
		{e.NotHealthy, "unhealthy"},
		{e.NotMatching, "not matching"},
	} {
		if c.count > 0 {
			fmt.Fprintf(&b, ", %d %s", c.count, c.what)
		}
	}
	return b.String() + ")"
}

// Is reports whether target is ErrNoTarget.
func (e *NoTargetError) Is(target error) bool { return target == ErrNoTarget }

// makeErrors prepares what a Pick returns that finds nothing, so that failing
// costs no more than succeeding.
func (s *snapshot[T]) makeErrors() {
	e := NoTargetError{Policy: s.policy, Targets: len(s.entries)}
	for i := range s.entries {
		switch s.entries[i].verdict {
		case WeightZero:
			e.WeightZero++
		case Drained:
			e.Drained++
		case NotHealthy:
			e.NotHealthy++
		case NotMatching:
			e.NotMatching++
		}
	}
	excluded := e
	excluded.Reason = AllExcluded
	s.excludedErr = &excluded
	switch {
	case s.policy.Mode == Passthrough:
		s.err = ErrPassthrough
		return
	case len(s.tiers) > 0:
		return
	case e.NotMatching > 0:
		e.Reason = NoneMatching
	case e.NotHealthy > 0:
		e.Reason = NoneHealthy
	case e.Drained > 0:
		e.Reason = AllDrained
	case e.WeightZero > 0:
		e.Reason = NoneWeighted
	}
	s.err = &e
}
