package gateway

import (
	"errors"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
)

// TestRevokedClient revokes a client's certificate while its tunnel is open.
func TestRevokedClient(t *testing.T) {
	crls, err := identity.OpenCRLs(identity.CRLConfig{})
	if err != nil {
		t.Fatal(err)
	}
	w := newClosedWorld(t, identity.Config{Revocations: crls})
	source := w.source(clientID)
	creds, err := identity.NewClient(identity.Config{Source: source, Peers: identity.Peers{IDs: []spiffeid.ID{gatewayID}}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	end := sync.OnceFunc(func() { close(ended) }) // of the first tunnel
	tr := &hbone.Transport{DialContext: w.network.DialContext, MaxBackoff: -1, Trace: &hbone.Trace{
		TunnelRetired: func(hbone.TunnelInfo, hbone.RetireReason) { end() },
	}}
	defer tr.Close()
	path := hbone.Path{Hops: []hbone.Hop{{Address: address, Authority: reviews + ":80", TLS: creds}}}
	// The gateway knows no such service: the tunnel is there all the same.
	if _, err := tr.Dial(t.Context(), path); status(err) == 0 {
		t.Fatalf("got %v, want an answer", err)
	}
	svid, err := source.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	crls.Revoke(svid.Certificates[0])
	<-ended
	for e := range w.events {
		if errors.Is(e.Err, hbone.ErrRevoked) {
			break
		}
	}
	if _, err := tr.Dial(t.Context(), path); err == nil || status(err) != 0 {
		t.Errorf("the revoked client gets %v", err)
	}
}
