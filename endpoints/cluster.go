package endpoints

import (
	"net/netip"
	"slices"
	"time"
)

// A Cluster is one source of facts.
type Cluster struct {
	ID          string // no slash
	Network     string // of its pods and services that do not say their own
	TrustDomain string // empty: cluster.local
	Local       bool   // the cluster of the control plane itself; at most one

	// Ranges say which workloads are on another network, by their first address, unless they name a network
	// themselves. Of several that contain it, the longest counts.
	Ranges []NetworkAddress
}

// Equal reports whether c and o are the same.
func (c Cluster) Equal(o Cluster) bool {
	return c.ID == o.ID && c.Network == o.Network && c.TrustDomain == o.TrustDomain && c.Local == o.Local &&
		slices.Equal(c.Ranges, o.Ranges)
}

// networkOf returns the network of a workload that names none.
func (c *Cluster) networkOf(w *Workload) string {
	if len(w.Addresses) == 0 {
		return c.Network
	}
	network, longest := c.Network, -1
	first := w.Addresses[0].Unmap()
	for _, r := range c.Ranges {
		if r.Prefix.Bits() > longest && r.Prefix.Contains(first) {
			network, longest = r.Network, r.Prefix.Bits()
		}
	}
	return network
}

// ClusterStatus is what a Mesh knows of a cluster.
type ClusterStatus struct {
	Cluster
	Stale      bool      // its facts may be out of date
	StaleSince time.Time // as told to SetStale
	Expired    bool      // it was stale for too long, so that its facts were dropped
	Services   int
	Workloads  int
	Gateways   int
}

// A Gateway is an east-west gateway: how a network is entered from another.
type Gateway struct {
	Namespace string
	Name      string
	Network   string // the network behind it; empty means the network of the cluster that tells of it

	// Addresses and Hostnames are where other networks reach it: one or more in all.
	Addresses []netip.Addr
	Hostnames []string

	HBONEPort      uint16 // 0: 15008, which names it as istiod does
	NoHBONE        bool   // it serves no HBONE: it is for sidecars only, at SNIPort
	SNIPort        uint16 // where it passes sidecars' TLS through by SNI (15443); 0: nowhere
	ServiceAccount string // with Namespace, the identity it must prove; empty: Name, as in istiod
	Weight         uint32 // its share of what goes through the gateways of a cluster; 0: 1
	Health         Health // an unhealthy one is passed over as long as there is another
}

// Key returns "namespace/name", which names the gateway in its cluster.
func (g *Gateway) Key() string { return g.Namespace + "/" + g.Name }

// A Change is news from one cluster. What it brings replaces what has the same name.
type Change struct {
	Cluster string
	Resync  bool // the Change is the cluster's whole state: what it does not bring is gone

	Services  []*Service
	Workloads []*Workload
	Gateways  []*Gateway

	RemovedServices  []string // Service.Key
	RemovedWorkloads []string // Workload.UID
	RemovedGateways  []string // Gateway.Key
}
