package endpoints

import "strconv"

// The numbers of the enums below are those of Istio's workload API, except where said otherwise.

// Scope says whether other clusters may see a service. It is not on the wire.
type Scope uint8

// The scopes of a service.
const (
	ScopeLocal  Scope = iota // seen in its own cluster only
	ScopeGlobal              // one service in all clusters of the mesh
)

// String returns LOCAL or GLOBAL.
func (s Scope) String() string { return enumName("Scope", int(s), "LOCAL", "GLOBAL") }

// Health says whether new connections may go to a workload.
type Health uint8

// The states of health.
const (
	Healthy Health = iota
	Unhealthy
)

// String returns HEALTHY or UNHEALTHY.
func (h Health) String() string { return enumName("Health", int(h), "HEALTHY", "UNHEALTHY") }

// TunnelProtocol is what a workload accepts besides plain TCP.
//
// Istio's third value, LEGACY_ISTIO_MTLS, has no place here: like ztunnel, nobody that reads
// this model can speak it, and to take it for plain TCP would be worse than to refuse it.
type TunnelProtocol uint8

// The tunnel protocols.
const (
	TunnelNone TunnelProtocol = iota
	TunnelHBONE
)

// String returns NONE or HBONE.
func (t TunnelProtocol) String() string {
	return enumName("TunnelProtocol", int(t), "NONE", "HBONE")
}

// WorkloadType is the kind of controller that made a workload. Istio's own control plane says POD for
// everything that it synthesizes.
type WorkloadType uint8

// The types of workloads.
const (
	Deployment WorkloadType = iota
	CronJob
	Pod
	Job
)

// String returns DEPLOYMENT, CRONJOB, POD or JOB.
func (t WorkloadType) String() string {
	return enumName("WorkloadType", int(t), "DEPLOYMENT", "CRONJOB", "POD", "JOB")
}

// NetworkMode says whether a workload's addresses are its own.
type NetworkMode uint8

// The network modes.
const (
	StandardNetwork NetworkMode = iota
	HostNetwork                 // it shares its node's addresses, so that it cannot be found by them
)

// String returns STANDARD or HOST_NETWORK.
func (m NetworkMode) String() string {
	return enumName("NetworkMode", int(m), "STANDARD", "HOST_NETWORK")
}

// AppProtocol is what an application speaks on a port.
type AppProtocol uint8

// The application protocols.
const (
	AppUnknown AppProtocol = iota
	AppHTTP11
	AppHTTP2
	AppGRPC
	AppTCP
	AppTLS
)

// String returns UNKNOWN, HTTP11, HTTP2, GRPC, TCP or TLS.
func (p AppProtocol) String() string {
	return enumName("AppProtocol", int(p), "UNKNOWN", "HTTP11", "HTTP2", "GRPC", "TCP", "TLS")
}

// IPFamilies are the address families that a service may be reached over.
type IPFamilies uint8

// The sets of address families.
const (
	IPAutomatic IPFamilies = iota // those of its addresses
	IPv4Only
	IPv6Only
	DualStack
)

// IPFamiliesOf returns the set of the families that are there.
func IPFamiliesOf(v4, v6 bool) IPFamilies {
	switch {
	case v4 && v6:
		return DualStack
	case v4:
		return IPv4Only
	case v6:
		return IPv6Only
	}
	return IPAutomatic
}

// String returns AUTOMATIC, IPV4_ONLY, IPV6_ONLY or DUAL.
func (f IPFamilies) String() string {
	return enumName("IPFamilies", int(f), "AUTOMATIC", "IPV4_ONLY", "IPV6_ONLY", "DUAL")
}

// Visibility says from where a service may be found by name and by address.
type Visibility uint8

// The visibilities of a service.
const (
	VisiblePublic    Visibility = iota // from everywhere
	VisibleNamespace                   // from its own namespace only
)

// String returns PUBLIC or NAMESPACE.
func (v Visibility) String() string { return enumName("Visibility", int(v), "PUBLIC", "NAMESPACE") }

// BalanceMode says how a service's routing preference is to be used.
type BalanceMode uint8

// The modes of balancing.
const (
	ModeUnspecified BalanceMode = iota // all endpoints alike
	ModeStrict                         // only endpoints that match the whole preference
	ModeFailover                       // the endpoints that match most of it
	ModePassthrough                    // no choice: the address that the client dialled
)

// String returns UNSPECIFIED_MODE, STRICT, FAILOVER or PASSTHROUGH.
func (m BalanceMode) String() string {
	return enumName("BalanceMode", int(m), "UNSPECIFIED_MODE", "STRICT", "FAILOVER", "PASSTHROUGH")
}

// RoutingScope is one step of a routing preference: what client and endpoint should have in common.
type RoutingScope uint8

// The steps of a routing preference.
const (
	SameUnspecified RoutingScope = iota
	SameRegion
	SameZone
	SameSubzone
	SameNode
	SameCluster
	SameNetwork
)

// String returns UNSPECIFIED_SCOPE, REGION, ZONE, SUBZONE, NODE, CLUSTER or NETWORK.
func (s RoutingScope) String() string {
	return enumName("RoutingScope", int(s), "UNSPECIFIED_SCOPE", "REGION", "ZONE", "SUBZONE", "NODE", "CLUSTER", "NETWORK")
}

// HealthPolicy says whether a service's unhealthy endpoints may be chosen.
type HealthPolicy uint8

// The health policies.
const (
	OnlyHealthy HealthPolicy = iota
	AllowAll
)

// String returns ONLY_HEALTHY or ALLOW_ALL.
func (p HealthPolicy) String() string {
	return enumName("HealthPolicy", int(p), "ONLY_HEALTHY", "ALLOW_ALL")
}

// AppTunnelProtocol is how the last proxy hands a connection to a workload that is itself a proxy.
type AppTunnelProtocol uint8

// The ways to hand a connection over.
const (
	AppTunnelNone  AppTunnelProtocol = iota
	AppTunnelPROXY                   // PROXY protocol v2
)

// String returns NONE or PROXY.
func (p AppTunnelProtocol) String() string {
	return enumName("AppTunnelProtocol", int(p), "NONE", "PROXY")
}

// enumName also names values that a newer peer may have sent.
func enumName(kind string, v int, names ...string) string {
	if v < len(names) {
		return names[v]
	}
	return kind + "(" + strconv.Itoa(v) + ")"
}
