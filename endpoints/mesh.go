package endpoints

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Compat chooses between this package's way to show other networks and istiod's.
type Compat uint8

const (
	// Native shows one workload for each (network, cluster, gateway), with the capacity of the healthy
	// backends only, and the locality that they have in common.
	Native Compat = iota
	// Istio shows exactly what istiod shows: one for each network, through one gateway, counting
	// unhealthy backends.
	Istio
)

// String returns native or istio.
func (c Compat) String() string { return enumName("Compat", int(c), "native", "istio") }

// Config configures a Mesh. The zero value works.
type Config struct {
	// Compat is how views show other networks. The default is Native.
	Compat Compat

	// VIPs gives addresses to global services that a client's cluster does not have and that have none on
	// its network. If nil, such services have no address there. It is not used with Compat Istio.
	VIPs VIPs

	// KeepStale is how long the facts of a stale cluster are kept before Expire drops them. The default is 0:
	// for as long as it takes.
	KeepStale time.Duration
}

// A Mesh merges what any number of clusters tell, and serves views of it. The views depend on the facts
// only, not on the order in which they came. All methods are safe for concurrent use.
type Mesh struct {
	config Config

	mu       sync.Mutex
	clusters map[string]*cluster
	local    string // the ID of the local cluster, if any
	services map[string]*serviceState
	fronts   fronts
	// frontsVersion counts the changes of fronts.
	frontsVersion uint64
	kinds         kinds
	views         map[Client]*sharedView
	vips          vipTable
	dirt          dirt
}

// New returns an empty mesh.
func New(c Config) *Mesh {
	return &Mesh{
		config:   c,
		clusters: make(map[string]*cluster),
		services: make(map[string]*serviceState),
		fronts:   make(fronts),
		kinds:    newKinds(),
		views:    make(map[Client]*sharedView),
		vips:     vipTable{source: c.VIPs, hosts: make(map[string]*vipHost)},
		dirt:     newDirt(),
	}
}

// SetCluster adds a cluster or changes what is known of it. The facts of a cluster that is already there stay.
func (m *Mesh) SetCluster(c Cluster) error {
	if c.TrustDomain == "" {
		c.TrustDomain = DefaultTrustDomain
	}
	if err := checkCluster(c); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Local && m.local != "" && m.local != c.ID {
		return &FactError{Cluster: c.ID, Field: "Local", Problem: fmt.Sprintf("cluster %s is the local one already", m.local)}
	}
	have := m.clusters[c.ID]
	switch {
	case have == nil:
		m.clusters[c.ID] = newCluster(c)
	case have.Equal(c):
		return nil
	default:
		m.changeCluster(have, c)
	}
	if c.Local {
		m.local = c.ID
	} else if m.local == c.ID {
		m.local = ""
	}
	m.dirt.all = true
	m.publish()
	return nil
}

// RemoveCluster removes a cluster and all that it told. It reports whether the cluster was there.
func (m *Mesh) RemoveCluster(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.clusters[id]
	if c == nil {
		return false
	}
	m.clear(c)
	delete(m.clusters, id)
	if m.local == id {
		m.local = ""
	}
	m.dirt.all = true // it was the home of some clients, and its trust domain theirs
	m.publish()
	return true
}

// SetStale says that a cluster has not been heard since that time: its facts stay, marked in Clusters. The
// zero time says that it is back; so does a Change with Resync. How long they stay is for Expire to say.
func (m *Mesh) SetStale(id string, since time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.clusters[id]
	if c == nil {
		return unknownCluster(id)
	}
	c.stale, c.staleSince = !since.IsZero(), since
	c.expired = c.expired && c.stale
	return nil
}

// Expire drops the facts of clusters that have been stale for longer than Config.KeepStale, as if the
// clusters had told that they have nothing any more. It returns when to call it next; the zero time if
// nothing is going to expire as things are. The mesh has no clock: whoever calls SetStale calls it.
func (m *Mesh) Expire(now time.Time) (next time.Time) {
	if m.config.KeepStale <= 0 {
		return time.Time{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.clusters {
		if !c.stale || c.expired && c.empty() {
			continue
		}
		if at := c.staleSince.Add(m.config.KeepStale); at.After(now) {
			if next.IsZero() || at.Before(next) {
				next = at
			}
			continue
		}
		m.clear(c)
		c.expired = true
	}
	m.publish()
	return next
}

// Apply applies changes, in order, as one: each view changes at most once. Objects that are not valid are
// refused, each named by a *FactError in the joined error, and keep their last good state; everything else
// is applied. To remove what is not there is not an error. The mesh keeps parts of the objects:
// they must not be changed afterwards.
func (m *Mesh) Apply(changes ...Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for i := range changes {
		c := m.clusters[changes[i].Cluster]
		if c == nil {
			errs = append(errs, unknownCluster(changes[i].Cluster))
			continue
		}
		errs = append(errs, m.apply(c, &changes[i])...)
	}
	m.publish()
	return errors.Join(errs...)
}

func unknownCluster(id string) error {
	return &FactError{Cluster: id, Problem: "unknown cluster"}
}

// Clusters returns the clusters, sorted by ID.
func (m *Mesh) Clusters() []ClusterStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []ClusterStatus
	for _, id := range slices.Sorted(maps.Keys(m.clusters)) {
		all = append(all, m.clusters[id].status())
	}
	return all
}

// Conflicts returns what clusters disagree about at the moment, sorted by service and field.
func (m *Mesh) Conflicts() []Conflict {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Conflict
	for _, key := range slices.Sorted(maps.Keys(m.services)) {
		all = append(all, m.services[key].conflicts...)
	}
	return all
}

// Problems returns what is wrong at the moment besides conflicts, such as a *VIPError.
func (m *Mesh) Problems() []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.vips.problems()
}
