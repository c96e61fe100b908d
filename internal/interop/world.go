package interop

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// A World is one certificate authority, one application and the servers that
// lead to it, all on loopback. Servers dial the application that a CONNECT's
// :authority names, as pkg/hbone's always do.
type World struct {
	App *App

	ca      *testca.CA
	closers []func()
	serving sync.WaitGroup
}

const (
	clientID  = "/ns/app/sa/client"
	serverID  = "/ns/app/sa/server"
	gatewayID = "/ns/istio-system/sa/gateway"
)

// NewWorld starts an application.
func NewWorld() (*World, error) {
	app, err := NewApp()
	if err != nil {
		return nil, err
	}
	return &World{App: app, ca: testca.New("cluster.local")}, nil
}

// Close ends everything, clients before servers.
func (w *World) Close() {
	for i := range w.closers {
		w.closers[len(w.closers)-1-i]()
	}
	w.App.Close()
	w.serving.Wait()
}

func (w *World) onClose(f func()) { w.closers = append(w.closers, f) }

// Authority names the application.
func (w *World) Authority() string { return byName(w.App.Addr()) }

// byName is an address on loopback with a host name, since pkg/hbone's double
// server takes no other.
func byName(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return net.JoinHostPort("localhost", port)
}

// listen listens on loopback.
func listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// serve runs a server of ours.
func (w *World) serve(s *hbone.Server) (addr string, err error) {
	l, err := listen()
	if err != nil {
		return "", err
	}
	w.serving.Go(func() { _ = s.Serve(context.Background(), l) })
	w.onClose(func() { s.Close() })
	return l.Addr().String(), nil
}

func (w *World) server(id string, handler func(*hbone.Request)) *hbone.Server {
	return &hbone.Server{TLS: w.ca.Server(w.ca.Issue(id), clientID), Handler: handler}
}

// Server runs a server of ours that relays to the application.
func (w *World) Server() (addr string, err error) { return w.serve(w.server(serverID, toAuthority)) }

// Gateway runs a gateway of ours, which relays the bytes of inner tunnels to
// a server.
func (w *World) Gateway(backend string) (addr string, err error) {
	return w.serve(w.server(gatewayID, func(r *hbone.Request) { relay(r, backend) }))
}

// NestedServer runs both hops of ours in one process with no connection between
// them, as pkg/hbone's double server does.
func (w *World) NestedServer() (addr string, err error) {
	inner := w.server(serverID, toAuthority)
	w.onClose(func() { inner.Close() })
	return w.serve(w.server(gatewayID, func(r *hbone.Request) {
		if conn, err := r.Accept(nil); err == nil {
			_ = inner.ServeConn(context.Background(), conn)
		}
	}))
}

// serverTLS is what other servers than ours need.
func (w *World) serverTLS(id string) *tls.Config { return w.ca.ServerConfig(w.ca.Issue(id), clientID) }

func toAuthority(r *hbone.Request) { relay(r, r.Authority()) }

// relay joins a stream with a TCP connection to address.
func relay(r *hbone.Request, address string) {
	tcp, err := new(net.Dialer).DialContext(r.Context(), "tcp", address)
	if err != nil {
		_ = r.Reject(http.StatusServiceUnavailable)
		return
	}
	conn, err := r.Accept(nil)
	if err != nil {
		tcp.Close()
		return
	}
	_, _ = hbone.Relay(context.Background(), conn, tcp)
}

// A DialFunc opens a stream to an authority, through all hops.
type DialFunc func(ctx context.Context, authority string) (net.Conn, error)

// Client makes a client of ours, with default settings, for the server at addr:
// one hop, or two if it is a gateway.
func (w *World) Client(addr string, hops int) DialFunc {
	tr := new(hbone.Transport)
	w.onClose(func() { tr.Close() })
	creds := w.ca.Client(w.ca.Issue(clientID), serverID, gatewayID)
	return func(ctx context.Context, authority string) (net.Conn, error) {
		path := hbone.Path{Hops: make([]hbone.Hop, hops)}
		for i := range path.Hops {
			path.Hops[i] = hbone.Hop{Authority: authority, TLS: creds}
		}
		path.Hops[0].Address = addr
		conn, err := tr.Dial(ctx, path)
		if err != nil {
			return nil, err // not a nil *Conn in a net.Conn
		}
		return conn, nil
	}
}
