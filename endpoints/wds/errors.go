package wds

// A FieldError says which field of a resource cannot be decoded or encoded, and why. The resource is
// to be refused as a whole; others are not affected.
type FieldError struct {
	Resource string // its name; empty if it has none
	Field    string // as in Istio's .proto, e.g. "workload.addresses[0]"; empty: the resource as a whole
	Problem  string
	Err      error // what the protobuf library said, if it did
}

// Error returns "wds: resource east//Pod/app/a: workload.addresses[0]: 5 bytes are not an IP address".
func (e *FieldError) Error() string {
	s := "wds: resource " + e.Resource
	if e.Field != "" {
		s += ": " + e.Field
	}
	if e.Problem != "" {
		s += ": " + e.Problem
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the error of the protobuf library, if any.
func (e *FieldError) Unwrap() error { return e.Err }
