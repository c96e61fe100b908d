// Package istiod is a control plane for clusters that are described by
// directories of Kubernetes objects:
//
//	east/*.yaml --watch--> facts --+                  +--> view of node proxies  --xDS--> ztunnel
//	                               +--> endpoints.Mesh+--> view of gateways      --xDS--> gateway
//	west/*.yaml --watch--> facts --+                  +--> views of other networks
//	(its "remote secret")                 CA ------------> certificates --gRPC--> both
//
// It serves discovery and certificates on one TLS port, to callers that it
// knows by a bearer token. Each client gets the view of its own network, so
// that proxies of any cluster may ask any control plane.
//
// Whether a service is seen by other clusters is decided by both sides: by the
// MeshConfig of the cluster that has it and by that of this control plane.
//
// A directory that becomes wrong, or vanishes, changes nothing: the last good
// state stays and the log says which file and line. It talks to no API server.
package istiod
