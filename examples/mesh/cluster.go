package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
	"github.com/eastwest-mesh/eastwest/examples/internal/gateway"
	"github.com/eastwest-mesh/eastwest/examples/internal/istiod"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
	"github.com/eastwest-mesh/eastwest/examples/internal/ztunnel"
	"github.com/eastwest-mesh/eastwest/identity"
)

type entry = endpoints.ServiceEntry

// A cluster is a control plane, a gateway, a node proxy and the applications,
// on a pod network of their own.
type cluster struct {
	world *world
	name  string
	dir   workdir
	facts *facts

	network *podnet.Network
	apps    *apps

	controlPlane     *istiod.Server
	controlAddress   string
	stopControlPlane func()

	gateway      *gateway.Gateway
	gatewayState *discovery.State
	proxy        *ztunnel.Proxy
	state        *discovery.State // of the proxy

	// What there was at the beginning.
	original     files
	known        snapshot
	gatewayKnown snapshot

	running sync.WaitGroup
	cancel  context.CancelFunc
	closers []func()
}

// files are contents by their path below a directory.
type files map[string][]byte

func (c *cluster) start(ctx context.Context, authority *istiod.Authority) error {
	ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	prefixes, err := c.facts.podPrefixes()
	if err != nil {
		return err
	}
	c.network, err = podnet.New(podnet.Config{Name: c.name, CIDRs: prefixes, Parent: c.world.underlay})
	if err != nil {
		return err
	}
	c.apps = newApps(c.name, c.network, c.world.settings.wrapApp)
	if c.original, err = readFiles(c.dir); err != nil {
		return err
	}
	current, err := c.current()
	if err != nil {
		return err
	}
	if err := c.apps.run(ctx, current.Pods); err != nil {
		return err
	}
	tokens, err := istiod.OpenTokens("")
	if err != nil {
		return err
	}
	if err := c.startControlPlane(ctx, authority, tokens); err != nil {
		return err
	}
	if err := c.startGateway(ctx, authority, tokens, current); err != nil {
		return err
	}
	return c.startProxy(ctx, authority, tokens)
}

// current reads the cluster's objects as they are now.
func (c *cluster) current() (*facts, error) {
	snapshot, err := kubefile.Load(string(c.dir))
	if err != nil {
		return nil, err
	}
	return newFacts(c.name, snapshot)
}

