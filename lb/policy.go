package lb

import (
	"fmt"
	"slices"
)

// Mode is how preferences are used, numbered as WDS numbers it.
type Mode int

const (
	// Standard uses all targets. Preferences have no effect.
	Standard Mode = iota
	// Strict uses the targets that match all preferences, and no others.
	Strict
	// Failover uses the targets of the best rank, which is the number of
	// leading preferences that match.
	Failover
	// Passthrough chooses nothing: connect to the original destination. Pick
	// returns ErrPassthrough.
	Passthrough
)

// String returns the name of the constant.
func (m Mode) String() string {
	return name("Mode", int(m), "Standard", "Strict", "Failover", "Passthrough")
}

// Scope is a part of Locality that a preference compares, numbered as WDS
// numbers it. The zero value is not a Scope.
type Scope int

// The parts of a Locality.
const (
	Region Scope = iota + 1
	Zone
	Subzone
	Node
	Cluster
	Network
)

// String returns the name of the constant.
func (s Scope) String() string {
	return name("Scope", int(s), "Unspecified", "Region", "Zone", "Subzone", "Node", "Cluster", "Network")
}

// HealthPolicy says whether unhealthy targets are used, numbered as WDS
// numbers it.
type HealthPolicy int

const (
	// OnlyHealthy uses no unhealthy targets, even if there are no others.
	OnlyHealthy HealthPolicy = iota
	// AllowAll uses unhealthy targets like healthy ones.
	AllowAll
)

// String returns the name of the constant.
func (h HealthPolicy) String() string {
	return name("HealthPolicy", int(h), "OnlyHealthy", "AllowAll")
}

// A Policy says which targets are used. The zero value uses all healthy ones.
type Policy struct {
	Mode        Mode
	Preferences []Scope // most important first
	Health      HealthPolicy
}

// String returns a short form for people: Failover[Network Region Zone].
func (p Policy) String() string {
	s := p.Mode.String()
	if len(p.Preferences) > 0 {
		s += fmt.Sprint(p.Preferences)
	}
	if p.Health != OnlyHealthy {
		s += "+" + p.Health.String()
	}
	return s
}

// A PolicyError says which field of a Policy or Config has no meaning.
type PolicyError struct {
	Field string
	Value string
}

func (e *PolicyError) Error() string {
	return fmt.Sprintf("lb: %s: unknown value %s", e.Field, e.Value)
}

func (p Policy) validate() error {
	if p.Mode < Standard || p.Mode > Passthrough {
		return &PolicyError{"Policy.Mode", p.Mode.String()}
	}
	if p.Health < OnlyHealthy || p.Health > AllowAll {
		return &PolicyError{"Policy.Health", p.Health.String()}
	}
	for i, s := range p.Preferences {
		if s < Region || s > Network {
			return &PolicyError{fmt.Sprintf("Policy.Preferences[%d]", i), s.String()}
		}
	}
	return nil
}

func (p Policy) clone() Policy {
	p.Preferences = slices.Clone(p.Preferences)
	return p
}

// rank returns the rank of a target at l as seen from source, higher being
// better, and whether Strict accepts it.
func (p *Policy) rank(source, l *Locality) (rank int, strict bool) {
	if p.Mode == Standard || p.Mode == Passthrough {
		return 0, true
	}
	prefs := p.Preferences
	// ztunnel: if Network comes first, every target of the own network is
	// better than any other, and others are ranked by what follows Network.
	if len(prefs) > 0 && prefs[0] == Network {
		if l.Network != source.Network {
			return matching(prefs[1:], source, l), false
		}
		rank = len(prefs) - 1
	}
	matched := matching(prefs, source, l)
	return rank + matched, matched == len(prefs)
}

// matching counts the leading preferences for which source and l are equal.
func matching(prefs []Scope, source, l *Locality) int {
	for i, s := range prefs {
		if source.at(s) != l.at(s) {
			return i
		}
	}
	return len(prefs)
}

func (l *Locality) at(s Scope) string {
	switch s {
	case Region:
		return l.Region
	case Zone:
		return l.Zone
	case Subzone:
		return l.Subzone
	case Node:
		return l.Node
	case Cluster:
		return l.Cluster
	default:
		return l.Network
	}
}
