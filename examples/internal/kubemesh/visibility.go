package kubemesh

import (
	"fmt"

	meshconfig "istio.io/api/mesh/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// serviceEntryVisibility returns what the MeshConfig says for ServiceEntries
// of a namespace: the first policy whose rules all match decides. newConverter
// has checked that all selectors can be read.
func serviceEntryVisibility(config *meshconfig.ServiceEntryVisibility, namespace map[string]string) meshconfig.ServiceEntryVisibility_Visibility {
	for _, policy := range config.GetPolicies() {
		if visibilityMatches(policy, namespace) {
			return policy.Visibility
		}
	}
	return config.GetDefaultVisibility()
}

func visibilityMatches(policy *meshconfig.ServiceEntryVisibility_Policy, namespace map[string]string) bool {
	for _, rule := range policy.MatchingRules {
		selector, err := meshSelector(rule.GetNamespaceSelector())
		if err != nil || !selector.Matches(labels.Set(namespace)) {
			return false
		}
	}
	return true
}

// checkVisibility reports a selector that cannot be read.
func checkVisibility(config *meshconfig.ServiceEntryVisibility) error {
	for i, policy := range config.GetPolicies() {
		for j, rule := range policy.MatchingRules {
			if _, err := meshSelector(rule.GetNamespaceSelector()); err != nil {
				return fmt.Errorf("serviceEntryVisibility.policies[%d].matchingRules[%d].namespaceSelector: %w", i, j, err)
			}
		}
	}
	return nil
}

// meshSelector reads a selector of the MeshConfig: nil matches nothing, an
// empty one everything.
func meshSelector(s *meshconfig.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Nothing(), nil
	}
	out := &metav1.LabelSelector{MatchLabels: s.MatchLabels}
	for _, r := range s.MatchExpressions {
		out.MatchExpressions = append(out.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: r.Key, Operator: metav1.LabelSelectorOperator(r.Operator), Values: r.Values,
		})
	}
	return metav1.LabelSelectorAsSelector(out)
}
