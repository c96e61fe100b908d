package istiod

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/eastwest-mesh/eastwest/dnsproxy/nds"
	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/eds"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
)

// views serve each client the mesh as it sees it. Clients that see the same
// share one collection, in which every change is encoded once.
type views struct {
	mesh     *endpoints.Mesh
	logger   *slog.Logger
	places   *atomic.Pointer[places]
	policies xds.Collection
	resolver eds.Resolver  // of gateways that are known by name
	moved    chan struct{} // filled when the names may be others

	mu     sync.Mutex
	shared map[audience]*sharedView
	closed bool
	wg     sync.WaitGroup // of the goroutines that follow
}

// An audience is all clients that are sent the same resources of a type.
type audience struct {
	typeURL string
	cluster string
	// network is what the clients say. If empty, it is that of their cluster,
	// whatever that is at the moment.
	network   string
	role      endpoints.Role
	namespace string // where it matters: of name tables, and of an Envoy
	envoy     envoy
}

// A sharedView is the collection of an audience, which one goroutine keeps up
// to date.
type sharedView struct {
	audience   audience
	collection xds.Collection
	filled     chan struct{} // closed when the collection holds the first state

	assignments assignments // of Envoys; for the goroutine only

	// Guarded by views.mu.
	view  *endpoints.View
	users int
}

func newViews(mesh *endpoints.Mesh, logger *slog.Logger) *views {
	return &views{mesh: mesh, logger: logger, places: new(atomic.Pointer[places]), moved: make(chan struct{}, 1), shared: map[audience]*sharedView{}}
}

// Collection implements xds.Source.
func (v *views) Collection(ctx context.Context, info xds.ClientInfo, typeURL string) (*xds.Collection, error) {
	caller, ok := info.Peer.(Caller)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no caller")
	}
	to := audience{typeURL: typeURL, cluster: caller.Cluster, network: networkOf(info.Node)}
	switch typeURL {
	case wds.AuthorizationTypeURL:
		return &v.policies, nil
	case wds.AddressTypeURL:
		var err error
		if to.role, err = roleOf(info.Node.ID); err != nil {
			return nil, err
		}
	case nds.TypeURL:
		// An agent's names are those of a sidecar, whatever it stands beside.
		to.role, to.namespace = endpoints.Sidecar, caller.Namespace
	case eds.TypeURL:
		if to.envoy, to.role, ok = envoyOf(info.Node); !ok {
			return nil, nil
		}
		to.namespace = caller.Namespace
	default:
		return nil, nil
	}
	return v.join(ctx, to)
}

// join returns the collection of an audience, which is kept while any client of
// it is connected.
func (v *views) join(ctx context.Context, to audience) (*xds.Collection, error) {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return nil, status.Error(codes.Unavailable, "the server is shutting down")
	}
	s := v.shared[to]
	if s == nil {
		s = &sharedView{
			audience: to, filled: make(chan struct{}), view: v.mesh.View(v.client(to)),
			assignments: assignments{to: to, logger: v.logger, resolve: v.resolver.Addrs},
		}
		v.shared[to] = s
		v.wg.Go(func() { v.follow(s) })
	}
	s.users++
	v.mu.Unlock()
	context.AfterFunc(ctx, func() { v.leave(s) })
	select {
	case <-s.filled:
		return &s.collection, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// client says as whom an audience sees the mesh at the moment.
func (v *views) client(to audience) endpoints.Client {
	c := endpoints.Client{Network: to.network, Cluster: to.cluster, Role: to.role}
	if c.Network == "" {
		c.Network = v.places.Load().clusters[to.cluster]
	}
	return c
}

func (v *views) leave(s *sharedView) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.users--; s.users > 0 {
		return
	}
	if v.shared[s.audience] == s {
		delete(v.shared, s.audience)
	}
	_ = s.view.Close() // which never fails
}

// relocate gives the audiences whose cluster is on another network than before
// the view of that.
func (v *views) relocate() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	for _, s := range v.shared {
		if v.client(s.audience) != s.view.Client() {
			v.replace(s)
		}
	}
}

// replace gives an audience another view, of which it looks at everything. The
// caller holds the lock.
func (v *views) replace(s *sharedView) {
	before := s.view
	s.view = v.mesh.View(v.client(s.audience))
	_ = before.Close() // which makes follow look for the next one
}

