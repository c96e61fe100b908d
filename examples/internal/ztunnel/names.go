package ztunnel

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
	"github.com/eastwest-mesh/eastwest/endpoints"
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
	for i := range upserts {
		if err := p.names.Update(upserts[i:i+1], nil); err != nil {
			p.cfg.Logger.Warn("a service cannot be named", "error", err)
		}
	}
	// Removing also stores an empty table, if nothing is named.
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

// memberAddresses are those of a headless service's healthy endpoints that can
// be reached by address: the ones on our network.
func (p *Proxy) memberAddresses(s *endpoints.ServiceEntry) []netip.Addr {
	var addrs []netip.Addr
	for e := range s.Endpoints() {
		w := e.Workload
		if w.Network == p.cfg.Network && w.Health == endpoints.Healthy && len(w.Addresses) > 0 {
			addrs = append(addrs, w.Addresses[0])
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// view is how a pod sees names.
func (d *pod) view() dnsproxy.View {
	return dnsproxy.View{Namespace: d.workload.Load().Namespace, ClusterDomain: d.proxy.cfg.ClusterDomain}
}

// startDNS answers the pod's questions on its own port 15053, UDP and TCP.
func (d *pod) startDNS(ctx context.Context) error {
	d.dns = &dnsproxy.Server{
		Handler: &dnsproxy.Handler{
			Resolver: &dnsproxy.Resolver{Names: &d.proxy.names},
			View:     d.view(),
			Upstream: d.proxy.cfg.Upstream,
			Logger:   d.proxy.cfg.Logger,
		},
		Logger: d.proxy.cfg.Logger,
	}
	tcp, err := d.listen(ctx, DNSPort)
	if err != nil {
		return err
	}
	udp, err := d.listenPacket(ctx, DNSPort)
	if err != nil {
		return err
	}
	d.serve("DNS over TCP", func() error { return d.dns.Serve(tcp) })
	d.serve("DNS over UDP", func() error { return d.dns.ServePacket(udp) })
	return nil
}
