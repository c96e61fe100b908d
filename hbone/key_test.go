package hbone

import (
	"net/http"
	"testing"

	"github.com/eastwest-mesh/eastwest/internal/testca"
)

func TestTunnelKey(t *testing.T) {
	ca := testca.New("cluster.local")
	web, api := ca.Issue("/web"), ca.Issue("/api")
	base := func() []Hop {
		return []Hop{
			{
				Address:      "gw:15008",
				Authority:    "reviews:80",
				TLS:          ca.Client(web, "/gw-a", "/gw-b"),
				TunnelHeader: http.Header{"A": {"1", "2"}, "B": {"3"}},
			},
			{Authority: "reviews:80", TLS: ca.Client(web, "/reviews")},
		}
	}
	tests := []struct {
		name   string
		change func([]Hop)
		outer  bool // the outer tunnel may still be shared
		inner  bool
	}{
		{"nothing", func([]Hop) {}, true, true},
		{"authority of the last hop", func(h []Hop) { h[1].Authority = "reviews:81" }, true, true},
		{"order of accepted peers", func(h []Hop) { h[0].TLS = ca.Client(web, "/gw-b", "/gw-a") }, true, true},
		{"case of a header's name", func(h []Hop) { h[0].TunnelHeader = http.Header{"a": {"1", "2"}, "b": {"3"}} }, true, true},
		{"authority of the outer hop", func(h []Hop) { h[0].Authority = "ratings:80" }, true, false},
		{"tunnel header", func(h []Hop) { h[0].TunnelHeader = http.Header{"A": {"1"}, "B": {"3"}} }, true, false},
		{"order of a header's values", func(h []Hop) { h[0].TunnelHeader = http.Header{"A": {"2", "1"}, "B": {"3"}} }, true, false},
		{"value moved to another header", func(h []Hop) { h[0].TunnelHeader = http.Header{"A": {"1"}, "B": {"2", "3"}} }, true, false},
		{"inner peers", func(h []Hop) { h[1].TLS = ca.Client(web, "/ratings") }, true, false},
		{"inner local identity", func(h []Hop) { h[1].TLS = ca.Client(api, "/reviews") }, true, false},
		{"no TLS within", func(h []Hop) { h[1].TLS = Plaintext{} }, true, false},
		{"address", func(h []Hop) { h[0].Address = "gw2:15008" }, false, false},
		{"outer peers", func(h []Hop) { h[0].TLS = ca.Client(web, "/gw-a") }, false, false},
		{"outer local identity", func(h []Hop) { h[0].TLS = ca.Client(api, "/gw-a", "/gw-b") }, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			hops := base()
			tt.change(hops)
			if same := tunnelKey(hops, 0) == tunnelKey(base(), 0); same != tt.outer {
				t.Errorf("outer tunnel shared: %v, want %v", same, tt.outer)
			}
			if same := tunnelKey(hops, 1) == tunnelKey(base(), 1); same != tt.inner {
				t.Errorf("inner tunnel shared: %v, want %v", same, tt.inner)
			}
		})
	}
}

func tunnelKey(hops []Hop, last int) string { return string(appendTunnelKey(nil, hops, last)) }
