package endpoints

// A Resource is one entry of a view: a Service or a Workload, as in WDS.
type Resource struct {
	Service  *Service
	Workload *Workload
}

// Name returns "namespace/hostname" of a service or the UID of a workload.
func (r Resource) Name() string {
	switch {
	case r.Service != nil:
		return r.Service.Key()
	case r.Workload != nil:
		return r.Workload.UID
	}
	return ""
}

// Equal reports whether r and o hold the same.
func (r Resource) Equal(o Resource) bool {
	return r.Service.Equal(o.Service) && r.Workload.Equal(o.Workload)
}

// A Delta is what changed between two states of a view, by name. Deltas that this package makes are sorted
// by name.
type Delta struct {
	Upserts []Resource
	Removed []string
}

// Empty reports whether nothing changed.
func (d Delta) Empty() bool { return len(d.Upserts) == 0 && len(d.Removed) == 0 }
