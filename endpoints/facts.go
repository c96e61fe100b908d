package endpoints

import (
	"slices"
	"time"
)

// A cluster holds the facts that one cluster told.
type cluster struct {
	Cluster
	stale      bool
	staleSince time.Time
	expired    bool
	services   map[string]serviceFact
	workloads  map[string]*packed
	gateways   map[string]gatewayFact
}

// What a cluster told, and the same with what it left to the cluster filled in. Where nothing was left
// open, both are one.
type (
	serviceFact struct{ told, full *Service }
	gatewayFact struct{ told, full *Gateway }
)

func newCluster(c Cluster) *cluster {
	return &cluster{
		Cluster:   c,
		services:  make(map[string]serviceFact),
		workloads: make(map[string]*packed),
		gateways:  make(map[string]gatewayFact),
	}
}

// empty reports whether the cluster told of nothing.
func (c *cluster) empty() bool { return len(c.workloads)+len(c.services)+len(c.gateways) == 0 }

func (c *cluster) fillService(s *Service) serviceFact {
	open := func(a NetworkAddress) bool { return a.Network == "" }
	if c.Network == "" || !slices.ContainsFunc(s.Addresses, open) {
		return serviceFact{s, s}
	}
	full := *s
	full.Addresses = slices.Clone(s.Addresses)
	for i := range full.Addresses {
		if open(full.Addresses[i]) {
			full.Addresses[i].Network = c.Network
		}
	}
	return serviceFact{s, &full}
}

func (c *cluster) fillGateway(g *Gateway) gatewayFact {
	if g.Network != "" || c.Network == "" {
		return gatewayFact{g, g}
	}
	full := *g
	full.Network = c.Network
	return gatewayFact{g, &full}
}

// fillWorkload also puts the services in order, and leaves the default trust domain out, as it is on the wire.
func (c *cluster) fillWorkload(w *Workload) (Workload, openFields) {
	full, left := *w, openFields{w.Network == "", w.TrustDomain == ""}
	full.Cluster = c.ID
	if left.network {
		full.Network = c.networkOf(w)
	}
	if left.trustDomain {
		full.TrustDomain = c.TrustDomain
	}
	full.TrustDomain = elideTrustDomain(full.TrustDomain)
	if !slices.IsSortedFunc(w.Services, compareServicePorts) {
		full.Services = slices.Clone(w.Services)
		slices.SortFunc(full.Services, compareServicePorts)
	}
	return full, left
}

// told returns a workload as the cluster told of it.
func (p *packed) told() *Workload {
	w := p.unpack()
	if p.open.network {
		w.Network = ""
	}
	if p.open.trustDomain {
		w.TrustDomain = ""
	}
	return w
}

func elideTrustDomain(td string) string {
	if td == DefaultTrustDomain {
		return ""
	}
	return td
}

func (c *cluster) status() ClusterStatus {
	return ClusterStatus{
		Cluster: c.Cluster, Stale: c.stale, StaleSince: c.staleSince, Expired: c.expired,
		Services: len(c.services), Workloads: len(c.workloads), Gateways: len(c.gateways),
	}
}