// rebuild makes the endpoints of all Envoys again.
func (v *views) rebuild() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	for _, s := range v.shared {
		if s.audience.typeURL == eds.TypeURL {
			v.replace(s)
		}
	}
}

// resolveGateways follows the addresses of gateways that are known by name, for
// Envoys, until ctx ends.
func (v *views) resolveGateways(ctx context.Context) {
	defer v.resolver.Close()
	for {
		v.resolver.Follow(v.places.Load().gatewayNames...)
		select {
		case <-v.resolver.Changes():
			v.rebuild()
		case <-v.moved:
		case <-ctx.Done():
			return
		}
	}
}

// move takes in that things are elsewhere than before, which may be nil.
func (v *views) move(before *places) {
	v.relocate()
	if before != nil && !maps.Equal(before.mutual, v.places.Load().mutual) {
		v.rebuild()
	}
	select {
	case v.moved <- struct{}{}:
	default:
	}
}

// follow keeps a collection up to date until its view is closed for good.
func (v *views) follow(s *sharedView) {
	fill := sync.OnceFunc(func() { close(s.filled) })
	var last *endpoints.Snapshot
	for view := v.next(s, nil); view != nil; view = v.next(s, view) {
		first := true
		for snapshot, delta := range view.Watch(context.Background(), last) {
			v.publish(s, view.Client(), snapshot, delta, first)
			last, first = snapshot, false
			fill()
		}
	}
	fill()
}

// next returns the view that came in the place of one that was closed, if there
// is one.
func (v *views) next(s *sharedView, after *endpoints.View) *endpoints.View {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.view == after {
		return nil
	}
	return s.view
}

// publish tells an audience of a change of its view; first says that the view is
// another one.
func (v *views) publish(s *sharedView, client endpoints.Client, snapshot *endpoints.Snapshot, delta endpoints.Delta, first bool) {
	switch s.audience.typeURL {
	case wds.AddressTypeURL:
		s.collection.Update(v.encode(delta), delta.Removed)
		return
	case eds.TypeURL:
		s.collection.Update(s.assignments.update(client, delta, v.places.Load().mutual, first))
		return
	}
	table, err := nameTable(snapshot, client, s.audience.namespace, v.places.Load().pods)
	if err != nil {
		v.logger.Error("a name table cannot be sent", "namespace", s.audience.namespace, "error", err)
		return
	}
	s.collection.Update([]xds.Resource{{Body: table}}, nil)
}

func (v *views) encode(delta endpoints.Delta) []xds.Resource {
	upserts := make([]xds.Resource, 0, len(delta.Upserts))
	for _, r := range delta.Upserts {
		body, err := wds.EncodeAddress(r)
		if err != nil {
			v.logger.Error("a resource cannot be sent", "resource", r.Name(), "error", err)
			continue
		}
		upserts = append(upserts, xds.Resource{
			Name:    r.Name(),
			Version: wds.Version(body),
			Body:    body,
			Aliases: wds.Aliases(r),
			With:    servicesOf(r),
		})
	}
	return upserts
}

// servicesOf names the services that bring a workload along, for clients that
// ask for single services.
func servicesOf(r endpoints.Resource) []string {
	if r.Workload == nil {
		return nil
	}
	names := make([]string, len(r.Workload.Services))
	for i, s := range r.Workload.Services {
		names[i] = s.Service
	}
	return names
}

// close ends all views, and waits. Clients that come later are refused.
func (v *views) close() {
	v.mu.Lock()
	v.closed = true
	for _, s := range v.shared {
		_ = s.view.Close() // which never fails
	}
	v.mu.Unlock()
	v.wg.Wait()
}

// networkOf is the network that a node says it is on; empty if it says none.
func networkOf(n xds.Node) string {
	network, _ := n.Metadata["NETWORK"].(string)
	return network
}

// roleOf reads the type that a node's ID begins with.
func roleOf(nodeID string) (endpoints.Role, error) {
	switch kind, _, _ := strings.Cut(nodeID, "~"); kind {
	case "ztunnel":
		return endpoints.NodeProxy, nil
	case "router", "waypoint":
		return endpoints.GatewayRole, nil
	case "sidecar":
		return endpoints.Sidecar, nil
	default:
		return 0, status.Errorf(codes.InvalidArgument, "node type %.20q is none of ztunnel, router, waypoint and sidecar", kind)
	}
}
