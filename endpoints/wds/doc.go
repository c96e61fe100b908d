// Package wds is the wire form of Istio's workload discovery: what a control plane and a node proxy say to each
// other about services, workloads and authorization policies.
package wds
