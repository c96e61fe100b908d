package endpoints

import (
	"net/netip"
	"time"
)

// Compat chooses between this package's way to show other networks and istiod's.
type Compat uint8

const (
	// Native shows one workload for each (network, cluster, gateway), with the capacity of healthy backends only and their common locality.
	Native Compat = iota
	// Istio shows exactly what istiod shows: one for each network, through one gateway, counting unhealthy backends.
	Istio
)

// Config configures a Mesh. The zero value works.
type Config struct {
	Compat Compat // default: Native

	// VIPs gives addresses to global services that have none on a client's network.
	// If nil, such services have no address there. Ignored with Compat Istio.
	VIPs VIPs
}

// VIPs hands out virtual addresses. Calls come one at a time.
type VIPs interface {
	// Assign returns the addresses of a host: always the same ones until it is released.
	Assign(hostname string) ([]netip.Addr, error)
	// Release says that a host needs its addresses no more.
	Release(hostname string)
}

// A Mesh merges what any number of clusters tell, and serves views of it. All methods are safe for concurrent use.
type Mesh struct{}

// New returns an empty mesh.
func New(c Config) *Mesh { panic("not implemented") }

// SetCluster adds a cluster or changes what is known of it. The facts of a cluster that is already there stay.
func (m *Mesh) SetCluster(c Cluster) error { panic("not implemented") }

// RemoveCluster removes a cluster and all that it told. It reports whether the cluster was there.
func (m *Mesh) RemoveCluster(id string) bool { panic("not implemented") }

// SetStale says that a cluster has not been heard since that time: its facts stay, marked. The zero time, or a Change with Resync, says that it is back.
func (m *Mesh) SetStale(id string, since time.Time) error { panic("not implemented") }

// Apply applies changes, in order, as one: views change once. Objects that are not valid are refused, each named by a *FactError in the
// joined error, and keep their last good state; everything else is applied. Removing what is not there is not an error.
func (m *Mesh) Apply(changes ...Change) error { panic("not implemented") }

// View returns the view of a client. The caller closes it.
func (m *Mesh) View(c Client) *View { panic("not implemented") }

// Clusters returns the clusters, sorted by ID.
func (m *Mesh) Clusters() []ClusterStatus { panic("not implemented") }

// Conflicts returns what clusters disagree about at the moment, sorted by service and field.
func (m *Mesh) Conflicts() []Conflict { panic("not implemented") }

// Problems returns what is wrong at the moment besides conflicts, such as a *VIPError.
func (m *Mesh) Problems() []error { panic("not implemented") }
