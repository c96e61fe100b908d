package scope

import "fmt"

// Reason is why a service has its scope.
type Reason int

const (
	// NoEntry means that no GLOBAL entry matches it, and Local is the default.
	NoEntry Reason = iota
	// NamespaceUnknown means that the labels of its namespace are not known.
	NamespaceUnknown
	// GlobalEntry means that a GLOBAL entry matches it.
	GlobalEntry
	// LocalEntry means that a LOCAL entry overrides a GLOBAL one (LocalWins).
	LocalEntry
	// ClusterLocalHost means that its host is cluster-local by
	// serviceSettings or by default, which overrides a GLOBAL entry
	// (LocalWins).
	ClusterLocalHost
)

// String returns the name of the constant.
func (r Reason) String() string {
	names := [...]string{"NoEntry", "NamespaceUnknown", "GlobalEntry", "LocalEntry", "ClusterLocalHost"}
	if r < 0 || int(r) >= len(names) {
		return fmt.Sprintf("Reason(%d)", int(r))
	}
	return names[r]
}

// An Explanation says why an object has its scope.
type Explanation struct {
	Scope  Scope
	Reason Reason

	// Entry is the index of the entry that decided, -1 if none did.
	Entry int

	// Line of the entry or serviceSetting that decided; 0 if none did, or if
	// it was not parsed.
	Line int

	// Host is the host rule that decided, for ClusterLocalHost.
	Host string

	// Steps has one item per entry, in order.
	Steps []Step
}

// A Step tells how one entry relates to an object.
type Step struct {
	Entry            int // index
	Line             int // 0 if not parsed
	Scope            Scope
	NamespaceMatches bool // false too if the namespace is not known
	ServiceMatches   bool
}

// Matches reports whether the entry applies to the object.
func (s Step) Matches() bool { return s.NamespaceMatches && s.ServiceMatches }

// String returns one sentence for people.
func (e Explanation) String() string {
	switch e.Reason {
	case NamespaceUnknown:
		return e.Scope.String() + ": its namespace is not known"
	case GlobalEntry:
		return fmt.Sprintf("%v: serviceScopeConfigs[%d]%s matches", e.Scope, e.Entry, atLine(e.Line))
	case LocalEntry:
		return fmt.Sprintf("%v: serviceScopeConfigs[%d]%s matches, and LOCAL wins", e.Scope, e.Entry, atLine(e.Line))
	case ClusterLocalHost:
		return fmt.Sprintf("%v: host rule %s%s makes it cluster-local", e.Scope, e.Host, atLine(e.Line))
	}
	return e.Scope.String() + ": no GLOBAL entry matches"
}

func atLine(line int) string {
	if line == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d)", line)
}

// Explain evaluates o and says why. Its Scope is always that of Evaluate.
func (m *Matcher) Explain(o Object) Explanation {
	ex := m.decide(o)
	for i, e := range m.entries {
		ex.Steps = append(ex.Steps, Step{
			Entry:            i,
			Line:             e.line,
			Scope:            e.scope,
			NamespaceMatches: o.NamespaceKnown && matches(e.namespace, o.NamespaceLabels),
			ServiceMatches:   matches(e.services, o.Labels),
		})
	}
	return ex
}

// decide takes the same way as Evaluate and notes what decided.
func (m *Matcher) decide(o Object) Explanation {
	if !o.NamespaceKnown {
		return Explanation{Reason: NamespaceUnknown, Entry: -1}
	}
	global := m.first(Global, o)
	if global < 0 {
		return Explanation{Reason: NoEntry, Entry: -1}
	}
	if m.precedence == LocalWins {
		if i := m.first(Local, o); i >= 0 {
			return Explanation{Reason: LocalEntry, Entry: i, Line: m.entries[i].line}
		}
		if rule, _ := m.hosts.lookup(m.host(o)); rule.clusterLocal {
			return Explanation{Reason: ClusterLocalHost, Entry: -1, Line: rule.line, Host: rule.host}
		}
	}
	return Explanation{Scope: Global, Reason: GlobalEntry, Entry: global, Line: m.entries[global].line}
}
