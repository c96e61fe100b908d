package wds

import (
	"net/netip"
	"strconv"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// Authorization is an L4 authorization policy as it is sent to node proxies.
//
// A policy matches if any of its Groups does, a Group if all of its Rules do, a Rule if any of its Matches
// does, and a Match if all of its fields that are not empty do, each by any of its values. A Group without
// Rules always matches; an empty Match never does.
type Authorization struct {
	Name       string
	Namespace  string
	Scope      PolicyScope
	Action     PolicyAction
	Groups     []Group
	DryRun     bool
	Extensions []endpoints.Extension
	Unknown    []byte // fields of a newer peer outside of Groups, encoded; kept as they are
}

// ResourceName returns "namespace/name".
func (a *Authorization) ResourceName() string { return a.Namespace + "/" + a.Name }

// A Group is a set of rules that must all match.
type Group struct {
	Rules []Rule
}

// A Rule is a set of matches of which one must match.
type Rule struct {
	Matches []Match
}

// A Match is a condition on a connection.
type Match struct {
	Namespaces, NotNamespaces             []StringMatch
	ServiceAccounts, NotServiceAccounts   []ServiceAccount
	Principals, NotPrincipals             []StringMatch // SPIFFE IDs without spiffe://
	SourceIPs, NotSourceIPs               []netip.Prefix
	DestinationIPs, NotDestinationIPs     []netip.Prefix
	DestinationPorts, NotDestinationPorts []uint16

	// Extensions can be conditions as well. Whoever enforces the policy and does not know one of them has to
	// refuse the policy: without it the match could hold where it must not.
	Extensions []endpoints.Extension
}

// A StringMatch matches a string.
type StringMatch struct {
	Kind  StringMatchKind
	Value string // of no meaning with MatchPresence
}

// A ServiceAccount is a namespaced service account.
type ServiceAccount struct {
	Namespace, Name string
}

// StringMatchKind is how a StringMatch compares.
type StringMatchKind uint8

// The ways to match a string.
const (
	MatchExact    StringMatchKind = iota
	MatchPrefix                   // begins with Value
	MatchSuffix                   // ends with Value
	MatchPresence                 // is not empty
)

// String returns exact, prefix, suffix or presence.
func (k StringMatchKind) String() string {
	return enumName("StringMatchKind", int(k), "exact", "prefix", "suffix", "presence")
}

// PolicyScope says what a policy applies to.
type PolicyScope uint8

// The scopes of a policy.
const (
	ScopeGlobal    PolicyScope = iota // every workload
	ScopeNamespace                    // every workload of the policy's namespace
	ScopeWorkload                     // workloads that name the policy
)

// String returns GLOBAL, NAMESPACE or WORKLOAD_SELECTOR.
func (s PolicyScope) String() string {
	return enumName("PolicyScope", int(s), "GLOBAL", "NAMESPACE", "WORKLOAD_SELECTOR")
}

// PolicyAction says what happens when a policy matches.
type PolicyAction uint8

// The actions of a policy.
const (
	ActionAllow PolicyAction = iota
	ActionDeny
)

// String returns ALLOW or DENY.
func (a PolicyAction) String() string { return enumName("PolicyAction", int(a), "ALLOW", "DENY") }

func enumName(kind string, v int, names ...string) string {
	if v < len(names) {
		return names[v]
	}
	return kind + "(" + strconv.Itoa(v) + ")"
}
