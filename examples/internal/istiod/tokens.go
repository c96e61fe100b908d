package istiod

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
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

// nodeProxy is the account of node proxies, which may ask for the certificates
// of the workloads on their node.
const (
	systemNamespace  = "istio-system"
	nodeProxyAccount = "ztunnel"
)

// NodeProxy returns the caller that is the node proxy of a node.
func NodeProxy(cluster, node string) Caller {
	return Caller{cluster, systemNamespace, nodeProxyAccount, node}
}

// Tokens are the bearer tokens of a mesh that has no API server to issue and
// review them. All methods may be called concurrently.
type Tokens struct {
	dir string

	mu      sync.Mutex
	tokens  map[Caller]string
	callers map[[sha256.Size]byte]Caller // by the hash of the token
}

// OpenTokens keeps the tokens in a directory, one file each, which only its
// owner may read. An empty dir keeps them in memory.
func OpenTokens(dir string) (*Tokens, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("istiod: tokens: %w", err)
		}
	}
	return &Tokens{dir: dir, tokens: map[Caller]string{}, callers: map[[sha256.Size]byte]Caller{}}, nil
}

// Path returns the file of a caller's token.
func (t *Tokens) Path(c Caller) string {
	name := c.Cluster + "." + c.Namespace + "." + c.ServiceAccount
	if c.Node != "" {
		name += "." + c.Node
	}
	return filepath.Join(t.dir, name)
}

// Issue returns the token of a caller, and makes one if there is none.
func (t *Tokens) Issue(c Caller) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if token := t.tokens[c]; token != "" {
		return token, nil
	}
	token, err := t.readOrMake(c)
	if err != nil {
		return "", fmt.Errorf("istiod: token of %s: %w", c, err)
	}
	t.tokens[c] = token
	t.callers[sha256.Sum256([]byte(token))] = c
	return token, nil
}

func (t *Tokens) readOrMake(c Caller) (string, error) {
	if strings.ContainsAny(c.Cluster+c.Namespace+c.ServiceAccount+c.Node, "/\\\x00") {
		return "", errors.New("a name with a slash")
	}
	random := make([]byte, 32)
	rand.Read(random)
	token := base64.RawURLEncoding.EncodeToString(random)
	if t.dir == "" {
		return token, nil
	}
	// Of two control planes that share the directory, one makes the file.
	f, err := os.OpenFile(t.Path(c), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		data, err := os.ReadFile(t.Path(c))
		if err == nil && len(data) < len(token) {
			err = errors.New("the file is not whole")
		}
		return strings.TrimSpace(string(data)), err
	}
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(token)
	return token, errors.Join(err, f.Close())
}

// ErrToken says that nobody has a token.
var ErrToken = errors.New("istiod: the token is not known")

// Lookup returns whose token it is. Looking up its hash tells nothing about
// other tokens by the time that it takes.
func (t *Tokens) Lookup(token string) (Caller, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	caller, ok := t.callers[sha256.Sum256([]byte(token))]
	if !ok {
		return Caller{}, ErrToken
	}
	return caller, nil
}

// Authenticate returns the Caller of a gRPC call. Its errors are gRPC status
// errors that say no more than that.
func (t *Tokens) Authenticate(ctx context.Context) (Caller, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, value := range md.Get("authorization") {
		if token, ok := strings.CutPrefix(value, "Bearer "); ok {
			if caller, err := t.Lookup(token); err == nil {
				return caller, nil
			}
		}
	}
	return Caller{}, status.Error(codes.Unauthenticated, "no valid token")
}

// issueTokens makes the tokens of a cluster's node proxies and gateways.
func (c *clusters) issueTokens(facts *kubemesh.Facts, snapshot *kubefile.Snapshot) error {
	cluster := facts.Cluster.ID
	for _, node := range snapshot.Nodes {
		if _, err := c.cfg.Tokens.Issue(NodeProxy(cluster, node.Name)); err != nil {
			return err
		}
	}
	for _, g := range facts.Gateways {
		account := g.ServiceAccount
		if account == "" {
			account = g.Name
		}
		if _, err := c.cfg.Tokens.Issue(Caller{Cluster: cluster, Namespace: g.Namespace, ServiceAccount: account}); err != nil {
			return err
		}
	}
	return nil
}

// authorize compares what a client says about its node with who it is, as
// istiod does.
func authorize(info xds.ClientInfo) error {
	caller, ok := info.Peer.(Caller)
	if !ok {
		return errors.New("no caller")
	}
	parts := strings.Split(info.Node.ID, "~")
	if len(parts) != 4 {
		return status.Errorf(codes.InvalidArgument, "node id %.100q has not four parts", info.Node.ID)
	}
	_, namespace, ok := strings.Cut(parts[2], ".")
	if !ok || namespace != caller.Namespace {
		return fmt.Errorf("node of namespace %.100q, caller of namespace %q", namespace, caller.Namespace)
	}
	for key, want := range map[string]string{"SERVICE_ACCOUNT": caller.ServiceAccount, "CLUSTER_ID": caller.Cluster, "NODE_NAME": caller.Node} {
		if got, ok := info.Node.Metadata[key].(string); ok && got != want && want != "" {
			return fmt.Errorf("%s is %.100q, caller is %s", key, got, caller)
		}
	}
	return nil
}
