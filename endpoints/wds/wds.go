package wds

import (
	"hash/fnv"
	"strconv"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// Type URLs of the resources that this package encodes and decodes.
const (
	AddressTypeURL       = "type.googleapis.com/istio.workload.Address"  // a service or a workload: what node proxies subscribe to
	WorkloadTypeURL      = "type.googleapis.com/istio.workload.Workload" // a workload alone
	AuthorizationTypeURL = "type.googleapis.com/istio.security.Authorization"
)

// Version returns a version of a resource's bytes: equal for equal bytes, in every process. Peers take
// versions as opaque; istiod makes them with another hash.
func Version(body []byte) string {
	h := fnv.New64a()
	h.Write(body) // never fails
	return strconv.FormatUint(h.Sum64(), 16)
}

// Aliases returns the other names under which a resource may be asked for on demand: "network/ip" for each
// address of a workload, "network/ip" or "network/ip/length" for each of a service.
func Aliases(r endpoints.Resource) []string {
	var names []string
	if r.Service != nil {
		for _, a := range r.Service.Addresses {
			names = append(names, a.String())
		}
	}
	if r.Workload != nil {
		for _, a := range r.Workload.Addresses {
			names = append(names, r.Workload.Network+"/"+a.String())
		}
	}
	return names
}
