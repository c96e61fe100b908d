package istiod

import (
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
	"github.com/eastwest-mesh/eastwest/scope"
)

// bothSides makes a service global if all of its evaluators do.
type bothSides []*scope.Matcher

// Evaluate implements kubemesh.ScopeEvaluator.
func (b bothSides) Evaluate(o scope.Object) scope.Scope {
	result := scope.Global
	for _, m := range b {
		result = result.And(m.Evaluate(o))
	}
	return result
}

// exportedAndAccepted reads the MeshConfig of the cluster that has a service
// and of the cluster that is to see it. One without a MeshConfig counts as if
// it had Istio's default: what is labelled istio.io/global=true is global.
func exportedAndAccepted(exporter, accepter *kubefile.Snapshot) (bothSides, error) {
	exports, err := kubemesh.Scopes(exporter, scope.Options{})
	if err != nil || exporter == accepter {
		return bothSides{exports}, err
	}
	accepts, err := kubemesh.Scopes(accepter, scope.Options{})
	return bothSides{exports, accepts}, err
}
