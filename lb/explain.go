package lb

import "time"

// Verdict is what keeps a target from being picked, if anything does.
type Verdict int

const (
	// InUse targets are in the best rank: picks go to them.
	InUse Verdict = iota
	// Standby targets are usable, but a better rank is there.
	Standby
	// WeightZero targets have weight 0.
	WeightZero
	// Drained targets have a network, cluster or gateway that is drained.
	Drained
	// NotHealthy targets are unhealthy, and the policy wants healthy ones.
	NotHealthy
	// NotMatching targets miss a preference of a Strict policy.
	NotMatching
	// Ejected targets failed too often.
	Ejected
)

// String returns the name of the constant.
func (v Verdict) String() string {
	return name("Verdict", int(v), "InUse", "Standby", "WeightZero", "Drained", "NotHealthy", "NotMatching", "Ejected")
}

// A Report says how a Balancer sees one target.
type Report[T any] struct {
	Target  Target[T]
	ID      ID
	Verdict Verdict

	// Rank by the policy, higher being better; 0 for all under Standard.
	Rank int

	// Share of the picks that it gets by weight, from 0 to 1.
	Share float64

	InFlight     int       // Picks that are not Done
	Failures     int       // in a row, if Outlier is in use
	EjectedUntil time.Time // of the last ejection; zero if there was none
}

// Explain reports on every target, in the order of Update.
func (b *Balancer[T]) Explain() []Report[T] {
	s := b.fresh()
	b.mu.Lock() // for ejections
	defer b.mu.Unlock()
	reports := make([]Report[T], len(s.entries))
	for i := range s.entries {
		e := &s.entries[i]
		reports[i] = Report[T]{
			Target:       e.target,
			ID:           e.state.id,
			Verdict:      e.verdict,
			Rank:         e.rank,
			InFlight:     int(e.state.inFlight.Load()),
			Failures:     int(e.state.failures.Load()),
			EjectedUntil: e.state.ejection.until,
		}
		if e.verdict == InUse {
			reports[i].Share = float64(e.target.Weight) / float64(s.tiers[0].total())
		}
	}
	return reports
}