func (c *cluster) startControlPlane(ctx context.Context, authority *istiod.Authority, tokens *istiod.Tokens) error {
	other := c.world.other(c)
	server, err := istiod.New(istiod.Config{
		Cluster:   c.name,
		Dir:       string(c.dir),
		Remotes:   map[string]string{other.name: string(other.dir)},
		Authority: authority,
		Tokens:    tokens,
		Logger:    c.world.settings.logger.With("component", "istiod", "cluster", c.name),
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c.controlPlane, c.controlAddress = server, l.Addr().String()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	c.running.Go(func() {
		defer close(done)
		server.Serve(ctx, l)
	})
	c.stopControlPlane = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	return nil
}

// connect returns a connection to the control plane as a caller.
func (c *cluster) connect(authority *istiod.Authority, tokens *istiod.Tokens, caller istiod.Caller) (*grpc.ClientConn, error) {
	token, err := tokens.Issue(caller)
	if err != nil {
		return nil, err
	}
	conn, err := discovery.ControlPlane{
		Address:    c.controlAddress,
		RootCerts:  authority.RootPEM(),
		ServerName: "istiod.istio-system.svc",
		Token:      func() (string, error) { return token, nil },
		ClusterID:  c.name,
	}.Dial()
	if err == nil {
		c.closers = append(c.closers, func() { conn.Close() })
	}
	return conn, err
}

// certificates fetches from the control plane's CA until the cluster is closed.
func (c *cluster) certificates(conn *grpc.ClientConn, impersonate bool) (*discovery.Certificates, error) {
	certificates, err := discovery.NewCertificates(conn, impersonate, c.world.settings.logger)
	if err == nil {
		c.closers = append(c.closers, func() { certificates.Close() })
	}
	return certificates, err
}

// follow keeps a state up to date until the cluster is closed.
func (c *cluster) follow(ctx context.Context, state *discovery.State, conn *grpc.ClientConn, p discovery.Proxy) {
	client := state.Follow(conn, p, nil, c.world.settings.logger)
	c.running.Go(func() { client.Run(ctx) })
}

// startGateway makes the gateway that the cluster's objects describe.
func (c *cluster) startGateway(ctx context.Context, authority *istiod.Authority, tokens *istiod.Tokens, current *facts) error {
	g, err := current.gateway()
	if err != nil {
		return err
	}
	caller := istiod.Caller{Cluster: c.name, Namespace: g.namespace, ServiceAccount: g.serviceAccount}
	conn, err := c.connect(authority, tokens, caller)
	if err != nil {
		return err
	}
	id, err := identity.WorkloadID(authority.TrustDomain(), g.namespace, g.serviceAccount)
	if err != nil {
		return err
	}
	certificates, err := c.certificates(conn, false)
	if err != nil {
		return err
	}
	source, release, err := certificates.Source(ctx, id)
	if err != nil {
		return err
	}
	c.closers = append(c.closers, release)
	c.gatewayState = &discovery.State{}
	cfg := gateway.Config{
		Network:     c.facts.network(),
		State:       c.gatewayState,
		Source:      source,
		Clients:     identity.Peers{TrustDomains: []spiffeid.TrustDomain{authority.TrustDomain()}},
		DialContext: c.network.DialContext,
		Observe:     c.world.events.gateway(c.name),
		Logger:      c.world.settings.logger.With("component", "gateway", "cluster", c.name),
	}
	if !c.world.settings.deafTap {
		cfg.Tap = c.world.tap
	}
	if c.gateway, err = gateway.New(cfg); err != nil {
		return err
	}
	l, err := c.network.Listen(ctx, "tcp", g.address.String())
	if err != nil {
		return err
	}
	c.running.Go(func() { c.gateway.Serve(ctx, l) })
	c.follow(ctx, c.gatewayState, conn, discovery.Proxy{
		Kind: discovery.Gateway, Pod: "istio-eastwestgateway", Namespace: g.namespace, ServiceAccount: g.serviceAccount,
		Cluster: c.name, Network: c.facts.network(),
	})
	return nil
}

// startProxy makes the proxy of the cluster's node.
func (c *cluster) startProxy(ctx context.Context, authority *istiod.Authority, tokens *istiod.Tokens) error {
	node, err := c.facts.node()
	if err != nil {
		return err
	}
	caller := istiod.NodeProxy(c.name, node)
	conn, err := c.connect(authority, tokens, caller)
	if err != nil {
		return err
	}
	certificates, err := c.certificates(conn, true)
	if err != nil {
		return err
	}
	c.state = &discovery.State{}
	c.proxy = ztunnel.New(ztunnel.Config{
		Cluster:      c.name,
		Network:      c.facts.network(),
		Node:         node,
		TrustDomain:  authority.TrustDomain(),
		State:        c.state,
		Pod:          func(ip netip.Addr) ztunnel.PodNetwork { return c.network.Pod(ip) },
		Certificates: certificates,
		MaxTunnelAge: c.world.settings.maxTunnelAge,
		Observe:      c.world.events.proxy(c.name),
		Logger:       c.world.settings.logger.With("component", "ztunnel", "cluster", c.name),
	})
	c.running.Go(func() { c.proxy.Run(ctx) })
	c.follow(ctx, c.state, conn, discovery.Proxy{
		Kind: discovery.NodeProxy, Pod: "ztunnel-" + node, Namespace: caller.Namespace, ServiceAccount: caller.ServiceAccount,
		Cluster: c.name, Network: c.facts.network(), Node: node,
	})
	return nil
}

// ready reports whether the proxy serves its pods, and the gateway knows the
// services that it is for.
func (c *cluster) ready() bool {
	for _, svc := range c.facts.Services {
		if svc.Namespace == namespace && c.facts.global(svc) && c.facts.count(svc) > 0 {
			e := c.gatewayState.Index().ServiceByHostname(svc.Name+"."+svc.Namespace+".svc.cluster.local", "")
			if e == nil {
				return false
			}
		}
	}
	return c.proxy.Ready() && c.controlPlane != nil && c.state.Index().Service(namespace+"/"+serviceName+"."+namespace+".svc.cluster.local") != nil
}

// deleteBackends deletes the pods of a service, and waits until the cluster's
// proxy knows.
func (c *cluster) deleteBackends(ctx context.Context, namespace, name string) error {
	svc, err := c.facts.service(namespace, name)
	if err != nil {
		return err
	}
	gone := c.facts.backends(svc)
	err = c.dir.deleteEach("Pod", func(ns, name string) bool {
		return slices.ContainsFunc(gone, func(p *corev1.Pod) bool { return p.Namespace == ns && p.Name == name })
	})
	if err != nil {
		return err
	}
	if err := c.world.await(ctx, c.name+" to notice that pods are gone", func() bool {
		return !slices.ContainsFunc(gone, func(p *corev1.Pod) bool {
			return c.state.Index().Workload(c.name+"//Pod/"+p.Namespace+"/"+p.Name) != nil
		})
	}); err != nil {
		return err
	}
	return c.syncApps(ctx)
}

// syncApps starts and stops applications as the pods that there are now say.
func (c *cluster) syncApps(ctx context.Context) error {
	current, err := c.current()
	if err != nil {
		return err
	}
	return c.apps.run(ctx, current.Pods)
}

func readFiles(dir workdir) (files, error) {
	found := files{}
	err := filepath.WalkDir(string(dir), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		found[path], err = os.ReadFile(path)
		return err
	})
	return found, err
}

// revert makes the directory what it was at the beginning. It reports whether
// that changed anything.
func (c *cluster) revert() (changed bool, err error) {
	now, err := readFiles(c.dir)
	if err != nil {
		return false, err
	}
	for path, data := range c.original {
		if string(now[path]) == string(data) {
			continue
		}
		changed = true
		if err := replaceFile(path, data); err != nil {
			return true, err
		}
	}
	return changed, nil
}

func (c *cluster) close() {
	if c.cancel != nil {
		c.cancel()
	}
	if c.stopControlPlane != nil {
		c.stopControlPlane()
	}
	if c.gateway != nil {
		c.gateway.Close()
	}
	c.running.Wait()
	for _, f := range slices.Backward(c.closers) {
		f()
	}
	if c.apps != nil {
		c.apps.close()
	}
	if c.network != nil {
		c.network.Close()
	}
}
