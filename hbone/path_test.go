package hbone_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"

	"github.com/eastwest-mesh/eastwest/hbone"
)

func TestPathErrors(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		name   string
		change func(*hbone.Path)
		hop    int
		field  string
		is     error // may be nil
	}{
		{"no hops", func(p *hbone.Path) { p.Hops = nil }, -1, "Path.Hops", nil},
		{"no address", func(p *hbone.Path) { p.Hops[0].Address = "" }, 0, "Hop.Address", nil},
		{"address on an inner hop", func(p *hbone.Path) { p.Hops[1].Address = "pod:15008" }, 1, "Hop.Address", nil},
		{"no credentials", func(p *hbone.Path) { p.Hops[1].TLS = nil }, 1, "Hop.TLS", hbone.ErrNoCredentials},
		{"no authority", func(p *hbone.Path) { p.Hops[0].Authority = "" }, 0, "Hop.Authority", nil},
		{"authority without port", func(p *hbone.Path) { p.Hops[1].Authority = "reviews" }, 1, "Hop.Authority", nil},
		{"authority without host", func(p *hbone.Path) { p.Hops[1].Authority = ":80" }, 1, "Hop.Authority", nil},
		{"authority with a line break", func(p *hbone.Path) { p.Hops[1].Authority = "a\r\nb:80" }, 1, "Hop.Authority", nil},
		{"bare IPv6", func(p *hbone.Path) { p.Hops[1].Authority = "2001:db8::1:80" }, 1, "Hop.Authority", nil},
		{"tunnel header on the last hop", func(p *hbone.Path) {
			p.Hops[1].TunnelHeader = http.Header{"A": {"b"}}
		}, 1, "Hop.TunnelHeader", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := w.twoHops(reviews)
			tt.change(&path)
			_, err := w.transport().Dial(context.Background(), path)
			var config *hbone.ConfigError
			if !errors.As(err, &config) || config.Hop != tt.hop || config.Field != tt.field {
				t.Fatalf("error = %v (%T), want a *ConfigError for hop %d, %s", err, err, tt.hop, tt.field)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error = %v, want %v", err, tt.is)
			}
		})
	}
}

func TestDialerNetwork(t *testing.T) {
	w := newWorld(t)
	d := w.transport().Dialer(w.oneHop())
	_, err := d.DialContext(context.Background(), "udp", "x:1")
	if unknown := net.UnknownNetworkError(""); !errors.As(err, &unknown) {
		t.Errorf("DialContext(udp) = %v, want an UnknownNetworkError", err)
	}
	conn, err := d.DialContext(context.Background(), "tcp", "x:1")
	if conn != nil || err == nil { // nobody listens
		t.Errorf("DialContext = %v, %v, want a nil net.Conn and an error", conn, err)
	}
}
