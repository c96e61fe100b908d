package istiod

import (
	"context"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/identity/istioca"
)

// newCA serves the Authority to those that the Tokens know. A node proxy gets
// the certificates of the workloads that run on its node, and no others.
func newCA(cfg Config, clusters *clusters) (*istioca.Server, error) {
	td := cfg.Authority.TrustDomain()
	proxies, err := identity.WorkloadID(td, systemNamespace, nodeProxyAccount)
	if err != nil {
		return nil, err
	}
	return istioca.NewServer(istioca.ServerConfig{
		CA:            cfg.Authority,
		Authenticator: istioca.Tokens{Lookup: cfg.Tokens.workload(td)},
		TrustedNodes:  identity.Peers{IDs: []spiffeid.ID{proxies}},
		Nodes:         clusters,
		Logger:        cfg.Logger,
	})
}

// workload returns a lookup of tokens for the CA: as which workload of a trust
// domain a caller is certified.
func (t *Tokens) workload(td spiffeid.TrustDomain) func(context.Context, string) (istioca.Caller, error) {
	return func(ctx context.Context, token string) (istioca.Caller, error) {
		caller, err := t.callerOf(ctx, token)
		if err != nil {
			return istioca.Caller{}, err
		}
		id, err := identity.WorkloadID(td, caller.Namespace, caller.ServiceAccount)
		return istioca.Caller{ID: id, Node: caller.Node, ClusterID: caller.Cluster}, err
	}
}

// RunsOn implements istioca.Nodes.
func (c *clusters) RunsOn(_ context.Context, caller istioca.Caller, id spiffeid.ID) (bool, error) {
	return c.places.Load().identities[placement{caller.ClusterID, caller.Node, id.String()}], nil
}
