package endpoints_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// fakeVIPs hands out addresses in order, but only so many at a time.
type fakeVIPs struct {
	next     byte
	max      int
	assigned map[string]netip.Addr
}

var errNoVIPs = errors.New("none left")

func (f *fakeVIPs) Assign(hostname string) ([]netip.Addr, error) {
	if _, ok := f.assigned[hostname]; !ok {
		if len(f.assigned) == f.max {
			return nil, errNoVIPs
		}
		f.next++
		f.assigned[hostname] = netip.AddrFrom4([4]byte{240, 240, 0, f.next})
	}
	return []netip.Addr{f.assigned[hostname]}, nil
}

func (f *fakeVIPs) Release(hostname string) { delete(f.assigned, hostname) }

// TestVIPs: a service that only others have gets an address on the client's network, for as long as it is
// there.
func TestVIPs(t *testing.T) {
	vips := &fakeVIPs{max: 1, assigned: make(map[string]netip.Addr)}
	m := newMesh(t, endpoints.Config{VIPs: vips}, "east", "west")
	v := m.View(eastNode)
	defer v.Close()
	addresses := func() string {
		if r, ok := v.Snapshot().Get(reviews); ok {
			all := ""
			for _, a := range r.Service.Addresses {
				all += a.String() + " "
			}
			return all
		}
		return "none"
	}
	check := func(step, want string) {
		t.Helper()
		if got := addresses(); got != want {
			t.Errorf("%s: reviews has %q, want %q", step, got, want)
		}
	}
	apply(t, m, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{service("10.92.0.1")}})
	check("remote only", "west-net/10.92.0.1 east-net/240.240.0.1 ")
	other := service("10.92.0.2", func(s *endpoints.Service) { s.Hostname = "other.app" })
	apply(t, m, endpoints.Change{Cluster: "west", Services: []*endpoints.Service{other}})
	problems := m.Problems()
	if e := new(endpoints.VIPError); len(problems) != 1 || !errors.As(problems[0], &e) || e.Service != "app/other.app" || !errors.Is(e, errNoVIPs) {
		t.Errorf("problems %v", problems)
	}
	apply(t, m, endpoints.Change{Cluster: "east", Services: []*endpoints.Service{service("10.91.0.1")}})
	check("also here", "east-net/10.91.0.1 west-net/10.92.0.1 ")
	apply(t, m, endpoints.Change{Cluster: "east", Services: []*endpoints.Service{service("")}})
	check("headless here", "west-net/10.92.0.1 ")
	apply(t, m, endpoints.Change{Cluster: "east", Resync: true},
		endpoints.Change{Cluster: "west", RemovedServices: []string{reviews}})
	check("gone", "none")
	if a := vips.assigned["other.app"]; a.String() != "240.240.0.2" || len(m.Problems()) != 0 {
		t.Errorf("the other service has %v now that there is room, problems %v", a, m.Problems())
	}
	apply(t, m, endpoints.Change{Cluster: "west", Resync: true})
	if len(vips.assigned) != 0 || len(m.Problems()) != 0 {
		t.Errorf("%d addresses are still assigned, problems %v", len(vips.assigned), m.Problems())
	}
}
