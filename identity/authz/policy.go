package authz

import (
	"fmt"
	"net/netip"
)

// A Policy allows or denies connections. Its fields are those of Istio's
// istio.security.Authorization.
type Policy struct {
	Namespace string
	Name      string
	Scope     Scope
	Action    Action
	DryRun    bool    // reported, not enforced
	Groups    []Group // any of them must match; none matches nothing
}

// Key returns "namespace/name", by which workloads name policies.
func (p *Policy) Key() string { return p.Namespace + "/" + p.Name }

// A Group is a set of rules that must all match; an empty one matches.
type Group struct {
	Rules []Rule
}

// A Rule is a set of matches of which one must match; an empty one matches.
type Rule struct {
	Matches []Match
}

// A Match is a condition on a connection. An empty one matches nothing.
type Match struct {
	Namespaces, NotNamespaces             []StringMatch // of the peer
	ServiceAccounts, NotServiceAccounts   []ServiceAccount
	Principals, NotPrincipals             []StringMatch // SPIFFE IDs without spiffe://
	SourceIPs, NotSourceIPs               []netip.Prefix
	DestinationIPs, NotDestinationIPs     []netip.Prefix
	DestinationPorts, NotDestinationPorts []uint16
}

func (m *Match) empty() bool {
	return len(m.Namespaces) == 0 && len(m.NotNamespaces) == 0 &&
		len(m.ServiceAccounts) == 0 && len(m.NotServiceAccounts) == 0 &&
		len(m.Principals) == 0 && len(m.NotPrincipals) == 0 &&
		len(m.SourceIPs) == 0 && len(m.NotSourceIPs) == 0 &&
		len(m.DestinationIPs) == 0 && len(m.NotDestinationIPs) == 0 &&
		len(m.DestinationPorts) == 0 && len(m.NotDestinationPorts) == 0
}

// A ServiceAccount is a namespaced service account, in any trust domain.
type ServiceAccount struct {
	Namespace, Name string
}

// A StringMatch matches a string.
type StringMatch struct {
	Kind  MatchKind
	Value string // of no meaning with MatchPresence
}

// MatchKind is how a StringMatch compares.
type MatchKind uint8

// The kinds of StringMatch.
const (
	MatchExact    MatchKind = iota
	MatchPrefix             // begins with Value
	MatchSuffix             // ends with Value
	MatchPresence           // is not empty
)

// String writes the match as in an AuthorizationPolicy.
func (m StringMatch) String() string {
	switch m.Kind {
	case MatchPrefix:
		return m.Value + "*"
	case MatchSuffix:
		return "*" + m.Value
	case MatchPresence:
		return "*"
	default:
		return m.Value
	}
}

// Scope says which workloads a policy applies to.
type Scope uint8

// The scopes, with Istio's numbers.
const (
	ScopeGlobal    Scope = iota // every workload
	ScopeNamespace              // every workload of the policy's namespace
	ScopeWorkload               // the workloads that name the policy
)

// String returns GLOBAL, NAMESPACE or WORKLOAD_SELECTOR.
func (s Scope) String() string {
	names := [...]string{"GLOBAL", "NAMESPACE", "WORKLOAD_SELECTOR"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("Scope(%d)", uint8(s))
}

// Action is what a policy does with connections that match.
type Action uint8

// The actions, with Istio's numbers.
const (
	Allow Action = iota
	Deny
)

// String returns ALLOW or DENY.
func (a Action) String() string {
	switch a {
	case Allow:
		return "ALLOW"
	case Deny:
		return "DENY"
	default:
		return fmt.Sprintf("Action(%d)", uint8(a))
	}
}
