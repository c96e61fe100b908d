package istiod

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
)

// views serve each client the mesh as it sees it. Clients that see the same
// share one collection, in which every change is encoded once.
type views struct {
	mesh     *endpoints.Mesh
	logger   *slog.Logger
	describe func(xds.ClientInfo) endpoints.Client
	policies xds.Collection

	mu     sync.Mutex
	shared map[endpoints.Client]*sharedView
	wg     sync.WaitGroup
}

type sharedView struct {
	view       *endpoints.View
	collection xds.Collection
	users      int
}

func newViews(mesh *endpoints.Mesh, logger *slog.Logger) *views {
	return &views{mesh: mesh, logger: logger, shared: map[endpoints.Client]*sharedView{}}
}

// Collection implements xds.Source.
func (v *views) Collection(ctx context.Context, info xds.ClientInfo, typeURL string) (*xds.Collection, error) {
	switch typeURL {
	case wds.AuthorizationTypeURL:
		return &v.policies, nil
	case wds.AddressTypeURL:
		return v.addresses(ctx, v.describe(info)), nil
	}
	return nil, nil
}

// addresses returns the collection of a client's view, which is kept while any
// of its clients is connected.
func (v *views) addresses(ctx context.Context, client endpoints.Client) *xds.Collection {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.shared[client]
	if s == nil {
		s = &sharedView{view: v.mesh.View(client)}
		first := s.view.Snapshot()
		s.collection.Update(v.encode(first.Since(nil)))
		v.shared[client] = s
		v.wg.Go(func() { v.follow(s, first) })
	}
	s.users++
	context.AfterFunc(ctx, func() { v.release(client, s) })
	return &s.collection
}

// follow keeps a collection up to date until its view is closed.
func (v *views) follow(s *sharedView, since *endpoints.Snapshot) {
	for _, delta := range s.view.Watch(context.Background(), since) {
		if !delta.Empty() {
			s.collection.Update(v.encode(delta))
		}
	}
}

func (v *views) release(client endpoints.Client, s *sharedView) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(v.shared, client)
		s.view.Close()
	}
}

func (v *views) encode(delta endpoints.Delta) (upserts []xds.Resource, removals []string) {
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
	return upserts, delta.Removed
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

// setPolicies replaces the authorization policies, which are the same for all.
func (v *views) setPolicies(policies []*wds.Authorization) error {
	resources := make([]xds.Resource, len(policies))
	for i, p := range policies {
		body, err := wds.EncodeAuthorization(p)
		if err != nil {
			return err
		}
		resources[i] = xds.Resource{Name: p.ResourceName(), Version: wds.Version(body), Body: body}
	}
	v.policies.Replace(resources)
	return nil
}

// close ends all views, and waits. Clients must be gone.
func (v *views) close() {
	v.mu.Lock()
	for _, s := range v.shared {
		s.view.Close()
	}
	v.mu.Unlock()
	v.wg.Wait()
}

// roleOf reads the type that a node's ID begins with.
func roleOf(nodeID string) endpoints.Role {
	kind, _, _ := strings.Cut(nodeID, "~")
	switch kind {
	case "router", "waypoint":
		return endpoints.GatewayRole
	case "sidecar":
		return endpoints.Sidecar
	default:
		return endpoints.NodeProxy
	}
}
