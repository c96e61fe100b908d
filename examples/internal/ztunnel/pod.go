package ztunnel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity/authz"
)

// A pod is what the proxy does for one pod: its sockets, its certificate, its
// tunnels.
type pod struct {
	proxy     *Proxy
	workload  atomic.Pointer[endpoints.Workload]
	addresses []netip.Addr // of the workload, one at least; they never change
	network   PodNetwork
	outbound  atomic.Pointer[hbone.Transport]
	keys      *keyring    // set while it is served
	ready     atomic.Bool // it is served now

	admitted sync.Map   // *hbone.Conn to admission
	checked  *authz.Set // by which admitted was checked last; of Proxy.update

	cancel context.CancelFunc
	done   chan struct{} // closed when nothing of it is left
}

// startPod begins to serve a pod, which may have to wait for its certificate.
func (p *Proxy) startPod(ctx context.Context, w *endpoints.Workload) *pod {
	ctx, cancel := context.WithCancel(ctx)
	d := &pod{
		proxy:     p,
		addresses: w.Addresses,
		network:   p.cfg.Pod(w.Addresses[0]),
		cancel:    cancel,
		done:      make(chan struct{}),
	}
	d.workload.Store(w)
	d.outbound.Store(d.newTransport())
	go d.run(ctx)
	return d
}

// The pause between attempts to serve a pod doubles from one to the other.
const (
	minPause = 100 * time.Millisecond
	maxPause = 15 * time.Second
)

// run serves the pod until ctx ends, and again after a pause when that failed.
func (d *pod) run(ctx context.Context) {
	defer close(d.done)
	defer func() { d.transport().Close() }()
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		served, err := d.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		d.proxy.cfg.Logger.Error("a pod is not served", "workload", d.uid(), "error", err)
		if served {
			pause = minPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// serve fetches the pod's certificate, opens its sockets and serves them until
// ctx ends or one of them fails. It reports whether it came to serving.
func (d *pod) serve(ctx context.Context) (served bool, err error) {
	id, err := spiffeid.FromString(d.workload.Load().Identity())
	if err != nil {
		return false, fmt.Errorf("identity: %w", err)
	}
	source, release, err := d.proxy.cfg.Certificates.Source(ctx, id)
	if err != nil {
		return false, fmt.Errorf("certificate of %s: %w", id, err)
	}
	defer release()
	d.keys = newKeyring(d.proxy.cfg.Trust, source)
	sockets, err := d.open(ctx)
	if err != nil {
		return false, err
	}
	defer sockets.close()

	ctx, fail := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer fail(nil)
	part := func(name string, f func() error) {
		parts.Go(func() { fail(fmt.Errorf("%s: %w", name, f())) })
	}
	inbound, err := d.newInbound(ctx)
	if err != nil {
		return false, err
	}
	defer inbound.Close()
	dns := d.newDNS(ctx)
	defer dns.Close()
	for _, s := range sockets {
		part("HBONE", func() error { return inbound.Serve(ctx, s.hbone) })
		part("SOCKS5", func() error { return d.serveSOCKS(ctx, s.socks) })
		part("DNS over TCP", func() error { return dns.Serve(s.dnsTCP) })
		part("DNS over UDP", func() error { return dns.ServePacket(s.dnsUDP) })
	}
	d.setReady(true)
	defer d.setReady(false)
	<-ctx.Done()
	return true, context.Cause(ctx)
}

func (d *pod) setReady(ready bool) {
	d.ready.Store(ready)
	d.proxy.progress.announce()
}

// close ends everything of the pod at once, and waits.
func (d *pod) close() {
	d.cancel()
	<-d.done
}

// canServe reports whether w can go on with the sockets and the certificate
// that the pod has.
func (d *pod) canServe(w *endpoints.Workload) bool {
	return slices.Equal(d.addresses, w.Addresses) && d.workload.Load().Identity() == w.Identity()
}

// update brings what is known of the pod and its open connections up to date.
func (d *pod) update(w *endpoints.Workload, policies *authz.Set) {
	if d.workload.Swap(w) == w && d.checked == policies {
		return
	}
	d.checked = policies
	d.recheck()
}

func (d *pod) uid() string { return d.workload.Load().UID }

// sockets are those of one address of a pod.
type sockets struct {
	hbone, socks, dnsTCP net.Listener
	dnsUDP               net.PacketConn
}

// podSockets are those of all addresses of a pod.
type podSockets []sockets

// open listens on the proxy's ports on each address of the pod.
func (d *pod) open(ctx context.Context) (podSockets, error) {
	var all podSockets
	for _, ip := range d.addresses {
		s, err := d.openOn(ctx, ip)
		all = append(all, s)
		if err != nil {
			all.close()
			return nil, err
		}
	}
	return all, nil
}

func (d *pod) openOn(ctx context.Context, ip netip.Addr) (s sockets, err error) {
	at := func(port uint16) string { return netip.AddrPortFrom(ip, port).String() }
	if s.hbone, err = d.network.Listen(ctx, "tcp", at(InboundPort)); err != nil {
		return s, err
	}
	if s.socks, err = d.network.Listen(ctx, "tcp", at(SOCKSPort)); err != nil {
		return s, err
	}
	if s.dnsTCP, err = d.network.Listen(ctx, "tcp", at(DNSPort)); err != nil {
		return s, err
	}
	s.dnsUDP, err = d.network.ListenPacket(ctx, "udp", at(DNSPort))
	return s, err
}

func (all podSockets) close() {
	for _, s := range all {
		for _, l := range []net.Listener{s.hbone, s.socks, s.dnsTCP} {
			if l != nil {
				l.Close()
			}
		}
		if s.dnsUDP != nil {
			s.dnsUDP.Close()
		}
	}
}

func (d *pod) newTransport() *hbone.Transport {
	return &hbone.Transport{
		DialContext:         d.network.DialContext,
		MaxStreamsPerTunnel: d.proxy.cfg.MaxStreamsPerTunnel,
		MaxTunnelAge:        d.proxy.cfg.MaxTunnelAge,
		Logger:              d.proxy.cfg.Logger,
	}
}

func (d *pod) transport() *hbone.Transport { return d.outbound.Load() }

// resetTransport closes the pod's outbound tunnels.
func (d *pod) resetTransport() error {
	return d.outbound.Swap(d.newTransport()).Close()
}
