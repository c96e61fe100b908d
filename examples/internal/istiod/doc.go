// Package istiod is a control plane for clusters that are described by
// directories of Kubernetes objects:
//
//	east/*.yaml --watch--> facts --+                   +--> view of node proxies  --xDS--> ztunnel
//	                               +--> endpoints.Mesh +--> view of gateways      --xDS--> gateway
//	west/*.yaml --watch--> facts --+                   +--> names of a namespace  --xDS--> sidecar
//	(its "remote secret")                            +--> endpoints of clusters    --xDS--> Envoy
//	                                       CA -----------> certificates ----------gRPC--> all
//
// It serves discovery and certificates on one TLS port, to callers that it
// knows by a bearer token. Each client gets the view of its own network, so
// that proxies of any cluster may ask any control plane. Clients that see the
// same share a view, in which a change is encoded once.
//
// Whether a service is seen by other clusters is decided by both sides: by the
// MeshConfig of the cluster that has it and by that of this control plane.
// Policies are those of the own cluster.
//
// A sidecar, a classic gateway or a waypoint gets the endpoints of its clusters
// (EDS) as its network reaches them, see envoy.go. Whether a pod takes Istio's
// mutual TLS is what its label security.istio.io/tlsMode says; a gateway for
// sidecars stands for all backends that its cluster has, whatever they take. With
// istiod's way to show other networks, Envoys see their own network only.
//
// A directory that becomes wrong, or vanishes, changes nothing: the last good
// state stays, the cluster counts as stale, and the log says which file and
// line. A good one is taken over as a whole (see adopt.go).
//
// # What it does not do
//
// It talks to no API server. Its tokens do not expire: they are good for as long
// as the node or gateway is in the objects, and a stream that is open then goes
// on. It reads the files of its CA once. Of an Envoy's configuration it serves
// nothing but endpoints: no listeners, clusters or routes, and no subsets, since
// it reads no DestinationRules.
package istiod
