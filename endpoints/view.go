package endpoints

import (
	"context"
	"iter"
)

// Role is what a client of a view does with it.
type Role uint8

const (
	NodeProxy   Role = iota // sees what its workloads may reach, other networks through their gateways
	GatewayRole             // sees only global services and what backs them on its own network
	Sidecar                 // as NodeProxy; other networks through gateways' SNI ports, by locality
)

// String returns node-proxy, gateway or sidecar.
func (r Role) String() string { return enumName("Role", int(r), "node-proxy", "gateway", "sidecar") }

// A Client stands for all clients that see the mesh alike.
type Client struct {
	Network string
	Cluster string // its own copy of a service is preferred; services that are not global are seen only from their cluster
	Role    Role
}

// A View is the mesh as one Client sees it. It is safe for concurrent use. It follows the mesh until it is closed.
type View struct{}

// Client returns whose view it is.
func (v *View) Client() Client { panic("not implemented") }

// Snapshot returns the current state. It costs nothing and never blocks.
func (v *View) Snapshot() *Snapshot { panic("not implemented") }

// Watch yields what is in the view (all of it, or the difference to since if that is not nil), then each change, until ctx is done
// or the view is closed. Changes that happen while the caller is busy come together, each name once with its latest state: a slow caller costs no memory
// beyond the state it has last seen. The Snapshot is the state that the Delta leads to: give it to Watch to go on later.
func (v *View) Watch(ctx context.Context, since *Snapshot) iter.Seq2[*Snapshot, Delta] {
	panic("not implemented")
}

// Close gives the view up. When all who asked for it have closed it, the mesh stops maintaining it. It is idempotent.
func (v *View) Close() error { panic("not implemented") }

// A Snapshot is an immutable state of a view.
type Snapshot struct{}

// Version counts the changes of the view. It means nothing outside this process.
func (s *Snapshot) Version() uint64 { panic("not implemented") }

// Len returns the number of resources.
func (s *Snapshot) Len() int { panic("not implemented") }

// Get returns the resource of that name.
func (s *Snapshot) Get(name string) (Resource, bool) { panic("not implemented") }

// All yields all resources in no particular order.
func (s *Snapshot) All() iter.Seq[Resource] { panic("not implemented") }

// Since returns what changed from old, nil being the empty state, to s. It costs as much as there are changes.
func (s *Snapshot) Since(old *Snapshot) Delta { panic("not implemented") }
