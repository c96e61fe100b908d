// Package kubemesh turns the Kubernetes objects of one cluster into facts for
// a mesh of clusters, as istiod does:
//
//	kubefile.Snapshot --> Convert --> Facts --> Since(last) --> endpoints.Change --> endpoints.Mesh
//	                                    |
//	                                    '--> Policies, Warnings
//
// Pods, WorkloadEntries, the endpoints of ServiceEntries and the EndpointSlices
// of Services without a selector become workloads; Services and ServiceEntries
// become services; Gateways of the classes istio-east-west and istio-remote
// become network gateways, and so do those of other classes that have a network
// and pass sidecars' TLS through by SNI; any Gateway with an address can be a
// waypoint.
//
// istiod reads AuthorizationPolicies, PeerAuthentications, GatewayClasses and
// the MeshConfig from its own cluster only. So a remote cluster is converted
// with Config.Home set to the Snapshot of istiod's own.
//
// A pod is on the network that its label topology.istio.io/network names, else
// its Node's label, else meshNetworks' fromCidr, else on its cluster's. Each pod
// of a global headless Service that has a hostname becomes a service, too, so
// that it can be addressed by its name from other networks. In none of this
// istiod does the same: see Config.Compat.
//
// Whatever an object says that has no effect is a Warning.
//
// # What it does not do
//
// It allocates no addresses (Config.VIPs does), writes no status, and merges
// no clusters: that is for package endpoints. L7 policies and routes are for
// waypoints, which configure themselves elsewhere. Unlike istiod it does not
// repeat the WorkloadEntries of its own cluster in every remote one.
package kubemesh
