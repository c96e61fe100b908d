package endpoints_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

var (
	events = flag.Int("events", 3000, "random events that TestViewsAgainstOracle sends")
	seed   = flag.Uint64("seed", 7, "seed of these")
)

// TestViewsAgainstOracle sends random events to a mesh and holds its views, after each event one and now and
// then all, to an oracle that starts from scratch. At length:
//
//	go test ./endpoints -run TestViewsAgainstOracle -events 100000
func TestViewsAgainstOracle(t *testing.T) {
	for _, compat := range []endpoints.Compat{endpoints.Native, endpoints.Istio} {
		t.Run(compat.String(), func(t *testing.T) {
			g := &generator{rng: rand.New(rand.NewPCG(*seed, uint64(compat))), world: &world{compat: compat, clusters: make(map[string]*worldCluster)}}
			mesh := endpoints.New(endpoints.Config{Compat: compat})
			views := openViews(mesh)
			for i := range *events {
				g.event(t, mesh)
				views[i%len(views)].check(t, g.world, i)
				if i%100 == 0 {
					for _, v := range views {
						v.check(t, g.world, i)
						other := views[g.rng.IntN(len(views))]
						other.check(t, g.world, i)
						v.checkBeside(t, other)
					}
				}
				if i%50 == 0 { // a view that starts in the middle
					n := g.rng.IntN(len(views))
					views[n].Close()
					views[n] = openView(mesh, views[n].Client())
				}
			}
			for _, v := range views {
				v.check(t, g.world, *events)
			}
			g.shuffled(t, views)
		})
	}
}

// TestViewsComeAndGo holds views to the oracle that are opened and closed between events, so that they start
// from what others have, and outlive them.
func TestViewsComeAndGo(t *testing.T) {
	for _, compat := range []endpoints.Compat{endpoints.Native, endpoints.Istio} {
		t.Run(compat.String(), func(t *testing.T) {
			g := &generator{rng: rand.New(rand.NewPCG(*seed, 5)), world: &world{compat: compat, clusters: make(map[string]*worldCluster)}}
			mesh := endpoints.New(endpoints.Config{Compat: compat})
			open := make(map[endpoints.Client]*followed)
			all := clients()
			for i := range *events / 2 {
				g.event(t, mesh)
				if c := all[g.rng.IntN(len(all))]; g.one(4) {
					if v := open[c]; v != nil {
						v.Close()
						delete(open, c)
					} else {
						open[c] = openView(mesh, c)
						open[c].check(t, g.world, i)
					}
				}
				if i%20 == 0 {
					for _, v := range open {
						v.check(t, g.world, i)
					}
				}
			}
		})
	}
}

func clients() []endpoints.Client {
	var all []endpoints.Client
	for _, role := range []endpoints.Role{endpoints.NodeProxy, endpoints.GatewayRole, endpoints.Sidecar} {
		for _, at := range []endpoints.Client{{Network: "n1", Cluster: "c1"}, {Network: "n1", Cluster: "c2"}, {Network: "n2", Cluster: "c2"}, {Network: "", Cluster: "none"}} {
			at.Role = role
			all = append(all, at)
		}
	}
	return all
}

// A followed view is also followed by its deltas.
type followed struct {
	*endpoints.View
	last    *endpoints.Snapshot
	applied map[string]endpoints.Resource
}

func openView(m *endpoints.Mesh, c endpoints.Client) *followed {
	return &followed{View: m.View(c), applied: make(map[string]endpoints.Resource)}
}

func openViews(m *endpoints.Mesh) []*followed {
	var all []*followed
	for _, c := range clients() {
		all = append(all, openView(m, c))
	}
	return all
}

func (f *followed) check(t *testing.T, w *world, event int) {
	t.Helper()
	snapshot := f.Snapshot()
	delta := snapshot.Since(f.last)
	if passed := snapshot.Version() - cmp.Or(f.last, new(endpoints.Snapshot)).Version(); passed == 0 && !delta.Empty() || passed == 1 && delta.Empty() {
		t.Fatalf("event %d, %+v: %d versions later, delta %+v", event, f.Client(), passed, delta)
	}
	for _, name := range delta.Removed {
		if _, ok := f.applied[name]; !ok {
			t.Fatalf("event %d, %+v: %s removed, it was not there", event, f.Client(), name)
		}
		delete(f.applied, name)
	}
	for _, r := range delta.Upserts {
		if old, ok := f.applied[r.Name()]; ok && old.Equal(r) {
			t.Fatalf("event %d, %+v: %s sent again, unchanged", event, f.Client(), r.Name())
		}
		f.applied[r.Name()] = r
	}
	f.last = snapshot
	want := w.view(f.Client())
	if !sameResources(want, f.applied) {
		t.Fatalf("event %d, %+v: -oracle +view\n%s", event, f.Client(), gocmp.Diff(want, f.applied, compareOptions()))
	}
}

