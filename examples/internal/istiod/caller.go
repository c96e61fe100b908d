package istiod

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/identity/istioca"
)

// A Caller is who a token belongs to: a service account, and for a node proxy
// the node that it runs on.
type Caller struct {
	Cluster        string
	Namespace      string
	ServiceAccount string
	Node           string // empty for what may run on any node
}

// String returns cluster/namespace/account, and @node if there is one.
func (c Caller) String() string {
	s := c.Cluster + "/" + c.Namespace + "/" + c.ServiceAccount
	if c.Node != "" {
		s += "@" + c.Node
	}
	return s
}

// nodeProxyAccount is the account of node proxies, which may ask for the
// certificates of the workloads on their node.
const (
	systemNamespace  = "istio-system"
	nodeProxyAccount = "ztunnel"
)

// NodeProxy returns the caller that is the node proxy of a node.
func NodeProxy(cluster, node string) Caller {
	return Caller{cluster, systemNamespace, nodeProxyAccount, node}
}

// Authenticate returns the Caller of a gRPC call, which must have come over
// TLS. Its errors are for the log.
func (t *Tokens) Authenticate(ctx context.Context) (Caller, error) {
	var caller Caller
	_, err := istioca.Tokens{Lookup: func(ctx context.Context, token string) (istioca.Caller, error) {
		var err error
		caller, err = t.callerOf(ctx, token)
		return istioca.Caller{}, err
	}}.Authenticate(ctx)
	return caller, err
}

// callerOf looks a token up. As in istiod, where the header clusterid says which
// cluster's API server is to review it, it is good for its own cluster only.
func (t *Tokens) callerOf(ctx context.Context, token string) (Caller, error) {
	caller, err := t.Lookup(token)
	if err != nil {
		return Caller{}, err
	}
	for _, cluster := range metadata.ValueFromIncomingContext(ctx, "clusterid") {
		if cluster != "" && cluster != caller.Cluster {
			return Caller{}, fmt.Errorf("the token of %s is presented for cluster %.100q", caller, cluster)
		}
	}
	return caller, nil
}

// claims compares what a client says about its node with who it is, as istiod
// does; and it must not be on a node that it is not on.
func (c Caller) claims(n xds.Node) error {
	parts := strings.Split(n.ID, "~")
	if len(parts) != 4 {
		return status.Errorf(codes.InvalidArgument, "node id %.100q has not four parts", n.ID)
	}
	// The name of a pod may have dots, a namespace has none.
	if namespace := parts[2][strings.LastIndexByte(parts[2], '.')+1:]; namespace != c.Namespace {
		return fmt.Errorf("the node id is of namespace %.100q, the caller is %s", namespace, c)
	}
	for _, claim := range []struct{ key, want string }{
		{"NAMESPACE", c.Namespace},
		{"SERVICE_ACCOUNT", c.ServiceAccount},
		{"CLUSTER_ID", c.Cluster},
		{"NODE_NAME", c.Node},
		{"NETWORK", ""},
	} {
		value, said := n.Metadata[claim.key]
		text, ok := value.(string)
		switch {
		case said && !ok:
			return status.Errorf(codes.InvalidArgument, "%s is not a string", claim.key)
		case text != "" && claim.want != "" && text != claim.want:
			return fmt.Errorf("%s is %.100q, the caller is %s", claim.key, text, c)
		}
	}
	return nil
}

// authorize lets a client in whose node is its own, on a network that is known:
// views take memory, so that nobody may invent any number of networks.
func (v *views) authorize(info xds.ClientInfo) error {
	caller, ok := info.Peer.(Caller)
	if !ok {
		return errors.New("no caller")
	}
	if err := caller.claims(info.Node); err != nil {
		return err
	}
	if network := networkOf(info.Node); network != "" && !v.places.Load().networks[network] {
		return status.Errorf(codes.FailedPrecondition, "no cluster, gateway or workload is on network %.100q", network)
	}
	_, err := roleOf(info.Node.ID)
	return err
}
