package istiod

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/identity/istioca"
)

// Config says what a Server is. Fields without a default are required.
type Config struct {
	Cluster string
	Dir     string // of the cluster's own objects

	// Authority certifies workloads, and this server. Control planes of one
	// mesh share its roots.
	Authority *Authority
	// Tokens say who may call. The Server adds those of node proxies and
	// gateways that its clusters have.
	Tokens *Tokens

	// Remotes are the directories of other clusters, by name: what a remote
	// secret is where clusters have API servers. Default: none.
	Remotes map[string]string
	// Network replaces what the label topology.istio.io/network of the own
	// cluster's istio-system namespace says. Default: the label.
	Network string
	// Compat chooses istiod's own way to show other networks. Default: ours.
	Compat endpoints.Compat
	// VIPStore is a file that keeps virtual addresses. Default: they last as
	// long as the Server, and come out the same unless names collide.
	VIPStore string
	// ServerNames are further DNS names and IP addresses that clients may know
	// this server by, besides istiod.istio-system.svc and localhost.
	ServerNames []string
	// Logger gets what goes wrong. Default: silent.
	Logger *slog.Logger
}

// A Server is a control plane. All methods may be called concurrently.
type Server struct {
	cfg      Config
	mesh     *endpoints.Mesh
	vips     *vips
	clusters *clusters
	views    *views
	xds      *xds.Server
	ca       *istioca.Server
}

// New reads all directories, and fails if one of them is wrong.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Cluster == "":
		return nil, errors.New("istiod: the cluster has no name")
	case cfg.Authority == nil || cfg.Tokens == nil:
		return nil, errors.New("istiod: Authority and Tokens are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	vips, err := openVIPs(cfg.VIPStore)
	if err != nil {
		return nil, err
	}
	mesh := endpoints.New(endpoints.Config{Compat: cfg.Compat, VIPs: vips})
	s := &Server{cfg: cfg, mesh: mesh, vips: vips, views: newViews(mesh, cfg.Logger)}
	if s.clusters, err = loadClusters(cfg, mesh, vips, s.views); err != nil {
		return nil, err
	}
	s.xds = &xds.Server{
		Source:       s.views,
		Authenticate: func(ctx context.Context) (any, error) { return cfg.Tokens.Authenticate(ctx) },
		Authorize:    authorize,
		Identifier:   "eastwest istiod of " + cfg.Cluster,
		Logger:       cfg.Logger,
	}
	s.views.describe = s.describe
	if s.ca, err = newCA(cfg, s.clusters); err != nil {
		return nil, err
	}
	return s, nil
}

// Serve follows the directories and serves l, until ctx ends; then it closes
// what it opened and returns ctx's error. It may be called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()
	defer s.views.close()
	running.Go(func() { s.clusters.follow(ctx) })

	cert, err := s.cfg.Authority.servingCertificate(s.cfg.ServerNames)
	if err != nil {
		return err
	}
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: cert.get})),
		// Clients send pings every 30 s, as ztunnel does.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
	s.xds.Register(server)
	s.ca.Register(server)
	running.Go(func() {
		if err := server.Serve(l); err != nil {
			cancel(fmt.Errorf("istiod: %w", err))
		}
	})
	<-ctx.Done()
	stopping, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer stop()
	if err := s.xds.Shutdown(stopping); err != nil {
		s.cfg.Logger.Warn("clients did not leave in time", "error", err)
	}
	server.Stop()
	return context.Cause(ctx)
}

const shutdownTimeout = 5 * time.Second

// describe says as whom a client sees the mesh: what it claims about its
// network and cluster, else what its cluster is known for.
func (s *Server) describe(info xds.ClientInfo) endpoints.Client {
	c := endpoints.Client{Cluster: s.cfg.Cluster, Role: roleOf(info.Node.ID)}
	if caller, ok := info.Peer.(Caller); ok {
		c.Cluster = caller.Cluster
	}
	for _, known := range s.mesh.Clusters() {
		if known.ID == c.Cluster {
			c.Network = known.Network
		}
	}
	if network, ok := info.Node.Metadata["NETWORK"].(string); ok {
		c.Network = network
	}
	return c
}

// Mesh returns what the server knows, to ask it for status and conflicts.
func (s *Server) Mesh() *endpoints.Mesh { return s.mesh }

// vips gives addresses to hosts that have none.
type vips struct{ *dnsproxy.VIPs }

func openVIPs(path string) (*vips, error) {
	cfg := dnsproxy.VIPConfig{}
	if path != "" {
		cfg.Store = &dnsproxy.FileStore{Path: path}
	}
	v, err := dnsproxy.OpenVIPs(cfg)
	if err != nil {
		return nil, fmt.Errorf("istiod: virtual addresses: %w", err)
	}
	return &vips{v}, nil
}

// Assign implements endpoints.VIPs and kubemesh.VIPs.
func (v *vips) Assign(hostname string) ([]netip.Addr, error) {
	got, err := v.Allocate(hostname)
	if err != nil {
		return nil, err
	}
	return []netip.Addr{got[0].IPv4, got[0].IPv6}, nil
}

// Release implements endpoints.VIPs.
func (v *vips) Release(hostname string) {
	// The lease stays in use if it cannot be written; that costs an address.
	_ = v.VIPs.Release(hostname)
}
