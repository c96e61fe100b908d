// Package xds is a client and a server of aggregated discovery (ADS), the protocol in which
// Envoy, ztunnel and istiod exchange configuration, in its incremental ("delta") variant.
//
//	   Source                                         Type.Handle
//	     |                                                 ^
//	Collection  <- Update            gRPC                  |  Update{Upserts, Removals}
//	     |                                                 |
//	  Server  <==== DeltaAggregatedResources ====>  Client ---- Store (a file)
//
// It carries named, versioned bytes of any type, and knows nothing of what they mean: put
// packages wds, eds or nds at both ends.
package xds
