package identity

import (
	"errors"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func in(td spiffeid.TrustDomain, id spiffeid.ID) spiffeid.ID {
	return spiffeid.RequireFromPath(td, id.Path())
}

// TestAliases has workloads of a mesh that was called north before it was
// called east, both under one root, and those of west.
func TestAliases(t *testing.T) {
	eastCA := newTestCA(t, east)
	formerly, err := NewCA(CAConfig{TrustDomain: north, Certificate: certOf(eastCA), Key: keyOf(eastCA)})
	if err != nil {
		t.Fatal(err)
	}
	westCA, northRoot := newTestCA(t, west), newTestCA(t, north)
	aliases := Aliases{north: east}
	for name, tc := range map[string]struct {
		peer    spiffeid.ID
		by      *CA
		bundles []*CA // known besides east's
		accept  Peers
		aliases Aliases
		check   Check
	}{
		"alias for canonical":         {in(north, bob), formerly, nil, onlyID(bob), aliases, ""},
		"canonical for alias":         {bob, eastCA, nil, onlyID(in(north, bob)), aliases, ""},
		"alias as it is named":        {in(north, bob), formerly, nil, onlyID(in(north, bob)), aliases, ""},
		"alias of an accepted domain": {in(north, bob), formerly, nil, Peers{TrustDomains: []spiffeid.TrustDomain{east}}, aliases, ""},
		"domain accepted by alias":    {bob, eastCA, nil, Peers{TrustDomains: []spiffeid.TrustDomain{north}}, aliases, ""},
		"another member of the alias": {in(north, alice), formerly, nil, onlyID(bob), aliases, CheckPeer},
		"no aliases":                  {in(north, bob), formerly, nil, onlyID(bob), nil, CheckTrustDomain},
		"another domain's root":       {in(north, bob), reissue(t, westCA, north), []*CA{westCA}, onlyID(bob), aliases, CheckChain},
		"alias with its own root":     {in(north, bob), northRoot, []*CA{northRoot}, onlyID(bob), aliases, ""},
		"that root counts alone":      {in(north, bob), formerly, []*CA{northRoot}, onlyID(bob), aliases, CheckChain},
		"and not for the canonical":   {bob, reissue(t, northRoot, east), []*CA{northRoot}, onlyID(bob), aliases, CheckChain},
	} {
		t.Run(name, func(t *testing.T) {
			src := newTestSource(t, eastCA, alice)
			for _, ca := range tc.bundles {
				src.SetBundle(ca.Bundle())
			}
			creds := mustServer(t, Config{Source: src, Peers: tc.accept, Aliases: tc.aliases})
			c, s := connect(naiveOf(t, tc.by, tc.peer), configOf(t, creds))
			if tc.check == "" {
				checkVerdict(t, "", RoleClient, s.err, c.err)
				return
			}
			wantRefusal(t, s.err, tc.check)
		})
	}
}

// reissue is a CA with another's authority for another trust domain.
func reissue(t *testing.T, ca *CA, td spiffeid.TrustDomain) *CA {
	t.Helper()
	out, err := NewCA(CAConfig{TrustDomain: td, Certificate: certOf(ca), Key: keyOf(ca)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCanonical(t *testing.T) {
	a := Aliases{north: east}
	for id, want := range map[spiffeid.ID]spiffeid.ID{
		alice:            alice,
		in(north, alice): alice,
		carol:            carol,
		{}:               {},
	} {
		if got := a.Canonical(id); got != want {
			t.Errorf("Canonical(%v) = %v, want %v", id, got, want)
		}
	}
}

func TestAliasesThatMakeNoSense(t *testing.T) {
	src := newTestSource(t, newTestCA(t, east), alice)
	for name, a := range map[string]Aliases{
		"of itself":   {east: east},
		"of an alias": {north: west, west: east},
		"a circle":    {north: west, west: north},
		"of nothing":  {north: spiffeid.TrustDomain{}},
		"nothing":     {spiffeid.TrustDomain{}: east},
	} {
		var local *LocalError
		if _, err := NewClient(Config{Source: src, Aliases: a}); !errors.As(err, &local) {
			t.Errorf("%s: %v, want a LocalError", name, err)
		}
	}
}

// TestBundlesOfOthers has the source's own trust domain only, and the roots of
// another mesh from somewhere else.
func TestBundlesOfOthers(t *testing.T) {
	eastCA, westCA, impostor := newTestCA(t, east), newTestCA(t, west), newTestCA(t, east)
	others := NewMemory(nil, westCA.Bundle(), impostor.Bundle())
	server := configOf(t, mustServer(t, Config{
		Source:  newTestSource(t, eastCA, alice),
		Bundles: others,
		Peers:   Peers{TrustDomains: []spiffeid.TrustDomain{east, west}},
	}))
	from := func(ca *CA, id spiffeid.ID) side {
		_, s := connect(naiveOf(t, ca, id), server)
		return s
	}
	if s := from(westCA, carol); s.err != nil {
		t.Errorf("a member of the other mesh: %v", s.err)
	}
	if s := from(eastCA, bob); s.err != nil {
		t.Errorf("a member of our own: %v", s.err)
	}
	// What the source says about its own domain is not overridden.
	wantRefusal(t, from(impostor, bob).err, CheckChain)
	others.RemoveBundle(west)
	wantRefusal(t, from(westCA, carol).err, CheckBundle)
}
