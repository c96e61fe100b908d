package endpoints

import (
	"net/netip"
	"time"
)

// A Cluster is one source of facts.
type Cluster struct {
	ID          string // no slash
	Network     string // of its pods and services that do not say their own
	TrustDomain string // empty: cluster.local
	Local       bool   // the cluster of the control plane itself; at most one
}

// ClusterStatus is what a Mesh knows of a cluster.
type ClusterStatus struct {
	Cluster
	Stale      bool      // its facts may be out of date
	StaleSince time.Time // as told to SetStale
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
