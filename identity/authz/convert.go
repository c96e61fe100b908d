package authz

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// DefaultRootNamespace is where Istio looks for mesh-wide policies.
const DefaultRootNamespace = "istio-system"

// Converted is what a control plane serves for Resources: the policies, and for
// each workload the names of those that select it. It is immutable.
type Converted struct {
	Policies []Policy // sorted by key
	Warnings []Warning

	root     string
	selected []selected
	strict   map[string]mode // effective mode of the mesh ("") and of namespaces
	peers    []peerAuthentication
}

// selected is a policy with a workload selector.
type selected struct {
	namespace, key string
	labels         map[string]string
}

// Convert makes the policies for a mesh with that root namespace ("" means
// istio-system), as istiod does for ztunnel:
//
//   - An AuthorizationPolicy without selector is NAMESPACE, in the root namespace
//     GLOBAL. One with targetRefs is for waypoints and left out.
//   - CUSTOM and AUDIT are left out, with a warning.
//   - In an ALLOW policy, a rule with HTTP attributes is left out: it allows
//     nothing. In a DENY policy only the attributes are left out, so that it
//     denies more. Both with a warning.
//   - PeerAuthentications become DENY policies for peers without identity.
//
// Where istiod is less strict than its documentation, we follow the latter: in
// a DENY policy, conditions that are only about HTTP hold always (istiod sends
// ztunnel an empty match, which never holds); an empty selector selects the
// whole namespace (istiod: nothing); a port with mode DISABLE counts as
// PERMISSIVE everywhere; a STRICT port of a workload that is PERMISSIVE is
// enforced also if the mesh is STRICT.
func (r *Resources) Convert(rootNamespace string) *Converted {
	c := &Converted{root: rootNamespace, Warnings: slices.Clone(r.others)}
	if c.root == "" {
		c.root = DefaultRootNamespace
	}
	for i := range r.policies {
		c.authorizationPolicy(&r.policies[i])
	}
	c.peerAuthentications(r.peers)
	slices.SortFunc(c.Policies, func(a, b Policy) int { return strings.Compare(a.Key(), b.Key()) })
	slices.SortFunc(c.selected, func(a, b selected) int { return strings.Compare(a.key, b.key) })
	return c
}

// PoliciesFor returns the names of the policies that select a workload, sorted.
// They are what the workload's authorization_policies lists in WDS: policies of
// GLOBAL and NAMESPACE scope apply without being named.
func (c *Converted) PoliciesFor(namespace string, labels map[string]string) []string {
	var keys []string
	for _, s := range c.selected {
		if (s.namespace == namespace || s.namespace == c.root) && selects(s.labels, labels) {
			keys = append(keys, s.key)
		}
	}
	if key := c.peerPolicy(namespace, labels); key != "" {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

func (c *Converted) warn(m *meta, format string, args ...any) {
	c.Warnings = append(c.Warnings, Warning{File: m.file, Line: m.line, Object: m.object(), Message: fmt.Sprintf(format, args...)})
}

func (c *Converted) authorizationPolicy(p *authorizationPolicy) {
	if p.target {
		return
	}
	if p.action != "ALLOW" && p.action != "DENY" {
		c.warn(&p.meta, "the action %s is not supported at layer 4: it is left out", p.action)
		return
	}
	out := Policy{Namespace: p.namespace, Name: p.name, Scope: ScopeNamespace, DryRun: p.dryRun}
	if p.action == "DENY" {
		out.Action = Deny
	}
	switch {
	case len(p.selector) > 0:
		out.Scope = ScopeWorkload
		c.selected = append(c.selected, selected{p.namespace, out.Key(), p.selector})
	case p.namespace == c.root:
		out.Scope = ScopeGlobal
	}
	http := make(map[string]bool)
	for i := range p.rules {
		r := &p.rules[i]
		for _, name := range r.http {
			http[name] = true
		}
		if len(r.http) == 0 || out.Action == Deny {
			out.Groups = append(out.Groups, r.group())
		}
	}
	c.Policies = append(c.Policies, out)
	c.warnHTTP(p, http)
}

func (c *Converted) warnHTTP(p *authorizationPolicy, http map[string]bool) {
	if len(http) == 0 {
		return
	}
	names := strings.Join(slices.Sorted(maps.Keys(http)), ", ")
	if p.action == "DENY" {
		c.warn(&p.meta, "HTTP attributes (%s) need a waypoint: they are ignored, so that more is denied than is written", names)
		return
	}
	c.warn(&p.meta, "HTTP attributes (%s) need a waypoint: rules with them are left out, so that less is allowed than is written", names)
}

// group converts a rule; HTTP attributes are ignored. If nothing is left of one
// match of a clause, the whole clause holds always.
func (r *policyRule) group() Group {
	var g Group
	for _, c := range r.clauses {
		if slices.ContainsFunc(c, func(m attributed) bool { return m.http && m.empty() }) {
			continue
		}
		var rule Rule
		for _, m := range c {
			rule.Matches = append(rule.Matches, m.Match)
		}
		g.Rules = append(g.Rules, rule)
	}
	return g
}
