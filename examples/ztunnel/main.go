// Command ztunnel is a node proxy. It serves the pods of one node: for each of
// them it opens, in the pod's own network, SOCKS5 (15080) and DNS (15053) for
// the pod's applications, and HBONE (15008) for the rest of the mesh. What it
// knows, and its pods' certificates, come from an istiod.
//
//	ztunnel -cluster east -network east-network -node east-node \
//	        -xds-address 127.0.0.1:15012 -root-cert state/east/root-cert.pem \
//	        -token state/east/tokens/east.istio-system.ztunnel.east-node \
//	        -podnet run/east -underlay run/underlay
//
// Flags take their defaults from ztunnel's environment variables. With
// -expose 127.0.0.1:1080=10.1.0.20:15080 programs of the machine get at a pod's
// SOCKS5 port.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eastwest-mesh/eastwest/endpoints/xds"
	"github.com/eastwest-mesh/eastwest/examples/internal/cmdline"
	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
	"github.com/eastwest-mesh/eastwest/examples/internal/expose"
	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
	"github.com/eastwest-mesh/eastwest/examples/internal/ztunnel"
)

func main() { cmdline.Main("ztunnel", run) }

type options struct {
	control               cmdline.ControlPlane
	pods                  cmdline.PodNetwork
	trust                 *cmdline.Trust
	network, node, domain *string
	cache, readiness      *string
	exposed               []exposure
	logger                *slog.Logger
}

// An exposure makes an address of the pod network reachable on the machine.
type exposure struct{ listen, pod string }

func parse(args []string, getenv cmdline.Getenv, stderr io.Writer) (*options, error) {
	fs := cmdline.NewFlagSet("ztunnel", stderr)
	o := &options{control: cmdline.AddControlPlane(fs, getenv), pods: cmdline.AddPodNetwork(fs)}
	o.network = cmdline.String(fs, getenv, "network", "NETWORK", "", "network of the cluster")
	o.node = cmdline.String(fs, getenv, "node", "NODE_NAME", "", "name of the node (required)")
	o.trust = cmdline.AddTrust(fs, getenv)
	o.domain = cmdline.String(fs, getenv, "cluster-domain", "CLUSTER_DOMAIN", "cluster.local", "domain of Kubernetes' names")
	o.cache = fs.String("cache", "", "file to keep what was learnt in, so that a restart needs no istiod for it (default: none)")
	o.readiness = fs.String("readiness", "", "address to answer GET /healthz/ready on (default: none)")
	fs.Func("expose", "pass connections from an address of the machine on to one of a pod, as `LISTEN=POD`; may be repeated", func(v string) error {
		listen, pod, ok := strings.Cut(v, "=")
		if !ok || listen == "" || pod == "" {
			return errors.New("want LISTEN=POD")
		}
		o.exposed = append(o.exposed, exposure{listen, pod})
		return nil
	})
	logger := cmdline.AddLogger(fs)
	if err := cmdline.Parse(fs, args); err != nil {
		return nil, err
	}
	if *o.node == "" {
		return nil, &cmdline.UsageError{Err: errors.New("-node is required")}
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
	session, err := o.connect()
	if err != nil {
		return err
	}
	defer session.Close()
	proxy := ztunnel.New(ztunnel.Config{
		Cluster:       *o.control.Cluster,
		Network:       *o.network,
		Node:          *o.node,
		TrustDomain:   trusted.Domain,
		Federated:     trusted.Federated,
		Trust:         trusted.Config,
		ClusterDomain: *o.domain,
		State:         session.State,
		Pod:           func(ip netip.Addr) ztunnel.PodNetwork { return pods.Pod(ip) },
		Certificates:  session.Certificates,
		Observe:       o.log,
		Logger:        o.logger,
	})
	return o.serve(ctx, session, trusted, proxy, pods, stdout)
}

func (o *options) connect() (*discovery.Session, error) {
	control, err := o.control.Config()
	if err != nil {
		return nil, err
	}
	var store xds.Store
	if *o.cache != "" {
		store = &xds.FileStore{Path: *o.cache}
	}
	return discovery.Connect(control, discovery.Proxy{
		Kind: discovery.NodeProxy, Pod: "ztunnel-" + *o.node, Namespace: "istio-system", ServiceAccount: "ztunnel",
		Cluster: *o.control.Cluster, Network: *o.network, Node: *o.node,
	}, store, o.logger)
}

// serve runs everything until ctx ends or a part of it fails.
func (o *options) serve(ctx context.Context, session *discovery.Session, trusted *cmdline.Trusted, proxy *ztunnel.Proxy, pods *podnet.Network, stdout io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()
	part := func(f func(context.Context) error) {
		running.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	part(session.Run)
	part(trusted.Run)
	part(proxy.Run)
	for _, e := range o.exposed {
		l, err := net.Listen("tcp", e.listen)
		if err != nil {
			cancel(err)
			return fmt.Errorf("-expose: %w", err)
		}
		fmt.Fprintf(stdout, "ztunnel of %s passes %s on to %s\n", *o.node, l.Addr(), e.pod)
		part(func(ctx context.Context) error { return expose.TCP(ctx, l, pods.DialContext, e.pod) })
	}
	if *o.readiness != "" {
		l, err := net.Listen("tcp", *o.readiness)
		if err != nil {
			cancel(err)
			return fmt.Errorf("-readiness: %w", err)
		}
		fmt.Fprintf(stdout, "ztunnel of %s answers http://%s/healthz/ready\n", *o.node, l.Addr())
		part(func(ctx context.Context) error { return answerReadiness(ctx, l, proxy) })
	}
	part(func(ctx context.Context) error {
		if err := proxy.AwaitReady(ctx); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "ztunnel of %s serves its pods\n", *o.node)
		return nil
	})
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// answerReadiness answers as ztunnel does on its port 15021: once ready, it is
// ready for good, whatever pods come.
func answerReadiness(ctx context.Context, l net.Listener, proxy *ztunnel.Proxy) error {
	var once atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !once.Load() && !proxy.Ready() {
			http.Error(w, "not ready", http.StatusInternalServerError)
			return
		}
		once.Store(true)
		fmt.Fprintln(w, "ready")
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	return s.Serve(l)
}

// log writes the access log.
func (o *options) log(c ztunnel.Connection) {
	level := slog.LevelInfo
	switch {
	case errors.Is(c.Err, io.EOF) && c.Direction == ztunnel.Inbound:
		level = slog.LevelDebug // a client that only looked which pod it would reach
	case c.Err != nil:
		level = slog.LevelWarn
	}
	attrs := []any{"direction", c.Direction, "workload", c.Workload}
	for _, a := range []struct {
		key, value string
	}{{"wanted", c.Wanted}, {"target", c.Target}, {"authority", c.Authority}, {"peer", c.Peer}} {
		if a.value != "" {
			attrs = append(attrs, a.key, a.value)
		}
	}
	if len(c.Hops) > 0 {
		attrs = append(attrs, "hops", len(c.Hops))
	}
	if c.Status != 0 {
		attrs = append(attrs, "status", c.Status)
	}
	if c.Err != nil {
		attrs = append(attrs, "error", c.Err)
	}
	o.logger.Log(context.Background(), level, "connection", attrs...)
}
