package kubemesh

import (
	"errors"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/identity/authz"
)

// readPolicies converts the policies of the control plane's own cluster, which
// select workloads of every cluster.
func (c *converter) readPolicies() error {
	var resources authz.Resources
	objects := make(map[string]metav1.Object) // by what authz calls them
	var errs []error
	read := func(kind string, o metav1.Object) {
		objects[kind+" "+o.GetNamespace()+"/"+o.GetName()] = o
		errs = append(errs, c.policyError(o, resources.Parse(c.home.Name, c.home.JSON(o))))
	}
	for _, p := range c.home.AuthorizationPolicies {
		read("AuthorizationPolicy", p)
	}
	for _, p := range c.home.PeerAuthentications {
		read("PeerAuthentication", p)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.policies = resources.Convert(c.rootNamespace())
	if c.isHome {
		c.tellPolicies(objects)
	}
	return nil
}

// tellPolicies puts the policies into the facts, and what authz says of them.
func (c *converter) tellPolicies(objects map[string]metav1.Object) {
	for i := range c.policies.Policies {
		c.facts.Policies = append(c.facts.Policies, authorization(&c.policies.Policies[i]))
	}
	for _, w := range c.policies.Warnings {
		position := kubefile.Position{File: w.File}
		if o := objects[w.Object]; o != nil {
			position = c.home.Position(o)
		}
		c.facts.Warnings = append(c.facts.Warnings, Warning{Position: position, Object: w.Object, Problem: w.Message})
	}
	for _, p := range c.home.AuthorizationPolicies {
		if p.Spec != nil && (p.Spec.TargetRef != nil || len(p.Spec.TargetRefs) > 0) {
			c.warn("AuthorizationPolicy", p, "has targetRefs: it is for waypoints, and node proxies do not get it")
		}
	}
}

// policyError finds the lines of a policy's errors: authz was given JSON.
func (c *converter) policyError(o metav1.Object, err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, c.policyError(o, e))
		}
		return errors.Join(all...)
	}
	policy := new(authz.Error)
	if !errors.As(err, &policy) {
		return err
	}
	return &kubefile.Error{Position: c.home.Locate(o, policy.Field), Object: policy.Object, Field: policy.Field, Err: policy.Err}
}

// policiesOf returns the policies that select a workload.
func (c *converter) policiesOf(namespace string, labels map[string]string) []string {
	out := c.policies.PoliciesFor(namespace, labels)
	if c.config.Compat != endpoints.Istio {
		return out
	}
	if labels == nil { // then istiod asks no selector
		out = slices.DeleteFunc(out, func(key string) bool { return !madeOfPeerAuthentication(key) })
		for i := range c.policies.Policies {
			p := &c.policies.Policies[i]
			near := p.Namespace == namespace || p.Namespace == c.rootNamespace()
			if near && p.Scope == authz.ScopeWorkload && !madeOfPeerAuthentication(p.Key()) {
				out = append(out, p.Key())
			}
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { // AuthorizationPolicies come first
		switch x, y := madeOfPeerAuthentication(a), madeOfPeerAuthentication(b); {
		case x == y:
			return strings.Compare(a, b)
		case x:
			return 1
		}
		return -1
	})
	return out
}

// madeOfPeerAuthentication tells by the underscore, which no object's name has.
func madeOfPeerAuthentication(key string) bool { return strings.Contains(key, "_") }

// authorization converts a policy to what is sent to node proxies.
func authorization(p *authz.Policy) *wds.Authorization {
	out := &wds.Authorization{
		Name: p.Name, Namespace: p.Namespace, DryRun: p.DryRun,
		Scope: wds.PolicyScope(p.Scope), Action: wds.PolicyAction(p.Action), // both have Istio's numbers
	}
	for _, group := range p.Groups {
		var rules []wds.Rule
		for _, rule := range group.Rules {
			var matches []wds.Match
			for i := range rule.Matches {
				matches = append(matches, match(&rule.Matches[i]))
			}
			rules = append(rules, wds.Rule{Matches: matches})
		}
		out.Groups = append(out.Groups, wds.Group{Rules: rules})
	}
	return out
}

func match(m *authz.Match) wds.Match {
	return wds.Match{
		Namespaces: stringMatches(m.Namespaces), NotNamespaces: stringMatches(m.NotNamespaces),
		ServiceAccounts: accounts(m.ServiceAccounts), NotServiceAccounts: accounts(m.NotServiceAccounts),
		Principals: stringMatches(m.Principals), NotPrincipals: stringMatches(m.NotPrincipals),
		SourceIPs: m.SourceIPs, NotSourceIPs: m.NotSourceIPs,
		DestinationIPs: m.DestinationIPs, NotDestinationIPs: m.NotDestinationIPs,
		DestinationPorts: m.DestinationPorts, NotDestinationPorts: m.NotDestinationPorts,
	}
}

func stringMatches(all []authz.StringMatch) (out []wds.StringMatch) {
	for _, m := range all {
		kind := map[authz.MatchKind]wds.StringMatchKind{
			authz.MatchExact: wds.MatchExact, authz.MatchPrefix: wds.MatchPrefix,
			authz.MatchSuffix: wds.MatchSuffix, authz.MatchPresence: wds.MatchPresence,
		}[m.Kind]
		out = append(out, wds.StringMatch{Kind: kind, Value: m.Value})
	}
	return out
}

func accounts(all []authz.ServiceAccount) (out []wds.ServiceAccount) {
	for _, a := range all {
		out = append(out, wds.ServiceAccount{Namespace: a.Namespace, Name: a.Name})
	}
	return out
}
