package discovery

import (
	"fmt"
	"log/slog"
	"net/netip"

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

// Follow returns a client that keeps the State up to date over conn. Run it.
func (s *State) Follow(conn *grpc.ClientConn, p Proxy, store xds.Store, logger *slog.Logger) *xds.Client {
	return &xds.Client{Conn: conn, Node: p.XDS(), Types: s.Types(), Store: store, Logger: logger}
}
