package wds

import (
	"github.com/eastwest-mesh/eastwest/endpoints"
)

// Type URLs of the resources that this package encodes and decodes.
const (
	AddressTypeURL       = "type.googleapis.com/istio.workload.Address"  // a service or a workload: what node proxies subscribe to
	WorkloadTypeURL      = "type.googleapis.com/istio.workload.Workload" // a workload alone
	AuthorizationTypeURL = "type.googleapis.com/istio.security.Authorization"
)

// EncodeAddress returns the istio.workload.Address of a resource, for AddressTypeURL. Equal resources give equal bytes.
func EncodeAddress(r endpoints.Resource) ([]byte, error) { panic("not implemented") }

// DecodeAddress reads an istio.workload.Address that was received under a name. The resource must be what the name says.
func DecodeAddress(name string, body []byte) (endpoints.Resource, error) { panic("not implemented") }

// EncodeAuthorization returns the istio.security.Authorization of a policy. Equal policies give equal bytes.
func EncodeAuthorization(a *Authorization) ([]byte, error) { panic("not implemented") }

// DecodeAuthorization reads an istio.security.Authorization that was received under a name.
func DecodeAuthorization(name string, body []byte) (*Authorization, error) {
	panic("not implemented")
}

// Version returns a version of a resource's bytes: equal for equal bytes, in every process.
func Version(body []byte) string { panic("not implemented") }

// Aliases returns the other names under which a resource may be asked for on demand: "network/ip" and "network/ip/length".
func Aliases(r endpoints.Resource) []string { panic("not implemented") }
