package ztunnel

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

const waypointHost = "waypoint.app.svc.cluster.local"

var (
	waypointByName = endpoints.GatewayAddress{Namespace: "app", Hostname: waypointHost, Port: 15008}
	waypointByPod  = endpoints.GatewayAddress{Address: endpoints.HostAddress(here, netip.MustParseAddr("10.1.0.30")), Port: 15008}
)

func viaWaypoint(g endpoints.GatewayAddress) func(*endpoints.Service) {
	return func(s *endpoints.Service) { s.Waypoint = &g }
}

// waypointService is what a waypoint's Service looks like: with the HBONE port.
func waypointService(change ...func(*endpoints.Service)) endpoints.Resource {
	return service(waypointHost, "10.96.0.30", append(change, func(s *endpoints.Service) {
		s.Ports = []endpoints.Port{{ServicePort: 15008, TargetPort: 15008}}
	})...)
}

func backsWaypoint(w *endpoints.Workload) {
	w.Services = []endpoints.ServicePorts{{Service: "app/" + waypointHost, Ports: []endpoints.Port{{ServicePort: 15008, TargetPort: 15008}}}}
}

// TestWaypoint asks a waypoint of our network for the address that was asked
// for, as ztunnel does, and nobody else.
func TestWaypoint(t *testing.T) {
	pod := pod2("reviews", "10.1.0.10", backs(reviews, 8080))
	podVia := pod2("reviews", "10.1.0.10", func(w *endpoints.Workload) { w.Waypoint = &waypointByName })
	tests := []struct {
		name, ask, authority string
		account              string // of the waypoint
		known                []endpoints.Resource
	}{
		{"of a service, by address", "10.96.0.1:80", "10.96.0.1:80", "waypoint",
			[]endpoints.Resource{service(reviews, "10.96.0.1", viaWaypoint(waypointByName)), pod, waypointService()}},
		{"of a service, by name", "reviews:80", "10.96.0.1:80", "waypoint",
			[]endpoints.Resource{service(reviews, "10.96.0.1", viaWaypoint(waypointByName)), pod, waypointService()}},
		{"of a service without backends", "10.96.0.1:80", "10.96.0.1:80", "waypoint",
			[]endpoints.Resource{service(reviews, "10.96.0.1", viaWaypoint(waypointByName)), waypointService()}},
		{"a workload alone", "10.96.0.1:80", "10.96.0.1:80", "waypoint",
			[]endpoints.Resource{service(reviews, "10.96.0.1", viaWaypoint(waypointByPod)), pod}},
		{"of an identity that its service names", "10.96.0.1:80", "10.96.0.1:80", "stand-in",
			[]endpoints.Resource{service(reviews, "10.96.0.1", viaWaypoint(waypointByName)), pod, waypointService(sans("stand-in"))}},
		{"of a workload, by its address", "10.1.0.10:8080", "10.1.0.10:8080", "waypoint",
			[]endpoints.Resource{podVia, waypointService()}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, append(tt.known, client(), pod2("waypoint", "10.1.0.30", backsWaypoint))...)
			direct := w.peer("reviews", "10.1.0.10:15008", "reviews", http.StatusOK)
			waypoint := w.peer("waypoint", "10.1.0.30:15008", tt.account, http.StatusOK)
			if got := w.mustAsk(tt.ask); got != "waypoint" {
				t.Errorf("%s answers", got)
			}
			if seen := <-waypoint.seen; seen.authority != tt.authority || seen.header.Get("x-forwarded-network") != "" {
				t.Errorf("authority %s, header %v", seen.authority, seen.header)
			}
			if len(direct.seen) > 0 {
				t.Error("the waypoint was passed by as well")
			}
			if e := w.event(Outbound); e.Target != "east//Pod/app/waypoint" {
				t.Errorf("target %s", e.Target)
			}
		})
	}
}

