package interop

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	istio "istio.io/istio/pkg/hbone"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// TestIstioHeader: pkg/hbone does not send the headers that it is configured with.
func TestIstioHeader(t *testing.T) {
	w := newWorld(t)
	var got http.Header
	s := w.server(serverID, func(r *hbone.Request) {
		got = r.Header().Clone()
		_ = r.Reject(http.StatusForbidden)
	})
	d := istio.NewDialer(istio.Config{
		ProxyAddress: must(w.serve(s))(t),
		TLS:          w.ca.ClientConfig(w.ca.Issue(clientID), serverID),
		Headers:      http.Header{"Baggage": {"k8s.cluster.name=east"}},
	})
	if _, err := d.Dial("tcp", w.Authority()); err == nil {
		t.Fatal("a dial that is rejected succeeds")
	}
	s.Close() // waits for the handler
	if v := got.Get("Baggage"); v != "" {
		t.Errorf("pkg/hbone sends its configured header now (%q): update docs/interop.md", v)
	}
	if got.Get("User-Agent") == "" {
		t.Errorf("pkg/hbone sends no user-agent any more: %v", got)
	}
}

// TestIstioServersWithoutHTTP2: without the workaround of [World.IstioServer] and
// [World.IstioDoubleServer], pkg/hbone's servers do not offer h2 over TLS.
func TestIstioServersWithoutHTTP2(t *testing.T) {
	w := newWorld(t)
	double := istio.NewDoubleHBONEServer(w.serverTLS(serverID))
	double.Protocols.SetHTTP2(true)
	tests := []struct {
		name   string
		server *http.Server
		hops   int
	}{
		{"single", istio.NewServer(), 1},
		{"double", double, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.Client(must(w.serveIstio(tt.server, serverID))(t), tt.hops)(t.Context(), w.Authority())
			wantHop(t, err, tt.hops-1, hbone.PhaseTLS)
			if !strings.Contains(err.Error(), "no application protocol") {
				t.Errorf("%v; want the alert that there is no application protocol", err)
			}
		})
	}
}

// TestIstioDoubleServerWantsNames: pkg/hbone answers a CONNECT to an address by 200,
// and ends it.
func TestIstioDoubleServerWantsNames(t *testing.T) {
	w := newWorld(t)
	_, err := w.Client(must(w.IstioDoubleServer())(t), 2)(t.Context(), "127.0.0.1:80")
	he := wantHop(t, err, 1, hbone.PhaseTLS)
	if !he.Retryable() {
		t.Errorf("%v: not retryable, though nothing was sent", err)
	}
}

// TestIstioServerDrains shuts pkg/hbone's server down: its GOAWAY lets a stream
// finish, and later dials go elsewhere.
func TestIstioServerDrains(t *testing.T) {
	w := newWorld(t)
	s := istio.NewServer()
	s.Protocols.SetHTTP2(true)
	dial := w.Client(must(w.serveIstio(s, serverID))(t), 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := open(ctx, w, dial)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	down := make(chan error, 1)
	s.RegisterOnShutdown(func() { close(down) })
	finished := make(chan error, 1)
	go func() { finished <- s.Shutdown(ctx) }()
	<-down
	if err := upload(c, bulk); err != nil {
		t.Errorf("a stream that was open: %v", err)
	}
	c.Close()
	if err := <-finished; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	_, err = dial(ctx, w.Authority())
	wantHop(t, err, 0, hbone.PhaseDial)
}

func wantHop(t *testing.T, err error, hop int, phase hbone.Phase) *hbone.HopError {
	t.Helper()
	var he *hbone.HopError
	if !errors.As(err, &he) || he.Hop != hop || he.Phase != phase {
		t.Fatalf("error %v; want one of hop %d, phase %s", err, hop, phase)
	}
	return he
}

// TestIdentities: neither end takes the other for anybody whom it does not expect.
func TestIdentities(t *testing.T) {
	const stranger = "/ns/other/sa/stranger"
	t.Run("pkg/hbone's client", func(t *testing.T) {
		w := newWorld(t)
		d := istio.NewDialer(istio.Config{
			ProxyAddress: must(w.Server())(t),
			TLS:          w.ca.ClientConfig(w.ca.Issue(stranger), serverID),
		})
		if c, err := d.Dial("tcp", w.Authority()); err == nil {
			c.Close()
			t.Error("our server lets a stranger in")
		}
	})
	t.Run("pkg/hbone's server", func(t *testing.T) {
		w := newWorld(t)
		s := istio.NewServer()
		s.Protocols.SetHTTP2(true)
		addr := must(w.serveIstio(s, stranger))(t)
		_, err := w.Client(addr, 1)(t.Context(), w.Authority())
		wantHop(t, err, 0, hbone.PhaseTLS)
	})
}
