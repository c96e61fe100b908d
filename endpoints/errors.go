package endpoints

import "strings"

// A FactError says which fact a Mesh refused, and why. The last good state of the object, if any, stays.
type FactError struct {
	Cluster string
	Object  string // "Service app/reviews.app.svc.cluster.local", "Workload east//Pod/app/a"; empty: the cluster itself
	Field   string // e.g. "Services[0].Ports"; empty: the object as a whole
	Problem string
}

// Error returns "endpoints: cluster east: Workload east//Pod/app/a: Addresses[0]: invalid address".
func (e *FactError) Error() string {
	parts := []string{"endpoints: cluster " + e.Cluster}
	for _, p := range []string{e.Object, e.Field, e.Problem} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ": ")
}

// A VIPError says that a service that only other networks have could not be given an address here.
// The service is published without one.
type VIPError struct {
	Service string // "namespace/hostname"
	Err     error
}

func (e *VIPError) Error() string {
	return "endpoints: no address for " + e.Service + ": " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *VIPError) Unwrap() error { return e.Err }
