package ztunnel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/backends"
	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
)

// Ports of a pod's network that the proxy listens on, as Istio's does.
const (
	InboundPort = 15008
	SOCKSPort   = 15080
	DNSPort     = 15053
)

// PodNetwork is the network as one pod sees it. A podnet.Pod is one.
type PodNetwork interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	Listen(ctx context.Context, network, address string) (net.Listener, error)
	ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error)
}

// Certificates gives the certificate of each identity that runs on the node.
type Certificates interface {
	// Source returns a source of an identity's certificate, once there is one.
	// It is good until release is called.
	Source(ctx context.Context, id spiffeid.ID) (source identity.Source, release func(), err error)
}

// Config says what a Proxy is. Fields without a default are required.
type Config struct {
	Cluster     string
	Network     string // may be empty, which is a network like any other
	Node        string
	TrustDomain spiffeid.TrustDomain

	// State is what is known of the mesh. The caller feeds it, after New.
	State *discovery.State
	// Pod returns the network of a pod of this node.
	Pod func(ip netip.Addr) PodNetwork
	// Certificates are those of the node's pods.
	Certificates Certificates

	// Federated are the trust domains, besides TrustDomain, whose workloads are
	// let in, if the policies allow them. Default: none.
	Federated []spiffeid.TrustDomain
	// Trust has the bundles, aliases, revocations and cryptography of the pods'
	// credentials; Source and Peers are not read. Default: none of these.
	Trust identity.Config

	// ClusterDomain is the domain of Kubernetes' names. Default cluster.local.
	ClusterDomain string
	// Upstream answers names that are not of the mesh. Default: they are refused.
	Upstream dnsproxy.Exchanger
	// MaxStreamsPerTunnel and MaxTunnelAge are those of hbone.Transport, with its defaults.
	MaxStreamsPerTunnel int
	MaxTunnelAge        time.Duration
	// Observe is told of every connection when it was decided, and must return
	// soon. Default: nobody is.
	Observe func(Connection)
	// Logger gets what goes wrong. Default: silent.
	Logger *slog.Logger
}

// A Proxy serves the pods of one node.
type Proxy struct {
	cfg      Config
	names    dnsproxy.Names
	backends *backends.Chooser
	gateways *backends.Chooser
	changed  chan struct{}
	progress progress

	// named is what names was made from. Only update touches it.
	named map[dnsproxy.Key]*endpoints.ServiceEntry

	mu   sync.Mutex
	pods map[string]*pod // by UID; only update changes it
}

// New returns a Proxy. It serves when Run is called.
func New(cfg Config) *Proxy {
	if cfg.ClusterDomain == "" {
		cfg.ClusterDomain = "cluster.local"
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Connection) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{cfg: cfg, changed: make(chan struct{}, 1), pods: map[string]*pod{}}
	p.backends = backends.NewChooser(backends.Config{Usable: p.reachable})
	p.gateways = backends.NewChooser(backends.Config{Usable: dialable})
	cfg.State.Aliases = cfg.Trust.Aliases
	cfg.State.OnChange(p.wake)
	p.wake()
	return p
}

// Run serves the node's pods as they come and go, until ctx ends; then it
// closes everything and returns ctx's error.
func (p *Proxy) Run(ctx context.Context) error {
	defer p.stopPods(nil)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.changed:
			p.update(ctx)
		}
	}
}

func (p *Proxy) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// update brings open connections, names and pods in line with the State.
func (p *Proxy) update(ctx context.Context) {
	// An address that is not known yet would be taken for one outside of the
	// mesh, which is reached in plain text.
	if !p.cfg.State.Known() {
		return
	}
	index := p.cfg.State.Index()
	wanted := map[string]*endpoints.Workload{}
	for w := range index.NodeWorkloads(p.cfg.Node) {
		if p.serves(w) {
			wanted[w.UID] = w
		}
	}
	p.stopPods(wanted)
	p.updateNames(index)
	p.backends.Forget(index)
	p.gateways.Forget(index)
	p.startPods(ctx, wanted)
	p.progress.announce()
}

