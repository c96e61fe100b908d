package interop

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"

	istio "istio.io/istio/pkg/hbone"
	istiolog "istio.io/istio/pkg/log"
)

// quietIstio stops its log, once for the process.
var quietIstio = sync.OnceFunc(func() {
	for _, scope := range istiolog.Scopes() {
		scope.SetOutputLevel(istiolog.NoneLevel)
	}
})

// IstioServer runs pkg/hbone's server. It offers HTTP/1.1 and h2c only, so
// HTTP/2 over TLS has to be switched on.
func (w *World) IstioServer() (addr string, err error) {
	s := istio.NewServer()
	s.Protocols.SetHTTP2(true)
	return w.serveIstio(s, serverID)
}

// IstioDoubleServer runs pkg/hbone's double server. Of the inner server, which
// it makes for each CONNECT, only the TLS configuration can be reached: for
// the same reason, that must come from a callback to offer h2.
func (w *World) IstioDoubleServer() (addr string, err error) {
	s := istio.NewDoubleHBONEServer(&tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return w.serverTLS(serverID), nil },
	})
	s.Protocols.SetHTTP2(true)
	return w.serveIstio(s, serverID)
}

func (w *World) serveIstio(s *http.Server, id string) (addr string, err error) {
	quietIstio()
	l, err := listen()
	if err != nil {
		return "", err
	}
	s.TLSConfig = w.serverTLS(id)
	w.serving.Go(func() { _ = s.ServeTLS(l, "", "") })
	w.onClose(func() { s.Close() })
	return l.Addr().String(), nil
}

// IstioClient makes pkg/hbone's client, or with two hops its double client, for
// the server at addr.
func (w *World) IstioClient(addr string, hops int) DialFunc {
	quietIstio()
	cfg := istio.Config{ProxyAddress: addr, TLS: w.ca.ClientConfig(w.ca.Issue(clientID), serverID, gatewayID)}
	d := istio.NewDialer(cfg)
	if hops == 2 {
		d = istio.NewDoubleDialer(cfg, cfg, cfg.TLS)
	}
	return func(ctx context.Context, authority string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", authority)
	}
}
