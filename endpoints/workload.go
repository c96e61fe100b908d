package endpoints

import "net/netip"

// A Workload is what serves: a pod, a virtual machine, an external address, a network gateway, or
// (in a view) a gateway standing for the workloads of a service on another network.
// Once handed to this package or received from it, it must not be changed.
type Workload struct {
	UID       string // unique in the mesh; in facts it begins with the cluster's ID and a slash, as in istiod
	Name      string
	Namespace string
	Cluster   string
	Network   string // in a fact given to a Mesh, empty means the network of the cluster

	Addresses []netip.Addr
	Hostname  string         // to resolve, where there are no addresses
	Services  []ServicePorts // the services that it backs, each once; sorted in views

	TrustDomain       string // empty: the mesh's default, cluster.local
	ServiceAccount    string
	Tunnel            TunnelProtocol
	NativeTunnel      bool // it terminates the tunnel itself
	NetworkMode       NetworkMode
	ApplicationTunnel *ApplicationTunnel
	Waypoint          *GatewayAddress // through which it must be reached
	NetworkGateway    *GatewayAddress // through which it must be reached from another network

	Health   Health
	Capacity *uint32 // weight among endpoints; nil: 1; 0: never chosen
	Locality Locality
	Node     string

	Type              WorkloadType
	WorkloadName      string
	CanonicalName     string
	CanonicalRevision string

	AuthorizationPolicies []string // "namespace/name" of policies that select it
	Extensions            []Extension
	Unknown               []byte // fields of a newer peer, encoded; kept as they are
}

// ServicePorts says that a workload backs a service, and on which of its ports: no others are there.
type ServicePorts struct {
	Service string // "namespace/hostname"
	Ports   []Port
}

// ApplicationTunnel says that a workload is a proxy, and how to hand it a connection.
type ApplicationTunnel struct {
	Protocol AppTunnelProtocol
	Port     uint16
}

// Weight returns the workload's capacity, which is 1 unless it says otherwise.
func (w *Workload) Weight() uint32 {
	if w.Capacity == nil {
		return 1
	}
	return *w.Capacity
}

// Ports returns the ports on which w backs the service named "namespace/hostname", and whether it does.
func (w *Workload) Ports(service string) ([]Port, bool) {
	for i := range w.Services {
		if w.Services[i].Service == service {
			return w.Services[i].Ports, true
		}
	}
	return nil, false
}

// Identity returns the SPIFFE ID that the workload must prove, with ztunnel's defaults for what is empty:
// trust domain cluster.local, service account default.
func (w *Workload) Identity() string {
	return spiffeID(orDefault(w.TrustDomain, DefaultTrustDomain), w.Namespace, orDefault(w.ServiceAccount, "default"))
}

// DefaultTrustDomain is the trust domain that an empty one stands for.
const DefaultTrustDomain = "cluster.local"

func spiffeID(trustDomain, namespace, account string) string {
	return "spiffe://" + trustDomain + "/ns/" + namespace + "/sa/" + account
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
