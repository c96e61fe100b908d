package istiod

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/identity/istioca"
)

// A Server is a control plane. All methods may be called concurrently.
type Server struct {
	cfg      Config
	mesh     *endpoints.Mesh
	clusters *clusters
	views    *views
	xds      *xds.Server
	ca       *istioca.Server
	served   atomic.Bool
}

// New reads all directories, and fails if one of them is wrong: its error joins
// a *kubefile.Error, with file and line, for everything that is.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	vips, err := openVIPs(cfg.VIPs, cfg.Logger)
	if err != nil {
		return nil, err
	}
	mesh := endpoints.New(endpoints.Config{Compat: cfg.Compat, VIPs: vips.as(meshUser), KeepStale: cfg.KeepStale})
	s := &Server{cfg: cfg, mesh: mesh, views: newViews(mesh, cfg.Logger)}
	if s.clusters, err = loadClusters(cfg, mesh, vips, s.views); err != nil {
		return nil, err
	}
	s.xds = &xds.Server{
		Source:       s.views,
		Authenticate: func(ctx context.Context) (any, error) { return cfg.Tokens.Authenticate(ctx) },
		Authorize:    s.views.authorize,
		Identifier:   "eastwest istiod of " + cfg.Cluster,
		Logger:       cfg.Logger,
	}
	if s.ca, err = newCA(cfg, s.clusters); err != nil {
		return nil, err
	}
	return s, nil
}

// Serve follows the directories and serves l, until ctx ends; then it closes
// what it opened and returns ctx's error. It closes l in any case, and may be
// called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	if s.served.Swap(true) {
		return errors.New("istiod: Serve was called before")
	}
	cert, err := newServingCertificate(s.cfg.Authority, s.cfg.ServerNames, s.cfg.Logger)
	if err != nil {
		return err
	}
	server := newGRPCServer(cert)
	s.xds.Register(server)
	s.ca.Register(server)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	running.Go(func() { s.clusters.follow(ctx) })
	running.Go(func() { s.views.resolveGateways(ctx) })
	running.Go(func() { _ = s.cfg.Authority.Run(ctx) }) // which fails with ctx only
	running.Go(func() {
		if err := server.Serve(l); err != nil {
			cancel(fmt.Errorf("istiod: %w", err))
		}
	})
	<-ctx.Done()
	s.shutdown(server)
	running.Wait()
	s.views.close()
	return context.Cause(ctx)
}

// newGRPCServer speaks TLS only: callers send it tokens.
func newGRPCServer(cert *servingCertificate) *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: cert.get})),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.MaxConcurrentStreams(100), // of one connection; a node proxy has two or three
		grpc.WaitForHandlers(true),
		// Clients send pings every 30 s, as ztunnel does.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
}

const shutdownTimeout = 5 * time.Second

// shutdown tells clients to go elsewhere, and then cuts them off.
func (s *Server) shutdown(server *grpc.Server) {
	ctx, stop := context.WithTimeout(context.Background(), shutdownTimeout)
	defer stop()
	if err := s.xds.Shutdown(ctx); err != nil {
		s.cfg.Logger.Warn("clients did not leave in time", "error", err)
	}
	server.Stop()
}

// Mesh returns what the server knows, to ask it for status and conflicts.
func (s *Server) Mesh() *endpoints.Mesh { return s.mesh }
