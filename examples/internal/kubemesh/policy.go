package kubemesh

import (
	"slices"

	security "istio.io/api/security/v1beta1"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// selectorPolicy is a policy that workloads name because its selector matches
// them.
type selectorPolicy struct {
	namespace string
	key       string // namespace/name
	selector  map[string]string
}

// readPolicies finds the policies of the control plane's own cluster.
func (c *converter) readPolicies() error {
	for _, p := range c.home.AuthorizationPolicies {
		if p.Spec == nil || p.Spec.Selector == nil || p.Spec.TargetRef != nil || len(p.Spec.TargetRefs) > 0 {
			continue // for a namespace, the mesh, or a waypoint
		}
		if p.Spec.Action != security.AuthorizationPolicy_ALLOW && p.Spec.Action != security.AuthorizationPolicy_DENY {
			continue
		}
		c.selectors = append(c.selectors, selectorPolicy{p.Namespace, p.Namespace + "/" + p.Name, p.Spec.Selector.MatchLabels})
	}
	return nil
}

// policiesOf returns the policies whose selector matches a workload: those of
// its namespace and of the root namespace.
func (c *converter) policiesOf(namespace string, labels map[string]string) []string {
	// In istiod no labels at all mean that selectors are not asked.
	everything := labels == nil && c.config.Compat == endpoints.Istio
	var out []string
	for _, p := range c.selectors {
		near := p.namespace == namespace || p.namespace == c.rootNamespace()
		if near && (everything || subset(p.selector, labels)) {
			out = append(out, p.key)
		}
	}
	slices.Sort(out)
	return out
}
