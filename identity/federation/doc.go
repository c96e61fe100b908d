// Package federation keeps the roots of other trust domains current, by
// SPIFFE's bundle endpoints, and serves our own to them.
//
//	 trust domain east                              trust domain west
//	+---------------------------+     HTTPS       +------------------+
//	| Bundles <-----------------+-----------------+- Handler         |
//	|  | bundle of west         |                 |                  |
//	|  v                        |                 |                  |
//	| identity.Config.Bundles   |      mTLS       |                  |
//	|   Credentials ------------+-----------------+- a workload      |
//	+---------------------------+                 +------------------+
//
// Meshes with different roots and different trust domains become one mesh in
// that way: each root vouches for its own trust domain and for no other.
//
// Both profiles of the SPIFFE Federation specification are there: https_web,
// where the web's PKI says who the endpoint is, and https_spiffe, where it has
// a SPIFFE ID, verified by the bundle that was fetched before; the first one
// is given. A bundle is fetched again when its refresh hint says so. What fails
// is tried again, and the last good bundle stays in use: on disk as well, if
// there is a Dir.
//
// # What it does not do
//
// It accepts nobody: whose identities are accepted is said by identity.Peers.
// It reads the roots of X.509 certificates in a bundle, and no JWT keys. It
// does not run an HTTP server.
package federation
