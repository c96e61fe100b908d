package interop

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// TCPClient connects to the application itself: no tunnel at all.
func (w *World) TCPClient() DialFunc {
	return func(ctx context.Context, authority string) (net.Conn, error) {
		return dialTCP(ctx, "tcp", authority)
	}
}

// TLSServer runs a TLS server that relays to a fixed address, which is what
// tunnels cost at least. A relay to another one makes TLS inside of TLS.
func (w *World) TLSServer(id, backend string) (addr string, err error) {
	l, err := listen()
	if err != nil {
		return "", err
	}
	cfg := baselineTLS(w.serverTLS(id))
	ctx, cancel := context.WithCancel(context.Background())
	w.onClose(func() {
		cancel()
		l.Close()
	})
	w.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.serving.Go(func() {
				tcp, err := dialTCP(ctx, "tcp", backend)
				if err != nil {
					c.Close()
					return
				}
				_, _ = hbone.Relay(ctx, tls.Server(c, cfg), tcp)
			})
		}
	})
	return l.Addr().String(), nil
}

// TLSClient makes a connection for each dial, with as many layers of TLS as hops.
func (w *World) TLSClient(addr string, hops int) DialFunc {
	cfg := baselineTLS(w.ca.ClientConfig(w.ca.Issue(clientID), serverID, gatewayID))
	return func(ctx context.Context, _ string) (net.Conn, error) {
		c, err := dialTCP(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		for range hops {
			t := tls.Client(c, cfg)
			if err := t.HandshakeContext(ctx); err != nil {
				c.Close()
				return nil, err
			}
			c = t
		}
		return c, nil
	}
}

func baselineTLS(cfg *tls.Config) *tls.Config {
	cfg.DynamicRecordSizingDisabled = true // as tunnels have it
	cfg.SessionTicketsDisabled = true
	return cfg
}