// TestRemoteWaypoint goes through the gateway of the waypoint's network, which
// knows the way to the waypoint of the service named. Who is at the end must
// have an identity of the waypoint's service.
func TestRemoteWaypoint(t *testing.T) {
	gateway := endpoints.GatewayAddress{Address: endpoints.HostAddress(there, netip.MustParseAddr("172.18.2.100")), Port: 15008}
	away := remote(waypointHost, gateway)
	away.Workload.Services[0].Ports = []endpoints.Port{{ServicePort: 15008, TargetPort: 15008}}
	for inner, want := range map[string]string{"waypoint": "", "reviews": "connection refused"} {
		t.Run(inner, func(t *testing.T) {
			w := newWorld(t, client(), pod2("gateway", "172.18.2.100", network(there)), away, waypointService(sans("waypoint")),
				service(reviews, "10.96.0.1", viaWaypoint(waypointByName), sans("reviews")), pod2("reviews", "10.1.0.10", backs(reviews, 8080)))
			outside, inside := w.gatewayPeer("172.18.2.100:15008", "gateway", inner)
			_, err := w.ask("10.96.0.1:80")
			if want != "" {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			first, second := <-outside.seen, <-inside.seen
			if first.authority != reviews+":80" || second.authority != reviews+":80" {
				t.Errorf("authorities %s, %s", first.authority, second.authority)
			}
			if second.header.Get("x-forwarded-network") != here {
				t.Errorf("header %v", second.header)
			}
		})
	}
}

// TestNoWaypoint reaches nothing if the waypoint cannot be reached.
func TestNoWaypoint(t *testing.T) {
	pod := pod2("reviews", "10.1.0.10", backs(reviews, 8080))
	tests := []struct {
		name, ask string
		known     []endpoints.Resource
	}{
		{"not known", "10.96.0.1:80", []endpoints.Resource{service(reviews, "10.96.0.1", viaWaypoint(waypointByName))}},
		{"without endpoints", "10.96.0.1:80", []endpoints.Resource{service(reviews, "10.96.0.1", viaWaypoint(waypointByName)), waypointService()}},
		{"of another identity", "10.96.0.1:80", []endpoints.Resource{service(reviews, "10.96.0.1", viaWaypoint(waypointByPod)), pod2("other", "10.1.0.30")}},
		{"of a service without an address", "reviews:80", []endpoints.Resource{service(reviews, "", viaWaypoint(waypointByPod)), pod2("waypoint", "10.1.0.30")}},
		{"on another network, without a gateway", "10.96.0.1:80", []endpoints.Resource{service(reviews, "10.96.0.1", viaWaypoint(endpoints.GatewayAddress{
			Address: endpoints.HostAddress(there, netip.MustParseAddr("10.1.0.30"))})), pod2("waypoint", "10.1.0.30", network(there))}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, append(tt.known, client(), pod)...)
			direct := w.peer("reviews", "10.1.0.10:15008", "reviews", http.StatusOK)
			waypoint := w.peer("waypoint", "10.1.0.30:15008", "waypoint", http.StatusOK)
			if got, err := w.ask(tt.ask); err == nil {
				t.Errorf("%s answers", got)
			}
			if len(direct.seen) > 0 || len(waypoint.seen) > 0 {
				t.Error("somebody was asked")
			}
		})
	}
}

func TestServiceWaypoint(t *testing.T) {
	at := func(host string) endpoints.GatewayAddress { return endpoints.GatewayAddress{Hostname: host} }
	primary := at("primary")
	weighted := func(weights ...uint32) *endpoints.Service {
		s := &endpoints.Service{Waypoint: &primary}
		for i, w := range weights {
			s.WeightedWaypoints = append(s.WeightedWaypoints, endpoints.WeightedWaypoint{Destination: at(string(rune('a' + i))), Weight: w})
		}
		return s
	}
	tests := []struct {
		name    string
		service *endpoints.Service
		want    string // by each number that can be drawn
	}{
		{"one", weighted(), "primary"},
		{"none has a weight", weighted(0, 0), "primary"},
		{"by weight", weighted(1, 0, 2), "a c c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			sum := uint64(1)
			for i := uint64(0); i < sum; i++ {
				g := serviceWaypoint(tt.service, func(n uint64) uint64 { sum = n; return i })
				got = append(got, g.Hostname)
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %s, want %s", s, tt.want)
			}
		})
	}
	if g := serviceWaypoint(&endpoints.Service{}, nil); g != nil {
		t.Errorf("a service without a waypoint has %v", g)
	}
}
