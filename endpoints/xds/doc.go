// Package xds is a client and a server of aggregated discovery (ADS), the protocol in which
// Envoy, ztunnel and istiod exchange configuration, in its incremental ("delta") variant.
//
//	   Update, Replace                                   Type.Handle
//	          |                                               ^
//	          v                    gRPC                       |  Update{Upserts, Removals}
//	Source: Collection                                        |
//	          |                                               |
//	       Server  <== DeltaAggregatedResources ==>  Client --+-- Store: a FileStore
//
// It carries named, versioned bytes of any type, and knows nothing of what they mean: put a codec
// such as packages wds, eds or nds at both ends. The wire is that of Istio: the [Client] follows
// a real istiod, and the [Server] serves a real ztunnel.
//
// # Nothing is lost
//
// A client whose stream breaks keeps everything that it has, and tells the next stream the
// version of each resource (initial_resource_versions): the server sends what has changed, and
// names what is gone. With a [Store] this holds over a restart of the client, too. A resource that
// Handle refuses does not hold up the rest of its response; it is named to the server, and asked
// for again at the next reconnect.
//
// istiod takes requests of up to 4 MiB, in which the names and versions of about 40,000 workloads
// fit. A client that holds more says so, and a [Server] has it go on in further requests before it
// answers. istiod does not know that: a client lists as many as fit, and gets the others again; those
// missing in the first answer are gone. Where a [Server] has to send an answer in several responses,
// the nonces of all but the last end in ";more", which says that it is not complete yet.
//
// # One change is cheap
//
// The resources of a [Collection] are encoded once, by whoever fills it, and shared by all clients that
// see it. So are whole responses, as gRPC sends them, among clients that follow everything: what is
// in flight to a thousand slow clients is in memory once. There is no queue per client: a client
// that is slow gets the latest state of each name when it is ready for it. One that does not read at
// all is disconnected after Server.SendTimeout, and loses nothing by that.
//
// # What it does not do
//
// It does not interpret resources, keep an order between types, or honour the TTL of a resource.
// It does not authenticate anyone by itself: the server has a hook for that, and the client's
// credentials are those of its gRPC connection. It does not choose between control planes; a
// gRPC resolver does. The client speaks delta discovery only.
package xds
