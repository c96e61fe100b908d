package istioca

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/metadata"

	"github.com/eastwest-mesh/eastwest/identity"
)

// DefaultAudience is what Istio's proxies ask to have in their tokens.
const DefaultAudience = "istio-ca"

// A TokenReviewer asks the API server of one cluster whose token it is
// (authentication.k8s.io/v1 TokenReview). It is safe for concurrent use.
type TokenReviewer interface {
	// Review returns the status of a TokenReview. An error means that there is
	// no answer, not that the token is bad.
	Review(ctx context.Context, token string, audiences []string) (TokenReview, error)
}

// A TokenReview is the status of Kubernetes' object of that name.
type TokenReview struct {
	Authenticated bool
	Error         string
	Username      string              // of a service account: system:serviceaccount:NAMESPACE:NAME
	Groups        []string            // of a service account: with system:serviceaccounts
	Extra         map[string][]string // names the pod and the node that the token is bound to
	Audiences     []string            // of those asked for, the ones that the token is for
}

// A Pod is what a token may be bound to.
type Pod struct {
	Namespace, Name, UID string
}

// TokenReviews authenticates by tokens of Kubernetes' service accounts, which
// the API server of the caller's cluster reviews.
type TokenReviews struct {
	// TrustDomain is that of the callers' identities, whatever cluster they are
	// in. Required.
	TrustDomain spiffeid.TrustDomain

	// Reviewer returns who reviews the tokens of a cluster. The name is that in
	// the request's header clusterid, which is the caller's word: a cluster
	// that is not known must be an error. Empty if there is no such header:
	// the cluster that the CA runs in. Required.
	Reviewer func(clusterID string) (TokenReviewer, error)

	// Audiences are those of which a token must be for one. If empty, istio-ca.
	Audiences []string

	// Node returns where a pod runs, if the token does not say (before
	// Kubernetes 1.30). It must check the UID: the name may be another pod's by
	// now. An error refuses the caller. If nil, such callers cannot impersonate.
	Node func(ctx context.Context, clusterID string, pod Pod) (string, error)
}

// Keys of TokenReview.Extra.
const (
	extraPodName  = "authentication.kubernetes.io/pod-name"
	extraPodUID   = "authentication.kubernetes.io/pod-uid"
	extraNodeName = "authentication.kubernetes.io/node-name"
)

const (
	accountPrefix = "system:serviceaccount:"
	accountGroup  = "system:serviceaccounts"
)

// Authenticate implements Authenticator.
func (a TokenReviews) Authenticate(ctx context.Context) (Caller, error) {
	token, err := bearerToken(ctx)
	if err != nil {
		return Caller{}, fmt.Errorf("service account token: %w", err)
	}
	clusters := metadata.ValueFromIncomingContext(ctx, headerCluster)
	if len(clusters) > 1 {
		return Caller{}, fmt.Errorf("service account token: %d headers %s, want one at most", len(clusters), headerCluster)
	}
	cluster := strings.Join(clusters, "")
	caller, err := a.review(ctx, token, cluster)
	if err != nil {
		return Caller{}, fmt.Errorf("service account token of cluster %.100q: %w", cluster, err)
	}
	return caller, nil
}

func (a TokenReviews) review(ctx context.Context, token, cluster string) (Caller, error) {
	reviewer, err := a.Reviewer(cluster)
	if err != nil {
		return Caller{}, err
	}
	audiences := a.Audiences
	if len(audiences) == 0 {
		audiences = []string{DefaultAudience}
	}
	review, err := reviewer.Review(ctx, token, audiences)
	if err != nil {
		return Caller{}, fmt.Errorf("no review: %w", err)
	}
	namespace, account, err := review.account(audiences)
	if err != nil {
		return Caller{}, err
	}
	id, err := identity.WorkloadID(a.TrustDomain, namespace, account)
	if err != nil {
		return Caller{}, err
	}
	node, err := a.node(ctx, cluster, namespace, review)
	if err != nil {
		return Caller{}, fmt.Errorf("node of %s: %w", id, err)
	}
	return Caller{ID: id, Node: node, ClusterID: cluster}, nil
}

// account returns whose token it is, if it is good for one of the audiences.
func (r TokenReview) account(audiences []string) (namespace, account string, err error) {
	switch {
	case r.Error != "":
		return "", "", fmt.Errorf("refused: %s", r.Error)
	case !r.Authenticated:
		return "", "", errors.New("refused")
	case !slices.ContainsFunc(r.Audiences, func(one string) bool { return slices.Contains(audiences, one) }):
		// An API server that knows no audiences leaves them out, and has not
		// checked them.
		return "", "", fmt.Errorf("it is for %q, not for %q", r.Audiences, audiences)
	case !slices.Contains(r.Groups, accountGroup):
		return "", "", fmt.Errorf("%q is not a service account", r.Username)
	}
	name, ok := strings.CutPrefix(r.Username, accountPrefix)
	namespace, account, both := strings.Cut(name, ":")
	if !ok || !both || namespace == "" || account == "" || strings.Contains(account, ":") {
		return "", "", fmt.Errorf("%q is not a service account", r.Username)
	}
	return namespace, account, nil
}

// node returns where the pod runs that the token is bound to, "" if that is not
// known.
func (a TokenReviews) node(ctx context.Context, cluster, namespace string, r TokenReview) (string, error) {
	pod := Pod{Namespace: namespace, Name: r.extra(extraPodName), UID: r.extra(extraPodUID)}
	if pod.Name == "" || pod.UID == "" {
		return "", nil // not bound to a pod
	}
	if node := r.extra(extraNodeName); node != "" || a.Node == nil {
		return node, nil
	}
	return a.Node(ctx, cluster, pod)
}

// extra returns a value of which there is one.
func (r TokenReview) extra(key string) string {
	if values := r.Extra[key]; len(values) == 1 {
		return values[0]
	}
	return ""
}
