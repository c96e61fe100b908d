// Package eds is Envoy's endpoint discovery: which endpoints a proxy balances over, as that proxy can
// reach them, and its wire form.
//
//	endpoints.Index ── Service.Endpoints ──┐
//	                                       ├──> Builder.Build(Client, Target) ──> Assignment ── Encode ──> Envoy
//	Resolver ──> Gateways ─────────────────┘                                                     (package xds)
//
// A [Builder] makes the [Assignment] of one cluster of one [Client]: the split horizon of sidecars. Endpoints
// that the client's network reaches stay as they are. Those on another network are replaced by its gateways,
// in the locality of the endpoints that they stand for, so that locality-aware balancing prefers what is
// near on both sides of a gateway. Weights are multiplied by the least common multiple of the numbers of
// gateways, so that what goes through several divides among them without a remainder. A sidecar crosses to
// another network by mutual TLS that the gateway passes through by SNI, so endpoints without mutual TLS are
// not shown from there; a waypoint crosses by one HBONE tunnel inside of another.
//
// The endpoints may be facts, or a view of package endpoints: there, workloads already stand for gateways,
// and are shown as such. Facts give exact weights; a view shares capacity in whole numbers.
//
// # Where it differs from istiod
//
// The shape is istiod's, and so are addresses, names and metadata. These rules are ours:
//
//   - Gateways that the client cannot use, for want of a port or of an address family, are passed over
//     before it is asked whether the endpoint's cluster has gateways of its own.
//   - Gateways have weights and health, as in package endpoints. An address is listed once in a locality.
//   - Weights that would overflow are scaled down together, in place of wrapping around.
//   - A service's routing preference becomes priorities; the rank of an endpoint behind a gateway is that of
//     the endpoint.
//   - Of an endpoint's addresses only those of families that the client supports are shown.
//
// # What it does not do
//
// It knows nothing of xDS: an assignment is encoded once and served by package xds. It does not read
// DestinationRules or PeerAuthentications: [Target] takes what follows from them. It does not select
// subsets: the caller passes the endpoints of one.
package eds
