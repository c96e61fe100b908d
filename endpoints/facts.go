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
	services   map[string]serviceFact
	workloads  map[string]workloadFact
	gateways   map[string]gatewayFact
}

// What a cluster told, and the same with what it left to the cluster filled in. Where nothing was left
// open, both are one.
type (
	serviceFact struct{ told, full *Service }
	gatewayFact struct{ told, full *Gateway }
)

// A workloadFact keeps only the full form, and what was filled in: there are too many to keep two.
type workloadFact struct {
	full                 *Workload
	network, trustDomain bool
}

func newCluster(c Cluster) *cluster {
	return &cluster{
		Cluster:   c,
		services:  make(map[string]serviceFact),
		workloads: make(map[string]workloadFact),
		gateways:  make(map[string]gatewayFact),
	}
}

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
func (c *cluster) fillWorkload(w *Workload) workloadFact {
	f := workloadFact{w, w.Network == "", w.TrustDomain == ""}
	full := *w
	full.Cluster = c.ID
	if f.network {
		full.Network = c.Network
	}
	if f.trustDomain {
		full.TrustDomain = c.TrustDomain
	}
	full.TrustDomain = elideTrustDomain(full.TrustDomain)
	sorted := slices.IsSortedFunc(w.Services, compareServicePorts)
	if sorted && full.Cluster == w.Cluster && full.Network == w.Network && full.TrustDomain == w.TrustDomain {
		return f
	}
	if !sorted {
		full.Services = slices.Clone(w.Services)
		slices.SortFunc(full.Services, compareServicePorts)
	}
	f.full = &full
	return f
}

// refillWorkload fills a fact in again after the cluster changed.
func (c *cluster) refillWorkload(f workloadFact) workloadFact {
	told := *f.full
	if f.network {
		told.Network = ""
	}
	if f.trustDomain {
		told.TrustDomain = ""
	}
	return c.fillWorkload(&told)
}

func elideTrustDomain(td string) string {
	if td == DefaultTrustDomain {
		return ""
	}
	return td
}

func (c *cluster) status() ClusterStatus {
	return ClusterStatus{
		Cluster: c.Cluster, Stale: c.stale, StaleSince: c.staleSince,
		Services: len(c.services), Workloads: len(c.workloads), Gateways: len(c.gateways),
	}
}
