// Package ztunnel is a node proxy: it carries the connections of a node's pods
// through the mesh, and lets into them what their policies allow.
//
//	app --SOCKS5 :15080--> outbound --HBONE--> another node's ztunnel
//	app --DNS :15053-----> names                or a gateway, and through it
//	app <------plain------ inbound <--HBONE :15008--
//
// Each pod of the node has its own listeners, in its own network, and its own
// certificate. What the proxy knows of the mesh is a discovery.State.
//
// It captures no traffic by itself (that needs a pod's network namespace):
// applications come to it through SOCKS5.
package ztunnel
