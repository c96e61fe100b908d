package backends

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/lb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const host = "reviews.app.svc.cluster.local"

// source is where connections come from.
var source = lb.Locality{Network: "here", Cluster: "east", Region: "r1", Zone: "z1"}

func index(service *endpoints.Service, workloads ...*endpoints.Workload) *endpoints.Index {
	d := endpoints.Delta{Upserts: []endpoints.Resource{{Service: service}}}
	for _, w := range workloads {
		d.Upserts = append(d.Upserts, endpoints.Resource{Workload: w})
	}
	return (*endpoints.Index)(nil).Apply(d)
}

func service(change ...func(*endpoints.Service)) *endpoints.Service {
	s := &endpoints.Service{Name: "reviews", Namespace: "app", Hostname: host, Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}}}
	for _, f := range change {
		f(s)
	}
	return s
}

func balanced(mode endpoints.BalanceMode, preference ...endpoints.RoutingScope) func(*endpoints.Service) {
	return func(s *endpoints.Service) {
		s.LoadBalancing = &endpoints.LoadBalancing{Mode: mode, Preference: preference}
	}
}

func allowAll(s *endpoints.Service) {
	s.LoadBalancing = &endpoints.LoadBalancing{HealthPolicy: endpoints.AllowAll}
}

func workload(name string, change ...func(*endpoints.Workload)) *endpoints.Workload {
	w := &endpoints.Workload{
		UID: name, Name: name, Namespace: "app", Network: "here", Cluster: "east", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.10")},
		Locality: endpoints.Locality{Region: "r1", Zone: "z1"},
		Services: []endpoints.ServicePorts{{Service: "app/" + host, Ports: []endpoints.Port{{ServicePort: 80, TargetPort: 8080}}}},
	}
	for _, f := range change {
		f(w)
	}
	return w
}

func zone(zone string) func(*endpoints.Workload) {
	return func(w *endpoints.Workload) { w.Locality.Zone = zone }
}

func network(name string) func(*endpoints.Workload) {
	return func(w *endpoints.Workload) { w.Network = name }
}

func unhealthy(w *endpoints.Workload) { w.Health = endpoints.Unhealthy }

func capacity(n uint32) func(*endpoints.Workload) {
	return func(w *endpoints.Workload) { w.Capacity = &n }
}

func port(target uint16) func(*endpoints.Workload) {
	return func(w *endpoints.Workload) {
		w.Services = []endpoints.ServicePorts{{Service: "app/" + host, Ports: []endpoints.Port{{ServicePort: 80, TargetPort: target}}}}
	}
}

func noPorts(w *endpoints.Workload) { w.Services = []endpoints.ServicePorts{{Service: "app/" + host}} }

func behindGateway(w *endpoints.Workload) {
	w.Addresses, w.NetworkGateway = nil, &endpoints.GatewayAddress{Namespace: "istio-system", Hostname: "ew", Port: 15008}
}

// chosen are all backends that are ever chosen, as name:port.
func chosen(t *testing.T, c *Chooser, s *endpoints.ServiceEntry) string {
	t.Helper()
	var got []string
	var exclude []lb.ID
	for range 200 {
		pick, err := c.Pick(s, 80, source, exclude)
		if err != nil {
			return err.Error()
		}
		pick.Done(lb.Outcome{})
		got = append(got, fmt.Sprintf("%s:%d", pick.Value.UID, pick.Value.TargetPort))
	}
	slices.Sort(got)
	return strings.Join(slices.Compact(got), " ")
}