// checkBeside holds the other ways to read a state to what deltas led to, beside that of another view.
func (f *followed) checkBeside(t *testing.T, other *followed) {
	t.Helper()
	got := make(map[string]endpoints.Resource)
	for r := range f.last.All() {
		got[r.Name()] = r
	}
	if n := f.last.Len(); n != len(f.applied) || !sameResources(got, f.applied) {
		t.Fatalf("%+v: Len %d, want %d; -deltas +All\n%s", f.Client(), n, len(f.applied), gocmp.Diff(f.applied, got, compareOptions()))
	}
	for name := range other.applied {
		r, ok := f.last.Get(name)
		if want, has := f.applied[name]; ok != has || ok && !r.Equal(want) {
			t.Fatalf("%+v: Get(%s) = %v, %v, want %v, %v", f.Client(), name, r, ok, want, has)
		}
	}
	got = maps.Clone(other.applied)
	d := f.last.Since(other.last)
	for _, name := range d.Removed {
		delete(got, name)
	}
	for _, r := range d.Upserts {
		got[r.Name()] = r
	}
	if !sameResources(got, f.applied) {
		t.Fatalf("from %+v to %+v: -deltas +Since\n%s", other.Client(), f.Client(), gocmp.Diff(f.applied, got, compareOptions()))
	}
}

func sameResources(a, b map[string]endpoints.Resource) bool {
	return maps.EqualFunc(a, b, endpoints.Resource.Equal)
}

// A generator changes a world and a mesh alike.
type generator struct {
	rng   *rand.Rand
	world *world
}

func (g *generator) pick(from ...string) string { return from[g.rng.IntN(len(from))] }

func (g *generator) one(in int) bool { return g.rng.IntN(in) == 0 }

func (g *generator) event(t *testing.T, m *endpoints.Mesh) {
	t.Helper()
	id := g.pick("c1", "c2", "c3")
	c := g.world.clusters[id]
	switch {
	case c == nil || g.one(60):
		g.setCluster(t, m, id)
	case g.one(80):
		delete(g.world.clusters, id)
		if !m.RemoveCluster(id) {
			t.Fatalf("cluster %s was not there", id)
		}
	default:
		var changes []endpoints.Change
		for range 1 + g.rng.IntN(3) {
			changes = append(changes, g.change(c))
		}
		if err := m.Apply(changes...); err != nil {
			t.Fatal(err)
		}
	}
}

func (g *generator) setCluster(t *testing.T, m *endpoints.Mesh, id string) {
	c := g.world.clusters[id]
	if c == nil {
		c = &worldCluster{
			services: make(map[string]*endpoints.Service), workloads: make(map[string]*endpoints.Workload), gateways: make(map[string]*endpoints.Gateway),
		}
		g.world.clusters[id] = c
	}
	c.Cluster = endpoints.Cluster{ID: id, Network: g.pick("n1", "n2", "n3", ""), TrustDomain: g.pick("", "cluster.local", "other.td"), Local: id == "c1" && g.one(2)}
	for range g.rng.IntN(3) {
		c.Ranges = append(c.Ranges, endpoints.NetworkAddress{Network: g.pick("n1", "n2", "n3", ""), Prefix: netip.PrefixFrom(g.addr(), 29+g.rng.IntN(4))})
	}
	if err := m.SetCluster(c.Cluster); err != nil {
		t.Fatal(err)
	}
}

