// Package ztunnel is a node proxy: it carries the connections of a node's pods
// through the mesh, and lets into them what their policies allow.
//
//	app --SOCKS5 :15080--> outbound --HBONE--> another node's ztunnel, a waypoint,
//	app --DNS :15053-----> names                or a gateway and through it either
//	app <------plain------ inbound <--HBONE :15008--
//
// Each pod of the node has its own listeners, in its own network, and its own
// certificate. What the proxy knows of the mesh is a discovery.State.
//
// Nothing is served before all services and workloads are known, and nobody is
// let in before all policies are: what is not known yet would be taken for the
// outside, or for allowed.
//
// # What it does not do
//
// It captures no traffic by itself (that needs a pod's network namespace):
// applications come to it through SOCKS5, and only from the pod itself. It is no
// waypoint, and lets nobody in to a workload that wants the PROXY protocol
// (an application tunnel). A single workload of another network cannot be
// reached, only services.
package ztunnel
