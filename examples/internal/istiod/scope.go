package istiod

import (
	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
	"github.com/eastwest-mesh/eastwest/scope"
)

// scopes says who sees what of each other: a service of a cluster is seen in
// another one if the first exports it and the second accepts it. istiod asks
// its own cluster only.
type scopes struct {
	matchers map[string]*scope.Matcher // by cluster
	home     string
	compat   endpoints.Compat
}

// readScopes reads the MeshConfigs. A cluster without one counts as if it had
// Istio's default: what is labelled istio.io/global=true is global.
func (c *clusters) readScopes(snapshots map[string]*kubefile.Snapshot) (scopes, error) {
	s := scopes{matchers: map[string]*scope.Matcher{}, home: c.cfg.Cluster, compat: c.cfg.Compat}
	for name, snapshot := range snapshots {
		m, err := kubemesh.Scopes(snapshot, scope.Options{})
		if err != nil {
			return s, err
		}
		s.matchers[name] = m
	}
	return s, nil
}

// exports decides for a cluster's own services.
func (s scopes) exports(cluster string) kubemesh.ScopeEvaluator {
	if s.compat == endpoints.Istio {
		return s.matchers[s.home]
	}
	return s.matchers[cluster]
}

// accepts decides for those of a cluster elsewhere.
func (s scopes) accepts(from string) map[string]kubemesh.ScopeEvaluator {
	all := map[string]kubemesh.ScopeEvaluator{}
	for cluster, m := range s.matchers {
		if cluster != from && s.compat == endpoints.Native {
			all[cluster] = m
		}
	}
	return all
}