// change changes a few objects of a cluster, or all of them.
func (g *generator) change(c *worldCluster) endpoints.Change {
	ch := endpoints.Change{Cluster: c.ID}
	if g.one(20) {
		ch.Resync = true
		clear(c.services)
		clear(c.workloads)
		clear(c.gateways)
	}
	for range g.rng.IntN(3) {
		s := g.service(c.ID)
		if !ch.Resync && g.one(4) {
			ch.RemovedServices = append(ch.RemovedServices, s.Key())
			delete(c.services, s.Key())
			return ch // removals come after what is new, in one Change
		}
		ch.Services = append(ch.Services, s)
		c.services[s.Key()] = s
	}
	for range g.rng.IntN(4) {
		w := g.workload(c.ID)
		if !ch.Resync && g.one(4) {
			ch.RemovedWorkloads = append(ch.RemovedWorkloads, w.UID)
			delete(c.workloads, w.UID)
			return ch
		}
		ch.Workloads = append(ch.Workloads, w)
		c.workloads[w.UID] = w
	}
	if g.one(4) {
		gw := g.gateway()
		if !ch.Resync && g.one(3) {
			ch.RemovedGateways = append(ch.RemovedGateways, gw.Key())
			delete(c.gateways, gw.Key())
			return ch
		}
		ch.Gateways = append(ch.Gateways, gw)
		c.gateways[gw.Key()] = gw
	}
	return ch
}

func (g *generator) serviceKey() (namespace, hostname string) {
	return g.pick("app", "sys"), g.pick("a.local", "b.local", "wp.local")
}

func (g *generator) addr() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, 0, byte(g.rng.IntN(6))})
}

func (g *generator) ports() []endpoints.Port {
	return [][]endpoints.Port{
		nil,
		{{ServicePort: 80, TargetPort: 8080}},
		{{ServicePort: 80, TargetPort: 8081}, {ServicePort: 443, AppProtocol: endpoints.AppTLS}},
	}[g.rng.IntN(3)]
}

func (g *generator) service(cluster string) *endpoints.Service {
	namespace, hostname := g.serviceKey()
	s := &endpoints.Service{Name: g.pick("a", "b"), Namespace: namespace, Hostname: hostname, Ports: g.ports()}
	if !g.one(3) {
		s.Scope = endpoints.ScopeGlobal
	}
	s.Instance = g.one(8)
	if by := g.pick("c1", "c2", "c3"); g.world.compat == endpoints.Native && by != cluster && g.one(4) {
		s.Refused = []string{by}
	}
	if !g.one(3) {
		s.Created = time.Unix(int64(1+g.rng.IntN(3)), 0)
	}
	for range g.rng.IntN(3) {
		s.Addresses = append(s.Addresses, endpoints.HostAddress(g.pick("", "", "n1", "n2"), g.addr()))
	}
	if g.one(4) {
		s.SubjectAltNames = []string{"spiffe://x/ns/z/sa/" + g.pick("a", "b")}
	}
	if g.one(3) {
		s.LoadBalancing = &endpoints.LoadBalancing{HealthPolicy: endpoints.HealthPolicy(g.rng.IntN(2))}
	}
	switch g.rng.IntN(4) {
	case 0:
		s.Waypoint = &endpoints.GatewayAddress{Namespace: g.pick("app", "sys"), Hostname: "wp.local", Port: 15008}
	case 1:
		s.Waypoint = &endpoints.GatewayAddress{Address: endpoints.HostAddress(g.pick("n1", "n2"), g.addr()), Port: 15008}
	}
	return s
}

func (g *generator) workload(cluster string) *endpoints.Workload {
	w := &endpoints.Workload{
		UID:       fmt.Sprintf("%s//Pod/app/w%d", cluster, g.rng.IntN(8)),
		Namespace: g.pick("app", "sys"), ServiceAccount: g.pick("", "s1", "s2"), TrustDomain: g.pick("", "", "third.td"),
		Network: g.pick("", "", "", "n1", "n2"), Addresses: []netip.Addr{g.addr()},
		Tunnel: endpoints.TunnelProtocol(g.rng.IntN(2)), Health: endpoints.Health(g.rng.IntN(2)),
		Locality: endpoints.Locality{Region: g.pick("r1", "r2"), Zone: g.pick("z1", "z2"), Subzone: g.pick("", "s1")},
	}
	if g.one(3) {
		w.Capacity = new(uint32(g.rng.IntN(4)))
	}
	for range g.rng.IntN(4) {
		key := endpoints.ServiceKey(g.serviceKey())
		if _, ok := w.Ports(key); !ok {
			w.Services = append(w.Services, endpoints.ServicePorts{Service: key, Ports: g.ports()})
		}
	}
	return w
}

