package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
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

	running  sync.WaitGroup
	cancel   context.CancelFunc
	sessions []*discovery.Session
}

// files are contents by their path below a directory.
type files map[string][]byte

func (c *cluster) start(ctx context.Context) error {
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
	if err := c.startControlPlane(ctx, tokens); err != nil {
		return err
	}
	if err := c.startGateway(ctx, tokens, current); err != nil {
		return err
	}
	return c.startProxy(ctx, tokens)
}

// current reads the cluster's objects as they are now.
func (c *cluster) current() (*facts, error) {
	snapshot, err := kubefile.Load(string(c.dir))
	if err != nil {
		return nil, err
	}
	return newFacts(c.name, snapshot)
}

func (c *cluster) startControlPlane(ctx context.Context, tokens *istiod.Tokens) error {
	other := c.world.other(c)
	server, err := istiod.New(istiod.Config{
		Cluster:   c.name,
		Dir:       string(c.dir),
		Remotes:   map[string]string{other.name: string(other.dir)},
		Authority: c.world.authority,
		Tokens:    tokens,
		Logger:    c.logger("istiod"),
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
	c.run(ctx, "istiod", func(ctx context.Context) error {
		defer close(done)
		return server.Serve(ctx, l)
	})
	c.stopControlPlane = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	return nil
}

// connect begins the session of a proxy with the control plane, which lasts
// until the cluster is closed.
func (c *cluster) connect(ctx context.Context, tokens *istiod.Tokens, caller istiod.Caller, p discovery.Proxy) (*discovery.Session, error) {
	token, err := tokens.Issue(caller)
	if err != nil {
		return nil, err
	}
	p.Cluster, p.Network = c.name, c.facts.network()
	p.Namespace, p.ServiceAccount, p.Node = caller.Namespace, caller.ServiceAccount, caller.Node
	session, err := discovery.Connect(discovery.ControlPlane{
		Address:    c.controlAddress,
		RootCerts:  c.world.authority.RootsPEM(),
		ServerName: "istiod.istio-system.svc",
		Token:      func() (string, error) { return token, nil },
		ClusterID:  c.name,
	}, p, nil, c.logger(p.Kind))
	if err != nil {
		return nil, err
	}
	c.sessions = append(c.sessions, session)
	c.run(ctx, "discovery of "+p.Kind, session.Run)
	return session, nil
}

// run runs a part until ctx ends, and tells if it fails before.
func (c *cluster) run(ctx context.Context, part string, f func(context.Context) error) {
	c.running.Go(func() {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			c.logger(part).Error("a part of the cluster failed", "error", err)
		}
	})
}

func (c *cluster) logger(component string) *slog.Logger {
	return c.world.settings.logger.With("component", component, "cluster", c.name)
}

// startGateway makes the gateway that the cluster's objects describe.
func (c *cluster) startGateway(ctx context.Context, tokens *istiod.Tokens, current *facts) error {
	g, err := current.gateway()
	if err != nil {
		return err
	}
	caller := istiod.Caller{Cluster: c.name, Namespace: g.namespace, ServiceAccount: g.serviceAccount}
	session, err := c.connect(ctx, tokens, caller, discovery.Proxy{Kind: discovery.Gateway, Pod: "istio-eastwestgateway"})
	if err != nil {
		return err
	}
	td := c.world.authority.TrustDomain()
	id, err := identity.WorkloadID(td, g.namespace, g.serviceAccount)
	if err != nil {
		return err
	}
	// Closing the session releases the certificate.
	source, _, err := session.Certificates.Source(ctx, id)
	if err != nil {
		return err
	}
	c.gatewayState = session.State
	cfg := gateway.Config{
		Network:     c.facts.network(),
		State:       c.gatewayState,
		Source:      source,
		Clients:     identity.Peers{TrustDomains: []spiffeid.TrustDomain{td}},
		DialContext: c.network.DialContext,
		Observe:     c.world.events.gateway(c.name),
		Logger:      c.logger("gateway"),
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
	c.run(ctx, "gateway", func(ctx context.Context) error { return c.gateway.Serve(ctx, l) })
	return nil
}

// startProxy makes the proxy of the cluster's node.
func (c *cluster) startProxy(ctx context.Context, tokens *istiod.Tokens) error {
	node, err := c.facts.node()
	if err != nil {
		return err
	}
	session, err := c.connect(ctx, tokens, istiod.NodeProxy(c.name, node), discovery.Proxy{Kind: discovery.NodeProxy, Pod: "ztunnel-" + node})
	if err != nil {
		return err
	}
	c.state = session.State
	c.proxy = ztunnel.New(ztunnel.Config{
		Cluster:      c.name,
		Network:      c.facts.network(),
		Node:         node,
		TrustDomain:  c.world.authority.TrustDomain(),
		State:        c.state,
		Pod:          func(ip netip.Addr) ztunnel.PodNetwork { return c.network.Pod(ip) },
		Certificates: session.Certificates,
		MaxTunnelAge: c.world.settings.maxTunnelAge,
		Observe:      c.world.events.proxy(c.name),
		Logger:       c.logger("ztunnel"),
	})
	c.run(ctx, "ztunnel", c.proxy.Run)
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
	for _, session := range c.sessions {
		session.Close()
	}
	if c.apps != nil {
		c.apps.close()
	}
	if c.network != nil {
		c.network.Close()
	}
}
