package ztunnel

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/mcs"
)

// updateNames brings the name table in line with the services: Istio sends
// ztunnel no name table, so the services are it.
func (p *Proxy) updateNames(index *endpoints.Index) {
	entries := map[dnsproxy.Key]*endpoints.ServiceEntry{}
	var upserts []dnsproxy.Entry
	for s := range index.Services() {
		entry := p.nameEntry(s)
		key := entry.Key()
		entries[key] = s
		if p.named[key] != s {
			upserts = append(upserts, entry)
		}
	}
	var removals []dnsproxy.Key
	for key := range p.named {
		if entries[key] == nil {
			removals = append(removals, key)
		}
	}
	p.named = entries
	// Normally all is well; else one name that cannot be must not keep out the
	// others. Where it had a form before, that stays.
	if p.names.Update(upserts, removals) == nil {
		return
	}
	for i := range upserts {
		if err := p.names.Update(upserts[i:i+1], nil); err != nil {
			p.cfg.Logger.Warn("a service cannot be named", "error", err)
		}
	}
	if err := p.names.Update(nil, removals); err != nil {
		p.cfg.Logger.Error("names cannot be removed", "error", err)
	}
}

// nameEntry is how a service appears in DNS on our network.
func (p *Proxy) nameEntry(s *endpoints.ServiceEntry) dnsproxy.Entry {
	e := dnsproxy.Entry{
		Host:      s.Hostname,
		Namespace: s.Namespace,
		Registry:  dnsproxy.External,
		Canonical: s.Canonical,
		Private:   s.Visibility == endpoints.VisibleNamespace,
	}
	if strings.HasSuffix(s.Hostname, ".svc."+p.cfg.ClusterDomain) {
		e.Registry = dnsproxy.Kubernetes
		e.ShortName = s.Name
		e.Headless = len(s.Addresses) == 0
	}
	if strings.HasSuffix(s.Hostname, ".svc."+mcs.Domain) {
		e.Headless = len(s.Addresses) == 0 // and clients have no short names for it
	}
	for _, a := range s.Addresses {
		if a.Network == p.cfg.Network && a.IsHost() {
			e.Addresses = append(e.Addresses, a.Addr())
		}
	}
	if e.Headless {
		e.Addresses = p.memberAddresses(s)
	}
	return e
}

// memberAddresses are those of a headless service's endpoints that can be
// reached by address: the ones on our network. They are healthy, or else the
// service says that this does not matter (publishNotReadyAddresses).
func (p *Proxy) memberAddresses(s *endpoints.ServiceEntry) []netip.Addr {
	all := s.LoadBalancing != nil && s.LoadBalancing.HealthPolicy == endpoints.AllowAll
	var addrs []netip.Addr
	for e := range s.Endpoints() {
		w := e.Workload
		if w.Network == p.cfg.Network && (w.Health == endpoints.Healthy || all) {
			addrs = append(addrs, w.Addresses...)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// view is how a pod sees names.
func (d *pod) view() dnsproxy.View {
	return dnsproxy.View{Namespace: d.workload.Load().Namespace, ClusterDomain: d.proxy.cfg.ClusterDomain}
}

// newDNS returns a server for the pod's questions. Upstream servers are asked
// for no longer than ctx.
func (d *pod) newDNS(ctx context.Context) *dnsproxy.Server {
	handler := &dnsproxy.Handler{
		Resolver: &dnsproxy.Resolver{Names: &d.proxy.names},
		View:     d.view(),
		Logger:   d.proxy.cfg.Logger,
	}
	if upstream := d.proxy.cfg.Upstream; upstream != nil {
		handler.Upstream = podUpstream{upstream, ctx}
	}
	return &dnsproxy.Server{Handler: handler, Logger: d.proxy.cfg.Logger}
}

// podUpstream gives up when its pod is not served any more: otherwise a pod
// would take as long to close as an upstream server does not answer.
type podUpstream struct {
	dnsproxy.Exchanger
	served context.Context
}

func (u podUpstream) Exchange(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(u.served, func() { cancel(context.Cause(u.served)) })()
	return u.Exchanger.Exchange(ctx, q)
}

// Sent lets the server notice its own questions, where the Exchanger can.
func (u podUpstream) Sent(from net.Addr, id uint16) bool {
	f, ok := u.Exchanger.(interface{ Sent(net.Addr, uint16) bool })
	return ok && f.Sent(from, id)
}
