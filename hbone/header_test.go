package hbone_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// TestHeaderThatCannotBeSent is a mistake of the caller's, which no other try mends. It harms no tunnel.
func TestHeaderThatCannotBeSent(t *testing.T) {
	headers := map[string]http.Header{
		"name":                {"Bad Name": {"x"}},
		"value":               {"Baggage": {"a=b\r\nx-istio-source: waypoint"}},
		"connection-specific": {"Connection": {"close"}},
	}
	for name, header := range headers {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.pod(podAddr, echo)
				g := w.gateway(map[string][]string{reviews: {podAddr}})
				tr := w.transport()
				inner, outer := w.twoHops(reviews), w.twoHops(reviews)
				inner.StreamHeader = header
				outer.Hops[0].TunnelHeader = header
				for hop, path := range []hbone.Path{outer, inner} {
					for range 2 { // not the pause after a failure, either
						_, err := tr.Dial(context.Background(), path)
						he := wantHop(t, err, hop, hbone.PhaseConnect)
						if he.Retryable() || he.Remote() || !errors.As(err, new(*hbone.ConfigError)) {
							t.Errorf("%v: retryable %v, remote %v; want a *ConfigError, and neither", err, he.Retryable(), he.Remote())
						}
						if errors.As(err, new(*hbone.BackoffError)) {
							t.Errorf("%v: backed off, but nothing is wrong with the peer", err)
						}
					}
				}
				mustDial(t, tr, w.twoHops(reviews)).Close()
				if got := tr.Stats().Hops[0].Dials; got != 1 || len(g.seen()) != 1 {
					t.Errorf("%d tunnels to the gateway and %d CONNECTs, want one of each", got, len(g.seen()))
				}
			})
		})
	}
}
