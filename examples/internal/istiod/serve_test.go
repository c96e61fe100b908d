package istiod

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eastwest-mesh/eastwest/examples/internal/discovery"
	"github.com/eastwest-mesh/eastwest/identity"
)

// Serve ends while clients are connected, and they go on with what they know.
// That nothing is left running is checked by TestMain.
func TestServeEndsWithClients(t *testing.T) {
	w := newWorld(t).serve()
	proxy, gateway := w.ztunnel(), w.connect(eastGateway, discovery.Gateway, "")
	w.awaitView(proxy, eastView)
	w.awaitView(gateway, eastGatewayView)
	if err := w.stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("Serve returned %v", err)
	}
	w.await("the client has noticed", func() bool { return !proxy.Client.Status().Connected })
	if got := proxy.services(); got != eastView {
		t.Errorf("without a control plane the client sees %s", got)
	}
	if conn, err := net.Dial("tcp", w.address); err == nil {
		_ = conn.Close()
		t.Error("the port is still open")
	}
	if got := len(w.server.Status().Clients); got != 0 {
		t.Errorf("%d clients are left", got)
	}
}

func TestServeReturnsTheCause(t *testing.T) {
	newServer := func(t *testing.T) (*Server, net.Listener) {
		server, err := New(newWorld(t).config)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return server, l
	}
	t.Run("of its context", func(t *testing.T) {
		server, l := newServer(t)
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(enough)
		if err := server.Serve(ctx, l); !errors.Is(err, enough) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("of a listener that fails", func(t *testing.T) {
		server, l := newServer(t)
		_ = l.Close()
		if err := server.Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("of a CA that has expired", func(t *testing.T) {
		server, l := newServer(t)
		clock := time.Now
		expired, err := identity.NewCA(identity.CAConfig{
			TrustDomain: server.cfg.Authority.TrustDomain(),
			RootTTL:     time.Hour,
			Time:        func() time.Time { return clock() },
		})
		if err != nil {
			t.Fatal(err)
		}
		clock = func() time.Time { return time.Now().Add(2 * time.Hour) }
		server.cfg.Authority = expired
		if err := server.Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("got %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the listener is left open: %v", err)
		}
	})
	t.Run("of being called twice", func(t *testing.T) {
		server, l := newServer(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = server.Serve(ctx, l)
		_, again := newServer(t)
		if err := server.Serve(t.Context(), again); err == nil || !strings.Contains(err.Error(), "called before") {
			t.Errorf("got %v", err)
		}
	})
}
