package endpoints

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/eastwest-mesh/eastwest/internal/pmap"
)

// Role is what a client of a view does with it.
type Role uint8

// The roles of clients.
const (
	NodeProxy   Role = iota // sees what its workloads may reach, other networks through their gateways
	GatewayRole             // sees only global services, their waypoints, and what backs them on its own network
	Sidecar                 // as NodeProxy, but other networks by locality, through the gateways that have an SNI port
)

// String returns node-proxy, gateway or sidecar.
func (r Role) String() string { return enumName("Role", int(r), "node-proxy", "gateway", "sidecar") }

// A Client stands for all clients that see the mesh alike.
type Client struct {
	Network string
	Cluster string // services that are not global are seen only from their cluster, and its own copy is preferred
	Role    Role
}

// A View is the mesh as one Client sees it. It follows the mesh until it is closed. It is safe for
// concurrent use.
type View struct {
	mesh   *Mesh
	shared *sharedView
	once   sync.Once
	closed chan struct{}
}

// A sharedView is what the views of equal clients have in common. The mesh's lock guards users, gateways,
// waypoints and far.
type sharedView struct {
	client    Client
	users     int
	gateways  []string // names of the workloads that stand for gateways
	waypoints waypointUsers
	far       farSet // the latest; what changed in the hidden part is no new state
	current   atomic.Pointer[Snapshot]

	mu   sync.Mutex
	next chan struct{} // closed when there is a newer state; nil: nobody waits
}

// advance makes a state the current one, and wakes those who wait for it.
func (v *sharedView) advance(s *Snapshot) {
	v.current.Store(s)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.next != nil {
		close(v.next)
		v.next = nil
	}
}

// after returns what is closed when there is a newer state than s.
func (v *sharedView) after(s *Snapshot) <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.next == nil {
		v.next = make(chan struct{})
	}
	next := v.next
	if v.current.Load() != s { // there is one already
		close(next)
		v.next = nil
	}
	return next
}

// View returns the view of a client. The caller closes it. A view takes memory for as long as it is open: do
// not open one for whatever network or cluster a peer claims to be of.
func (m *Mesh) View(c Client) *View {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.views[c]
	if v == nil {
		v = &sharedView{client: c, waypoints: make(waypointUsers), far: m.newFarSet(c)}
		v.current.Store(&Snapshot{far: farSet{network: c.Network}})
		m.views[c] = v
		m.build(v)
	}
	v.users++
	return &View{mesh: m, shared: v, closed: make(chan struct{})}
}

// Client returns whose view it is.
func (v *View) Client() Client { return v.shared.client }

// Snapshot returns the current state, after Close the last one. It never blocks.
func (v *View) Snapshot() *Snapshot { return v.shared.current.Load() }

// Watch yields what is in the view (all of it, or the difference to since if that is not nil) and then each
// change, until ctx is done, or the view is closed and its last state was yielded. Changes that happen
// while the caller is busy come together, each name once with its latest state: a slow caller costs no more
// memory than the state that it has seen last. The Snapshot is the state that the Delta leads to: give it
// to Watch to go on later.
func (v *View) Watch(ctx context.Context, since *Snapshot) iter.Seq2[*Snapshot, Delta] {
	return func(yield func(*Snapshot, Delta) bool) {
		for first := true; ctx.Err() == nil; first = false {
			last := v.isClosed() // then this is what there is to see
			state := v.shared.current.Load()
			if d := state.Since(since); first || !d.Empty() {
				if !yield(state, d) {
					return
				}
			}
			if last {
				return
			}
			since = state
			select {
			case <-v.shared.after(state):
			case <-v.closed:
			case <-ctx.Done():
			}
		}
	}
}

func (v *View) isClosed() bool {
	select {
	case <-v.closed:
		return true
	default:
		return false
	}
}

// Close gives the view up. Once all who asked for it have closed it, the mesh stops maintaining it. It is
// idempotent.
func (v *View) Close() error {
	v.once.Do(func() {
		close(v.closed)
		v.mesh.mu.Lock()
		defer v.mesh.mu.Unlock()
		v.shared.users--
		if v.shared.users == 0 {
			delete(v.mesh.views, v.shared.client)
		}
	})
	return nil
}

// A Snapshot is an immutable state of a view. It holds workloads packed: each call makes new ones.
type Snapshot struct {
	version   uint64
	services  pmap.Map[string, *Service]
	workloads pmap.Set[*packed] // of the client's network, and for gateways
	far       farSet
}

// Version counts the changes of the view. It means nothing outside of this process.
func (s *Snapshot) Version() uint64 { return s.version }

// Len returns the number of resources.
func (s *Snapshot) Len() int { return s.services.Len() + s.workloads.Len() + s.far.Len() }

// Get returns the resource of that name.
func (s *Snapshot) Get(name string) (Resource, bool) {
	if service, ok := s.services.Get(name); ok {
		return Resource{Service: service}, true
	}
	w := findPacked(s.workloads, name)
	if w == nil {
		w = s.far.find(name)
	}
	if w == nil {
		return Resource{}, false
	}
	return Resource{Workload: w.unpack()}, true
}

// All yields all resources in no particular order.
func (s *Snapshot) All() iter.Seq[Resource] {
	return func(yield func(Resource) bool) {
		for _, service := range s.services.All() {
			if !yield(Resource{Service: service}) {
				return
			}
		}
		for _, workloads := range []iter.Seq[*packed]{s.workloads.All(), s.far.shown()} {
			for w := range workloads {
				if !yield(Resource{Workload: w.unpack()}) {
					return
				}
			}
		}
	}
}

// Since returns what changed from old, nil being the empty state, to s. It costs about as much as there are
// changes, if both are states of one view.
func (s *Snapshot) Since(old *Snapshot) Delta {
	if old == nil {
		old = &Snapshot{far: farSet{network: s.far.network}}
	}
	var d Delta
	pmap.Diff(old.services, s.services, func(x pmap.Change[string, *Service]) {
		switch {
		case x.New == nil:
			d.Removed = append(d.Removed, x.Key)
		case !x.New.Equal(x.Old): // it may have changed and changed back
			d.Upserts = append(d.Upserts, Resource{Service: x.New})
		}
	})
	workload := func(old, now *packed) {
		switch {
		case now == nil:
			d.Removed = append(d.Removed, old.uid)
		case !now.equal(old):
			d.Upserts = append(d.Upserts, Resource{Workload: now.unpack()})
		}
	}
	pmap.DiffSets(old.workloads, s.workloads, samePacked, workload)
	diffFar(old.far, s.far, workload)
	sortResources(d.Upserts)
	slices.Sort(d.Removed)
	return d
}

// sortResources sorts by name. Names are made once, not at each comparison: those of services are put together.
func sortResources(all []Resource) {
	type named struct {
		name string
		Resource
	}
	byName := make([]named, len(all))
	for i, r := range all {
		byName[i] = named{r.Name(), r}
	}
	slices.SortFunc(byName, func(a, b named) int { return strings.Compare(a.name, b.name) })
	for i := range byName {
		all[i] = byName[i].Resource
	}
}
