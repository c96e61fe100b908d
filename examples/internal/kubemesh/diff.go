package kubemesh

import (
	"cmp"
	"slices"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// Since returns what has changed since the facts before, which are of the same
// cluster. With nil, it is everything, and replaces what the mesh has.
//
// The Cluster itself is not in the Change: give it to Mesh.SetCluster first.
func (f *Facts) Since(before *Facts) endpoints.Change {
	change := endpoints.Change{Cluster: f.Cluster.ID}
	if before == nil {
		change.Resync = true
		change.Services, change.Workloads, change.Gateways = f.Services, f.Workloads, f.Gateways
		return change
	}
	change.Services, change.RemovedServices = difference(before.Services, f.Services, (*endpoints.Service).Key, (*endpoints.Service).Equal)
	change.Workloads, change.RemovedWorkloads = difference(before.Workloads, f.Workloads, workloadUID, (*endpoints.Workload).Equal)
	change.Gateways, change.RemovedGateways = difference(before.Gateways, f.Gateways, (*endpoints.Gateway).Key, (*endpoints.Gateway).Equal)
	return change
}

// Unassigned returns the hosts that Config.VIPs was asked for before and no
// longer is.
func (f *Facts) Unassigned(before *Facts) []string {
	var out []string
	if before != nil {
		for _, host := range before.Assigned {
			if _, still := slices.BinarySearch(f.Assigned, host); !still {
				out = append(out, host)
			}
		}
	}
	return out
}

// difference compares two lists of objects that are sorted by key.
func difference[T any](before, after []*T, key func(*T) string, equal func(a, b *T) bool) (changed []*T, removed []string) {
	old := make(map[string]*T, len(before))
	for _, o := range before {
		old[key(o)] = o
	}
	for _, o := range after {
		if was, ok := old[key(o)]; !ok || !equal(was, o) {
			changed = append(changed, o)
		}
		delete(old, key(o))
	}
	for k := range old {
		removed = append(removed, k)
	}
	slices.Sort(removed)
	return changed, removed
}

func workloadUID(w *endpoints.Workload) string { return w.UID }

// finish sorts the facts: the same objects always give the same ones.
func (c *converter) finish() *Facts {
	f := c.facts
	slices.SortFunc(f.Services, func(a, b *endpoints.Service) int { return cmp.Compare(a.Key(), b.Key()) })
	slices.SortFunc(f.Workloads, func(a, b *endpoints.Workload) int { return cmp.Compare(a.UID, b.UID) })
	slices.SortFunc(f.Gateways, func(a, b *endpoints.Gateway) int { return cmp.Compare(a.Key(), b.Key()) })
	slices.Sort(f.Assigned)
	f.Assigned = slices.Compact(f.Assigned)
	sortWarnings(f.Warnings)
	return f
}