func TestPick(t *testing.T) {
	here, there := []endpoints.RoutingScope{endpoints.SameNetwork, endpoints.SameRegion, endpoints.SameZone}, network("there")
	tests := []struct {
		name      string
		cfg       Config
		service   *endpoints.Service
		workloads []*endpoints.Workload
		want      string // what is chosen, or a part of the error
	}{
		{"all alike", Config{}, service(), []*endpoints.Workload{workload("a"), workload("b", zone("z2")), workload("c", there)}, "a:8080 b:8080 c:8080"},
		{"the port that a pod has", Config{}, service(), []*endpoints.Workload{workload("a", port(9090)), workload("b", port(0))}, "a:9090 b:8080"},
		{"a named port that only some have", Config{}, service(func(s *endpoints.Service) { s.Ports[0].TargetPort = 0 }),
			[]*endpoints.Workload{workload("a", port(9090)), workload("b", noPorts)}, "a:9090"},
		{"a named port behind a gateway", Config{}, service(func(s *endpoints.Service) { s.Ports[0].TargetPort = 0 }),
			[]*endpoints.Workload{workload("c", there, port(0), behindGateway)}, "c:80"},
		{"a cluster behind a gateway that has other ports", Config{}, service(),
			[]*endpoints.Workload{workload("a"), workload("c", there, behindGateway, func(w *endpoints.Workload) { w.Services[0].Ports[0].ServicePort = 81 })}, "a:8080"},
		{"no endpoints", Config{}, service(), nil, "no target"},
		{"only those that can be reached", Config{Usable: func(w *endpoints.Workload) bool { return w.Network == "here" }}, service(),
			[]*endpoints.Workload{workload("a"), workload("c", there)}, "a:8080"},
		{"only healthy ones", Config{}, service(), []*endpoints.Workload{workload("a", unhealthy), workload("b")}, "b:8080"},
		{"unhealthy ones if the service says so", Config{}, service(allowAll), []*endpoints.Workload{workload("a", unhealthy), workload("b")}, "a:8080 b:8080"},
		{"no capacity, no connection", Config{}, service(), []*endpoints.Workload{workload("a", capacity(0)), workload("b")}, "b:8080"},
		{"FAILOVER takes the nearest", Config{}, service(balanced(endpoints.ModeFailover, here...)),
			[]*endpoints.Workload{workload("a"), workload("b", zone("z2")), workload("c", there)}, "a:8080"},
		{"FAILOVER goes on to the next", Config{}, service(balanced(endpoints.ModeFailover, here...)),
			[]*endpoints.Workload{workload("a", unhealthy), workload("b", zone("z2")), workload("c", there)}, "b:8080"},
		{"FAILOVER leaves the network if it must", Config{}, service(balanced(endpoints.ModeFailover, here...)),
			[]*endpoints.Workload{workload("a", unhealthy), workload("c", there)}, "c:8080"},
		{"FAILOVER by what it knows of a newer preference", Config{}, service(balanced(endpoints.ModeFailover, endpoints.SameNetwork, 99, endpoints.SameZone)),
			[]*endpoints.Workload{workload("a"), workload("b", zone("z2")), workload("c", there)}, "a:8080 b:8080"},
		{"STRICT", Config{}, service(balanced(endpoints.ModeStrict, here...)), []*endpoints.Workload{workload("a"), workload("b", zone("z2"))}, "a:8080"},
		{"STRICT takes nothing else", Config{}, service(balanced(endpoints.ModeStrict, here...)), []*endpoints.Workload{workload("b", zone("z2"))}, "no target"},
		{"STRICT about what it does not know", Config{}, service(balanced(endpoints.ModeStrict, 99)), []*endpoints.Workload{workload("a")}, "lb:"},
		{"an unspecified preference is none", Config{}, service(balanced(endpoints.ModeStrict, endpoints.SameUnspecified)), []*endpoints.Workload{workload("b", zone("z2"))}, "b:8080"},
		{"any locality", Config{AnyLocality: true}, service(balanced(endpoints.ModeStrict, here...)),
			[]*endpoints.Workload{workload("a"), workload("b", zone("z2")), workload("c", unhealthy)}, "a:8080 b:8080"},
		{"PASSTHROUGH", Config{}, service(balanced(endpoints.ModePassthrough)), []*endpoints.Workload{workload("a")}, lb.ErrPassthrough.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := index(tt.service, tt.workloads...)
			got := chosen(t, NewChooser(tt.cfg), x.Service("app/"+host))
			if failed := strings.HasPrefix(got, "lb:") && strings.Contains(got, tt.want); got != tt.want && !failed {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestNoSuchPort(t *testing.T) {
	c := NewChooser(Config{})
	_, err := c.Pick(index(service(), workload("a")).Service("app/"+host), 81, source, nil)
	var port *PortError
	if !errors.As(err, &port) || port.Port != 81 || port.Service != "app/"+host {
		t.Errorf("got %v", err)
	}
	if len(c.ports) > 0 {
		t.Error("a port that is not there is remembered")
	}
}

func TestExclude(t *testing.T) {
	c := NewChooser(Config{})
	s := index(service(), workload("a"), workload("b")).Service("app/" + host)
	first, err := c.Pick(s, 80, source, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Done(lb.Outcome{})
	second, err := c.Pick(s, 80, source, []lb.ID{first.ID})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Done(lb.Outcome{})
	if first.Value.UID == second.Value.UID {
		t.Error("chosen again")
	}
	if _, err := c.Pick(s, 80, source, []lb.ID{first.ID, second.ID}); !errors.Is(err, lb.ErrNoTarget) {
		t.Errorf("when all were tried: %v", err)
	}
}

// TestFollows uses each new state of a service, keeps what it has learnt of the
// backends that stay, and forgets services that are gone.
func TestFollows(t *testing.T) {
	c := NewChooser(Config{Outlier: lb.Outlier{Failures: 1}})
	x := index(service(), workload("a"), workload("b"))
	for {
		pick, err := c.Pick(x.Service("app/"+host), 80, source, nil)
		if err != nil {
			t.Fatal(err)
		}
		if pick.Value.UID == "a" {
			pick.Done(lb.Outcome{Err: errors.New("broken")})
			break
		}
		pick.Done(lb.Outcome{})
	}
	if got := chosen(t, c, x.Service("app/"+host)); got != "b:8080" {
		t.Errorf("after a failure of a: %s", got)
	}
	x = x.Apply(endpoints.Delta{Upserts: []endpoints.Resource{{Workload: workload("c")}}})
	if got := chosen(t, c, x.Service("app/"+host)); got != "b:8080 c:8080" {
		t.Errorf("when c has come: %s", got)
	}
	x = x.Apply(endpoints.Delta{Removed: []string{"b"}, Upserts: []endpoints.Resource{{Service: service(balanced(endpoints.ModeStrict, endpoints.SameNode))}}})
	if got := chosen(t, c, x.Service("app/"+host)); got != "c:8080" {
		t.Errorf("when b is gone: %s", got)
	}
	c.Forget(x)
	if len(c.ports) != 1 {
		t.Errorf("%d ports are kept of one", len(c.ports))
	}
	c.Forget(x.Apply(endpoints.Delta{Removed: []string{"app/" + host}}))
	if len(c.ports) != 0 {
		t.Errorf("%d ports are kept of none", len(c.ports))
	}
}

// TestConcurrent picks while the service changes, from a stale entry as well.
func TestConcurrent(t *testing.T) {
	c := NewChooser(Config{})
	old := index(service(), workload("a"))
	now := old.Apply(endpoints.Delta{Removed: []string{"a"}, Upserts: []endpoints.Resource{{Workload: workload("b")}}})
	var wg sync.WaitGroup
	for _, x := range []*endpoints.Index{old, now, nil} {
		wg.Go(func() {
			for range 200 {
				if x == nil {
					c.Forget(now)
				} else if pick, err := c.Pick(x.Service("app/"+host), 80, source, nil); err != nil {
					t.Error(err)
				} else {
					pick.Done(lb.Outcome{})
				}
			}
		})
	}
	wg.Wait()
	if got := chosen(t, c, now.Service("app/"+host)); got != "b:8080" {
		t.Errorf("in the end: %s", got)
	}
}
