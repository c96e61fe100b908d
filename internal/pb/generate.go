// Package pb holds the protobuf messages that eastwest exchanges with Istio's and Envoy's
// programs.
//
// The field numbers are theirs; the proto package names are ours. The wire knows only the
// numbers, while protobuf's Go runtime allows each full message name once per program: so a
// program may import eastwest together with istio.io/istio, istio.io/api and go-control-plane.
// It follows that an Any is never unpacked through the registry (UnmarshalNew), which does
// not know Istio's names: compare its TypeUrl, and unmarshal its Value.
//
//	workload/v1   workloadpb   istio.workload
//	security/v1   securitypb   istio.security
//	nds/v1        ndspb        istio.networking.nds.v1
//	discovery/v1  discoverypb  envoy.service.discovery.v3
//	endpoint/v1   endpointpb   envoy.config.endpoint.v3
//	ca/v1         capb         istio.v1.auth
//
// The generated code is checked in. "go generate ./internal/pb" writes it anew and needs
// nothing but Go: the compiler is a Go library, pinned in internal/tools.
package pb

//go:generate go run -C ../tools ./protogen -dir ../pb
