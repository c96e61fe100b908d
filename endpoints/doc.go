// Package endpoints holds what is known of a mesh of clusters, and shows it to each client as that client
// can reach it.
//
//	cluster east ── Change ──┐           ┌── View (node proxies on network east)   ── wds ──> ztunnel
//	                         ├──> Mesh ──┼── View (gateway of network east)         ── wds ──> east-west gateway
//	cluster west ── Change ──┘           ├── View (node proxies on network west)   ── wds ──> ztunnel
//	                                     │                                                       │
//	                                     │                        lookups <── Index <── Delta ───┘
//	                                     └── View (sidecars on network west)       ── eds ──> Envoy
//
// A [Mesh] takes facts from any number of clusters: services, workloads, gateways. It merges services by
// namespace sameness, and keeps one [View] for all clients that are on the same network, belong to the same
// cluster and have the same [Role]. A view is the split horizon of such clients: what is on their network
// as it is, and for each global service what is on other networks as workloads that stand for the gateways
// there. Views change by name, a little at a time, and depend on the facts alone, not on the order in which
// they came.
//
// An [Index] is the other end: it answers the questions of a proxy about what a view sent it. Package wds
// is the wire between the two. Package eds makes of the services and workloads of a view, or of facts, what an
// Envoy balances over. Package xds carries both.
//
// # How services are merged
//
// Copies of a service are those with equal namespace and hostname. A client of a cluster where the service
// is local sees that copy only. A client of any other cluster sees the copies that are global as one: all
// their addresses, all their subject alternative names, and everything else from one copy: that of the
// client's cluster, else of the control plane's, else the oldest, else that of the first cluster by ID.
// Where copies disagree, [Mesh.Conflicts] says so, for as long as they do.
//
// # What other networks look like
//
// For each cluster on another network that has backends of a global service there is one workload for each
// gateway that leads to them: those that the cluster itself told of, else all of that network whose own
// cluster sees the service there. Unhealthy gateways are passed over while there are others. The workload has
// no address, and those of the service's ports that a backend there has; its capacity is that of the healthy
// backends, shared among the gateways by weight, its locality what they have in common, and it is
// unhealthy if all of them are. Where a service also has unhealthy endpoints served ([AllowAll]), they
// count too. Gateways themselves are workloads of the view, so that a client knows which identities to
// expect. The service's SubjectAltNames say which identities the backends behind them have.
//
// With [Istio] chosen as [Compat], views show instead what istiod shows: names, identities and capacities
// included.
//
// # Single pods
//
// The pods of a headless service have addresses that mean nothing on other networks. A cluster that tells of
// [Service.ForPod] for them gives them names that do: each is a service of one backend, with an address from
// Config.VIPs where the client's cluster has no such pod. Package mcs has such names, and services, for what
// is exported by the Multi-Cluster Services API.
//
// # What it does not do
//
// It does not read Kubernetes, talk to anyone, or decide what is global: facts come with a Scope. It does
// not choose an endpoint. It starts no goroutine and keeps no timer: that a cluster is stale must be said
// ([Mesh.SetStale]), and when time has passed ([Mesh.Expire]). Views for sidecars hold what Envoy needs, but
// not in Envoy's form: that is for package eds.
package endpoints
