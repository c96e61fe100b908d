package endpoints

import "time"

// A Service is a name, with addresses and ports, that workloads stand behind.
// Once handed to this package or received from it, it must not be changed.
type Service struct {
	Name      string // short name, as in Kubernetes
	Namespace string
	Hostname  string // full name, e.g. reviews.app.svc.cluster.local

	// Addresses are the service's virtual addresses, of all networks. A service without any is headless.
	// In a fact given to a Mesh, an empty network means the network of the cluster.
	Addresses  []NetworkAddress
	Ports      []Port
	IPFamilies IPFamilies

	// SubjectAltNames are SPIFFE IDs that a backend may have besides its own. Behind a gateway, where
	// the client cannot know the backend, they are the only ones.
	SubjectAltNames []string

	LoadBalancing      *LoadBalancing // nil: all endpoints alike
	Waypoint           *GatewayAddress
	WeightedWaypoints  []WeightedWaypoint
	IngressUseWaypoint bool

	Canonical  bool // the one that a client in another namespace means by the hostname
	Visibility Visibility
	Extensions []Extension
	Unknown    []byte // fields of a newer peer, encoded; kept as they are

	// What follows is not on the wire.

	Scope Scope
	// Refused are the clusters, sorted, that do not accept the service although its own exports it: their
	// clients do not see this copy of it.
	Refused []string
	// Instance says that it is one backend of another service, known by a name of its own: see ForPod.
	// Clients of a cluster that has it see that cluster's alone.
	Instance bool
	Created  time.Time // when its cluster made it; decides between copies
}

// Key returns "namespace/hostname", which names the service in the whole mesh.
func (s *Service) Key() string { return ServiceKey(s.Namespace, s.Hostname) }

// ServiceKey returns "namespace/hostname".
func ServiceKey(namespace, hostname string) string { return namespace + "/" + hostname }

// ForPod returns a service that is one pod of s, a headless service, under a name of its own: that of the pod
// before that of s, as Kubernetes resolves it for the pods of a StatefulSet.
//
//	s.ForPod("db-0").Hostname == "db-0.db.app.svc.cluster.local"
//
// A cluster that tells of both, and names both in the Services of the pod, makes the pod one that other
// networks can address: their clients see a service of one backend behind a gateway, which takes the name as
// it takes that of any service.
func (s *Service) ForPod(hostname string) *Service {
	pod := *s
	pod.Name, pod.Hostname = hostname+"."+s.Name, hostname+"."+s.Hostname
	pod.Addresses, pod.Instance = nil, true
	return &pod
}

// LoadBalancing says which endpoints of a service a client prefers.
type LoadBalancing struct {
	Mode         BalanceMode
	Preference   []RoutingScope // most important first
	HealthPolicy HealthPolicy
}
