// Package discovery is what a proxy knows of the mesh: it keeps the services,
// workloads and authorization policies that a control plane sends, in a form
// to look things up in.
//
//	istiod --- xds.Client ---> State ---> Index()    which service, which workload?
//	                                 ---> Policies() may this connection be?
//
// The node proxy and the gateway of the examples stand on it.
package discovery
