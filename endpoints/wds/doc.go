// Package wds is the wire form of Istio's workload discovery: what a control plane and a node proxy say to
// each other about services, workloads and authorization policies.
//
//	endpoints.Resource ── EncodeAddress ──> istio.workload.Address ── DecodeAddress ──> endpoints.Resource
//	wds.Authorization ── EncodeAuthorization ──> istio.security.Authorization ── DecodeAuthorization ──> wds.Authorization
//
// Bytes are the same as those of Istio's own encoder, so that equal resources have equal versions. Decoding
// refuses what cannot be used as it is meant, with a *FieldError that names resource and field: one
// resource, not the others that came with it.
//
// # What it does not do
//
// It knows nothing of xDS: how resources are asked for, sent and acknowledged is for package xds. It does
// not judge policies.
package wds
