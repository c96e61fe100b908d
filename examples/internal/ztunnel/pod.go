package ztunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
)

// A pod is what the proxy does for one pod: its sockets, its certificate, its
// tunnels.
type pod struct {
	proxy    *Proxy
	workload atomic.Pointer[endpoints.Workload]
	network  PodNetwork
	source   identity.Source
	release  func()

	inbound   *hbone.Server
	dns       *dnsproxy.Server
	socks     net.Listener
	admitted  sync.Map // *hbone.Conn to admission
	outbound  atomic.Pointer[hbone.Transport]
	cancel    context.CancelFunc
	serving   sync.WaitGroup
	sockets   []interface{ Close() error }
	closeOnce sync.Once
}

// startPod fetches the pod's certificate and opens its sockets.
func (p *Proxy) startPod(ctx context.Context, w *endpoints.Workload) (_ *pod, err error) {
	id, err := spiffeid.FromString(w.Identity())
	if err != nil {
		return nil, fmt.Errorf("identity of %s: %w", w.UID, err)
	}
	source, release, err := p.cfg.Certificates.Source(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", id, err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d := &pod{proxy: p, network: p.cfg.Pod(w.Addresses[0]), source: source, release: release, cancel: cancel}
	d.workload.Store(w)
	d.outbound.Store(d.newTransport())
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if err := d.startInbound(ctx); err != nil {
		return nil, err
	}
	if err := d.startDNS(ctx); err != nil {
		return nil, err
	}
	if err := d.startSOCKS(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// sameSockets reports whether w can go on with the sockets and the certificate
// that the pod has.
func (d *pod) sameSockets(w *endpoints.Workload) bool {
	old := d.workload.Load()
	return slices.Equal(old.Addresses, w.Addresses) && old.Identity() == w.Identity()
}

func (d *pod) listen(ctx context.Context, port int) (net.Listener, error) {
	l, err := d.network.Listen(ctx, "tcp", ":"+strconv.Itoa(port))
	if err == nil {
		d.sockets = append(d.sockets, l)
	}
	return l, err
}

// serve runs f until the pod is closed.
func (d *pod) serve(what string, f func() error) {
	d.serving.Go(func() {
		if err := f(); err != nil && !errors.Is(err, net.ErrClosed) {
			d.proxy.cfg.Logger.Error("a pod's listener failed", "listener", what, "workload", d.workload.Load().UID, "error", err)
		}
	})
}

// close ends everything of the pod at once, and waits.
func (d *pod) close() {
	d.closeOnce.Do(func() {
		d.cancel()
		for _, s := range d.sockets {
			s.Close()
		}
		if d.inbound != nil {
			d.inbound.Close()
		}
		if d.dns != nil {
			d.dns.Close()
		}
		d.transport().Close()
		d.serving.Wait()
		d.release()
	})
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

// address returns the pod's own address with a port.
func (d *pod) address(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(d.workload.Load().Addresses[0], port)
}

// credentials are for dialling those who have one of the given identities.
func (d *pod) credentials(peers identity.Peers) (*identity.Credentials, error) {
	return identity.NewClient(identity.Config{Source: d.source, Peers: peers})
}
