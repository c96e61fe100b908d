// Package eastwest is the root of an SDK of multicluster mesh primitives that
// speak Istio ambient's wire protocols.
//
// It holds no code. Import the package that you need; none of the six depends
// on another:
//
//	hbone      tunnels: nested HTTP/2 CONNECT over mTLS, as net.Conns
//	identity   SPIFFE identities: who we are and whom we accept on a hop
//	scope      ServiceScope: which services other clusters may see
//	endpoints  a mesh of clusters, and the view that each client has of it
//	dnsproxy   names and virtual addresses for what the mesh knows
//	lb         which endpoint a new connection goes to
//
// The folder examples composes them into a working node proxy, east-west
// gateway and control plane; "go run ./examples/mesh" shows two clusters at
// work in one process.
package eastwest
