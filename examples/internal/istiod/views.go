package istiod

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/eastwest-mesh/eastwest/dnsproxy/nds"
	"github.com/eastwest-mesh/eastwest/endpoints"
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
	namespace string // of name tables, where it matters
}

// A sharedView is the collection of an audience, which one goroutine keeps up
// to date.
type sharedView struct {
	audience   audience
	collection xds.Collection
	filled     chan struct{} // closed when the collection holds the first state

	// Guarded by views.mu.
	view  *endpoints.View
	users int
}

func newViews(mesh *endpoints.Mesh, logger *slog.Logger) *views {
	return &views{mesh: mesh, logger: logger, places: new(atomic.Pointer[places]), shared: map[audience]*sharedView{}}
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
		s = &sharedView{audience: to, filled: make(chan struct{}), view: v.mesh.View(v.client(to))}
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
		if client := v.client(s.audience); client != s.view.Client() {
			before := s.view
			s.view = v.mesh.View(client)
			_ = before.Close() // which makes follow look for the next one
		}
	}
}

// follow keeps a collection up to date until its view is closed for good.
func (v *views) follow(s *sharedView) {
	fill := sync.OnceFunc(func() { close(s.filled) })
	var last *endpoints.Snapshot
	for view := v.next(s, nil); view != nil; view = v.next(s, view) {
		for snapshot, delta := range view.Watch(context.Background(), last) {
			v.publish(s, view.Client(), snapshot, delta)
			last = snapshot
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

func (v *views) publish(s *sharedView, client endpoints.Client, snapshot *endpoints.Snapshot, delta endpoints.Delta) {
	if s.audience.typeURL == wds.AddressTypeURL {
		s.collection.Update(v.encode(delta), delta.Removed)
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