func (g *generator) gateway() *endpoints.Gateway {
	gw := &endpoints.Gateway{
		Namespace: "sys", Name: g.pick("ew1", "ew2"), Network: g.pick("", "", "n1", "n2", "n3"), Health: endpoints.Health(g.rng.IntN(2)),
		Weight: uint32(g.rng.IntN(4)), ServiceAccount: g.pick("", "sa"),
	}
	if g.one(2) {
		gw.SNIPort = 15443
	}
	if g.one(3) {
		gw.HBONEPort = 15009
	}
	gw.NoHBONE = gw.SNIPort != 0 && gw.HBONEPort == 0 && g.one(3)
	for range g.rng.IntN(3) {
		if a := g.addr(); !slices.Contains(gw.Addresses, a) {
			gw.Addresses = append(gw.Addresses, a)
		}
	}
	if len(gw.Addresses) == 0 || g.one(4) {
		gw.Hostnames = []string{g.pick("gw.example", "lb.example")}
	}
	return gw
}

// shuffled tells the same facts to another mesh in another order.
func (g *generator) shuffled(t *testing.T, views []*followed) {
	mesh := endpoints.New(endpoints.Config{Compat: g.world.compat})
	ids := g.world.ids()
	g.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	var changes []endpoints.Change
	for _, id := range ids {
		c := g.world.clusters[id]
		if err := mesh.SetCluster(c.Cluster); err != nil {
			t.Fatal(err)
		}
		for _, w := range c.workloads {
			changes = append(changes, endpoints.Change{Cluster: id, Workloads: []*endpoints.Workload{w}})
		}
		for _, s := range c.services {
			changes = append(changes, endpoints.Change{Cluster: id, Services: []*endpoints.Service{s}})
		}
		for _, gw := range c.gateways {
			changes = append(changes, endpoints.Change{Cluster: id, Gateways: []*endpoints.Gateway{gw}})
		}
	}
	g.rng.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
	for _, ch := range changes {
		if err := mesh.Apply(ch); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range views {
		other := openView(mesh, v.Client())
		other.check(t, g.world, -1)
		if !sameResources(v.applied, other.applied) {
			t.Errorf("%+v: another order gives another view", v.Client())
		}
	}
	if len(ids) == 0 {
		t.Error("no cluster was left to compare")
	}
}

// TestEverythingRemoved: a cluster that is removed leaves nothing.
func TestEverythingRemoved(t *testing.T) {
	g := &generator{rng: rand.New(rand.NewPCG(1, 1)), world: &world{clusters: make(map[string]*worldCluster)}}
	mesh := endpoints.New(endpoints.Config{})
	views := openViews(mesh)
	for range 200 {
		g.event(t, mesh)
	}
	for _, c := range mesh.Clusters() {
		mesh.RemoveCluster(c.ID)
	}
	for _, v := range views {
		if n := v.Snapshot().Len(); n != 0 {
			t.Errorf("%+v: %d resources are left", v.Client(), n)
		}
	}
	if c := mesh.Conflicts(); len(c) != 0 {
		t.Errorf("conflicts are left: %v", c)
	}
	if n := endpoints.StateSize(mesh); n != 0 {
		t.Errorf("the mesh keeps %d objects", n)
	}
}

// TestWatch follows a view while it changes, slowly, and ends with what is there.
func TestWatch(t *testing.T) {
	g := &generator{rng: rand.New(rand.NewPCG(3, 3)), world: &world{clusters: make(map[string]*worldCluster)}}
	mesh := endpoints.New(endpoints.Config{})
	client := endpoints.Client{Network: "n1", Cluster: "c1"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done, stopped := make(chan *endpoints.Snapshot, 1), make(chan map[string]endpoints.Resource)
	v := mesh.View(client)
	go func() {
		got := make(map[string]endpoints.Resource)
		var final *endpoints.Snapshot
		for snapshot, d := range v.Watch(ctx, nil) {
			for _, name := range d.Removed {
				delete(got, name)
			}
			for _, r := range d.Upserts {
				got[r.Name()] = r
			}
			select {
			case final = <-done:
			default:
			}
			if final != nil && snapshot == final {
				break
			}
		}
		stopped <- got
	}()
	for range 500 {
		g.event(t, mesh)
	}
	done <- v.Snapshot()
	mesh.SetCluster(endpoints.Cluster{ID: "last", Network: "n9"}) // nothing to see, so nothing to send
	v.Close()
	got := <-stopped
	want := g.world.view(client)
	if ctx.Err() != nil || !sameResources(got, want) {
		t.Errorf("watched %d resources, want %d (%v)", len(got), len(want), ctx.Err())
	}
}
