package ztunnel

import (
	"strconv"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/identity"
)

func TestKeyring(t *testing.T) {
	keys := newKeyring(identity.Config{}, &identity.Memory{})
	get := func(accounts ...string) *identity.Credentials {
		t.Helper()
		var peers identity.Peers
		for _, a := range accounts {
			peers.IDs = append(peers.IDs, spiffeid.RequireFromSegments(td, "ns", "app", "sa", a))
		}
		c, err := keys.client(peers)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if get("a", "b") != get("b", "a", "b") {
		t.Error("the same peers have two credentials")
	}
	if get("a") == get("b") || get("a") == get("a", "b") || get() == get("a") {
		t.Error("different peers have the same credentials")
	}
	for i := range 2 * maxCredentials {
		get(strconv.Itoa(i))
		if len(keys.byPeers) > maxCredentials {
			t.Fatalf("%d credentials", len(keys.byPeers))
		}
	}
}
