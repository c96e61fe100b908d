// Package gateway is an east-west gateway: the way into a network for the
// rest of the mesh.
//
//	other network --HBONE :15008--> gateway --bytes--> pod:15008 (ztunnel)
//	               outer CONNECT               inner TLS, end to end
//
// It ends the outer tunnel, whose client must be of the mesh, finds a backend
// of the service that the CONNECT names, or of that service's waypoint, and
// relays bytes. Those are the inner tunnel: it can neither read nor forge them.
// What it serves is what the control plane shows it: global services with
// backends on its own network. It dials nothing else.
package gateway
