package lb

import "fmt"

// Locality is where something runs. Fields are compared for equality, so that
// two empty ones match, as in ztunnel.
type Locality struct {
	Network string
	Cluster string
	Region  string
	Zone    string
	Subzone string
	Node    string
}

// Health of a target, numbered as WDS numbers WorkloadStatus.
type Health int

const (
	// Healthy targets are used.
	Healthy Health = iota
	// Unhealthy targets are used if the HealthPolicy is AllowAll.
	Unhealthy
)

// String returns Healthy or Unhealthy.
func (h Health) String() string {
	return name("Health", int(h), "Healthy", "Unhealthy")
}

// A Target is something that a connection can go to.
type Target[T any] struct {
	// Value is what Pick returns: an address, a workload, a path.
	Value T

	// Key identifies the target across Updates, so that its open connections,
	// failures and ID are carried over. Keys must differ; a target with no key
	// is a new one in every Update.
	Key string

	Locality

	// Gateway by which the target is reached, for draining; empty if none.
	Gateway string

	// Weight is the target's share of the traffic of its rank, relative to the
	// others: its capacity in WDS. 0 means never; where capacity is not set,
	// say 1.
	Weight uint32

	// Health as the control plane or a probe sees it.
	Health Health
}

// An ID names a target of one Balancer for as long as it is there.
type ID uint64

// A TargetError says which target Update refused, and why.
type TargetError struct {
	Index  int
	Key    string
	Reason string
}

func (e *TargetError) Error() string {
	return fmt.Sprintf("lb: target %d (key %q): %s", e.Index, e.Key, e.Reason)
}

// name returns the i-th of names, or a number where there is none.
func name(kind string, i int, names ...string) string {
	if i < 0 || i >= len(names) {
		return fmt.Sprintf("%s(%d)", kind, i)
	}
	return names[i]
}
