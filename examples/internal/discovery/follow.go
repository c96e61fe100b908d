package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"google.golang.org/grpc"

	"github.com/eastwest-mesh/eastwest/endpoints/xds"
)

// Kinds of proxies, as the first part of a node's ID names them.
const (
	NodeProxy = "ztunnel"
	Gateway   = "router"
)

// A Proxy is what a proxy says about itself.
type Proxy struct {
	Kind           string     // NodeProxy or Gateway
	IP             netip.Addr // its own; may be the zero Addr
	Pod            string
	Namespace      string
	ServiceAccount string
	Cluster        string
	Network        string // whose view it wants; may be empty
	Node           string // the machine it runs on; may be empty
}

// XDS returns the proxy in Istio's form.
func (p Proxy) XDS() xds.Node {
	ip := "1.1.1.1" // what ztunnel says if it does not know
	if p.IP.IsValid() {
		ip = p.IP.String()
	}
	metadata := map[string]any{
		"NAME":            p.Pod,
		"NAMESPACE":       p.Namespace,
		"SERVICE_ACCOUNT": p.ServiceAccount,
		"CLUSTER_ID":      p.Cluster,
		"NETWORK":         p.Network,
	}
	if p.Node != "" {
		metadata["NODE_NAME"] = p.Node
	}
	return xds.Node{
		ID:       fmt.Sprintf("%s~%s~%s.%s~%s.svc.cluster.local", p.Kind, ip, p.Pod, p.Namespace, p.Namespace),
		Metadata: metadata,
	}
}

// A Session is a proxy's dealings with its control plane: what it is told about
// the mesh, and its certificates. It must be closed.
type Session struct {
	State        *State
	Certificates *Certificates
	Client       *xds.Client

	conn *grpc.ClientConn
}

// Connect returns the Session of a proxy with a control plane. It waits for
// nothing: Run follows the control plane. The store, if not nil, keeps what was
// learnt over a restart.
func Connect(c ControlPlane, p Proxy, store xds.Store, logger *slog.Logger) (*Session, error) {
	conn, err := c.Dial()
	if err != nil {
		return nil, err
	}
	// A node proxy has its pods' certificates, not one of its own.
	certificates, err := NewCertificates(conn, p.Kind == NodeProxy, logger)
	if err != nil {
		conn.Close()
		return nil, err
	}
	state := &State{}
	return &Session{
		State:        state,
		Certificates: certificates,
		Client:       &xds.Client{Conn: conn, Node: p.XDS(), Types: state.Types(), Store: store, Logger: logger},
		conn:         conn,
	}, nil
}

// Run keeps the State up to date until ctx ends, or the Session is closed. An
// absent control plane is no reason to return.
func (s *Session) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	for _, t := range s.Client.Types {
		waiting.Go(func() {
			select {
			case <-s.Client.Synced(t.URL):
				s.State.Complete(t.URL)
			case <-ctx.Done():
			}
		})
	}
	return s.Client.Run(ctx)
}

// Close ends Run, and the renewing of certificates.
func (s *Session) Close() error {
	return errors.Join(s.Client.Close(), s.Certificates.Close(), s.conn.Close())
}
