// Command gateway is an east-west gateway: the way into a cluster's network for
// the proxies of other networks. It serves the global services of its cluster,
// as an istiod tells it, and reads nothing of what it passes on.
//
//	gateway -cluster east -network east-network -listen 172.18.1.100:15008 \
//	        -xds-address 127.0.0.1:15012 -root-cert state/east/root-cert.pem \
//	        -token state/east/tokens/east.istio-system.istio-eastwestgateway \
//	        -podnet run/east -underlay run/underlay
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/eastwest-mesh/eastwest/examples/internal/cmdline"
	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
	"github.com/eastwest-mesh/eastwest/examples/internal/gateway"
	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
	"github.com/eastwest-mesh/eastwest/identity"
)

func main() { cmdline.Main("gateway", run) }

type options struct {
	control            cmdline.ControlPlane
	pods               cmdline.PodNetwork
	trust              *cmdline.Trust
	network, listen    *string
	namespace, account *string
	drain              *time.Duration
	logger             *slog.Logger
}

func parse(args []string, getenv cmdline.Getenv, stderr io.Writer) (*options, error) {
	fs := cmdline.NewFlagSet("gateway", stderr)
	o := &options{control: cmdline.AddControlPlane(fs, getenv), pods: cmdline.AddPodNetwork(fs)}
	o.network = cmdline.String(fs, getenv, "network", "ISTIO_META_NETWORK", "", "network of the cluster")
	o.trust = cmdline.AddTrust(fs, getenv)
	o.namespace = cmdline.String(fs, getenv, "namespace", "POD_NAMESPACE", "istio-system", "namespace of the gateway")
	o.account = cmdline.String(fs, getenv, "service-account", "SERVICE_ACCOUNT", "istio-eastwestgateway", "service account of the gateway")
	o.listen = fs.String("listen", "", "address on the underlay to serve HBONE on, as in the Gateway's status (required)")
	o.drain = fs.Duration("drain", 5*time.Second, "how long connections may go on after an interrupt")
	logger := cmdline.AddLogger(fs)
	if err := cmdline.Parse(fs, args); err != nil {
		return nil, err
	}
	if *o.listen == "" {
		return nil, &cmdline.UsageError{Err: errors.New("-listen is required")}
	}
	o.logger = logger(stderr)
	return o, nil
}

func run(ctx context.Context, args []string, getenv cmdline.Getenv, stdout, stderr io.Writer) error {
	o, err := parse(args, getenv, stderr)
	if err != nil {
		return err
	}
	trusted, err := o.trust.Open(o.logger)
	if err != nil {
		return err
	}
	pods, underlay, err := o.pods.Open()
	if err != nil {
		return err
	}
	defer underlay.Close()
	defer pods.Close()
	control, err := o.control.Config()
	if err != nil {
		return err
	}
	session, err := discovery.Connect(control, discovery.Proxy{
		Kind: discovery.Gateway, Pod: *o.account, Namespace: *o.namespace, ServiceAccount: *o.account,
		Cluster: *o.control.Cluster, Network: *o.network,
	}, nil, o.logger)
	if err != nil {
		return err
	}
	defer session.Close()
	g, err := o.gateway(ctx, trusted, session, pods)
	if ctx.Err() != nil {
		return nil // interrupted before there was a certificate
	}
	if err != nil {
		return err
	}
	defer g.Close()
	l, err := underlay.Listen(ctx, "tcp", *o.listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	return o.serve(ctx, session, trusted, g, l, stdout)
}

// gateway waits for the gateway's certificate, however long the CA is away.
func (o *options) gateway(ctx context.Context, trusted *cmdline.Trusted, session *discovery.Session, pods *podnet.Network) (*gateway.Gateway, error) {
	id, err := identity.WorkloadID(trusted.Domain, *o.namespace, *o.account)
	if err != nil {
		return nil, err
	}
	source, _, err := session.Certificates.Source(ctx, id)
	if err != nil {
		return nil, err
	}
	return gateway.New(gateway.Config{
		Network:     *o.network,
		State:       session.State,
		Source:      source,
		Clients:     trusted.Peers(),
		Trust:       trusted.Config,
		DialContext: pods.DialContext,
		Observe:     o.log,
		Logger:      o.logger,
	})
}

// serve runs until ctx ends, and then lets connections finish for a while.
func (o *options) serve(ctx context.Context, session *discovery.Session, trusted *cmdline.Trusted, g *gateway.Gateway, l net.Listener, stdout io.Writer) error {
	var running sync.WaitGroup
	defer running.Wait()
	failed := make(chan error, 3)
	serving, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	running.Go(func() { failed <- session.Run(serving) })
	running.Go(func() { failed <- trusted.Run(serving) })
	running.Go(func() { failed <- g.Serve(serving, l) })
	fmt.Fprintf(stdout, "gateway of %s serves %s\n", *o.control.Cluster, *o.listen)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	draining, stop := context.WithTimeout(serving, *o.drain)
	defer stop()
	if err := g.Shutdown(draining); err != nil {
		o.logger.Warn("connections were cut", "error", err)
	}
	return nil
}

// log writes the access log.
func (o *options) log(c gateway.Connection) {
	if c.Err != nil {
		o.logger.Warn("refused", "peer", c.Peer, "authority", c.Authority, "status", c.Status, "error", c.Err)
		return
	}
	o.logger.Info("connection", "peer", c.Peer, "authority", c.Authority, "backend", c.Backend)
}
