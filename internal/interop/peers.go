package interop

import "errors"

// A Peer is a pair of client and servers to be measured. Its name is part of
// the names of benchmarks.
type Peer struct {
	Name string
	Make func(w *World, hops int) (DialFunc, error)
}

// The peers. What is behind all of them is a TCP application, as pkg/hbone's
// servers always have it.
var (
	// Ours has a real connection between gateway and server, if it has two hops.
	Ours = Peer{"eastwest", func(w *World, hops int) (DialFunc, error) {
		addr, err := w.Server()
		if err == nil && hops == 2 {
			addr, err = w.Gateway(addr)
		}
		return w.Client(addr, hops), err
	}}
	// OursNested has both servers in one place, as Istio has: two hops only.
	OursNested = Peer{"eastwest-nested", func(w *World, hops int) (DialFunc, error) {
		if hops != 2 {
			return nil, errors.New("nothing to nest")
		}
		addr, err := w.NestedServer()
		return w.Client(addr, hops), err
	}}
	// Istio is istio.io/istio/pkg/hbone.
	Istio = Peer{"pkg-hbone", func(w *World, hops int) (DialFunc, error) {
		serve := w.IstioServer
		if hops == 2 {
			serve = w.IstioDoubleServer
		}
		addr, err := serve()
		return w.IstioClient(addr, hops), err
	}}
	// TLS is the limit of tunnels that carry one stream each: crypto/tls once, or
	// inside of itself through a relay.
	TLS = Peer{"tls", func(w *World, hops int) (DialFunc, error) {
		addr, err := w.TLSServer(serverID, w.Authority())
		if err == nil && hops == 2 {
			addr, err = w.TLSServer(gatewayID, addr)
		}
		return w.TLSClient(addr, hops), err
	}}
	// TCP goes to the application itself.
	TCP = Peer{"tcp", func(w *World, _ int) (DialFunc, error) { return w.TCPClient(), nil }}
)