// stopPods closes the pods that are not wanted any more, and tells the others
// what is new.
func (p *Proxy) stopPods(wanted map[string]*endpoints.Workload) {
	policies := p.cfg.State.Policies()
	var closing sync.WaitGroup
	defer closing.Wait() // until their addresses are free
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, pod := range p.pods {
		if w := wanted[uid]; w != nil && pod.canServe(w) {
			pod.update(w, policies)
			continue
		}
		delete(p.pods, uid)
		closing.Go(pod.close)
	}
}

func (p *Proxy) startPods(ctx context.Context, wanted map[string]*endpoints.Workload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, w := range wanted {
		if p.pods[uid] == nil {
			p.pods[uid] = p.startPod(ctx, w)
		}
	}
}

// serves reports whether a workload is ours: a pod of this cluster and node
// that has a network of its own and was enrolled in the mesh.
func (p *Proxy) serves(w *endpoints.Workload) bool {
	return w.Cluster == p.cfg.Cluster && w.Tunnel == endpoints.TunnelHBONE && !w.NativeTunnel &&
		w.NetworkMode == endpoints.StandardNetwork && len(w.Addresses) > 0
}

// reachable reports whether there can be a way to a workload: an address, or a
// gateway if it is on another network.
func (p *Proxy) reachable(w *endpoints.Workload) bool {
	if w.Network != p.cfg.Network {
		return w.NetworkGateway != nil
	}
	return len(w.Addresses) > 0 || w.Hostname != ""
}

// dialable reports whether a proxy can be dialled: a gateway lives on another
// network and is reached all the same.
func dialable(w *endpoints.Workload) bool { return len(w.Addresses) > 0 || w.Hostname != "" }

// Ready reports whether all there is to know has come, and every pod of the
// node is served.
func (p *Proxy) Ready() bool {
	if !p.cfg.State.Known() || p.cfg.State.Policies() == nil || p.names.Load() == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.cfg.State.Index().NodeWorkloads(p.cfg.Node) {
		if !p.serves(w) {
			continue
		}
		if pod := p.pods[w.UID]; pod == nil || !pod.ready.Load() || !pod.canServe(w) {
			return false
		}
	}
	return true
}

// AwaitReady waits until the Proxy is ready, or ctx ends.
func (p *Proxy) AwaitReady(ctx context.Context) error { return p.await(ctx, p.Ready) }

func (p *Proxy) await(ctx context.Context, done func() bool) error {
	for {
		changed := p.progress.next()
		if done() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// progress tells those who wait that something has happened. The zero value
// works.
type progress struct {
	mu      sync.Mutex
	changed chan struct{}
}

// next returns a channel that is closed by the next announce.
func (p *progress) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

func (p *progress) announce() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// CloseTunnels closes all outbound tunnels, and with them their connections:
// the next connection needs new ones.
func (p *Proxy) CloseTunnels() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, pod := range p.pods {
		errs = append(errs, pod.resetTransport())
	}
	return errors.Join(errs...)
}

// Tunnels returns the counts of all outbound tunnels, by the depth of the hop.
func (p *Proxy) Tunnels() []hbone.HopStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	var sum []hbone.HopStats
	for _, pod := range p.pods {
		for depth, s := range pod.transport().Stats().Hops {
			for len(sum) <= depth {
				sum = append(sum, hbone.HopStats{})
			}
			sum[depth].Tunnels += s.Tunnels
			sum[depth].Streams += s.Streams
			sum[depth].Dials += s.Dials
			sum[depth].Handshakes += s.Handshakes
			sum[depth].Failures += s.Failures
			sum[depth].Opened += s.Opened
			sum[depth].Retried += s.Retried
		}
	}
	return sum
}
