package ztunnel

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
)

var (
	formerDomain = spiffeid.RequireTrustDomainFromString("former.example")
	otherMesh    = spiffeid.RequireTrustDomainFromString("other.example")
)

// trustingWorld has a proxy with a configuration of trust, and a pod of it that
// an application runs in.
func trustingWorld(t *testing.T, cfg Config) *world {
	t.Helper()
	w := newClosedWorld(t, cfg)
	w.apply(reviewsPod(), client())
	w.policies()
	w.state.Complete(wds.AddressTypeURL)
	w.state.Complete(wds.AuthorizationTypeURL)
	w.awaitReady()
	w.app("reviews", serverIP+":8080")
	return w
}

// knockAs opens a stream to the pod with somebody's certificate.
func (w *world) knockAs(source identity.Source) (*hbone.Conn, error) {
	w.Helper()
	creds, err := identity.NewClient(identity.Config{Source: source, Peers: identity.Peers{IDs: []spiffeid.ID{id("reviews")}}})
	if err != nil {
		w.Fatal(err)
	}
	tr := &hbone.Transport{DialContext: w.network.Pod(netip.MustParseAddr("10.1.0.99")).DialContext, MaxBackoff: -1}
	w.Cleanup(func() { tr.Close() })
	return tr.Dial(w.ctx, hbone.Path{Hops: []hbone.Hop{{Address: net.JoinHostPort(serverIP, "15008"), Authority: serverIP + ":8080", TLS: creds}}})
}

// of returns a source of a CA for an account of namespace app, which knows the
// roots of the proxy's mesh as well.
func (w *world) of(ca *identity.CA, account string) *identity.Memory {
	w.Helper()
	source, err := ca.Source(spiffeid.RequireFromSegments(ca.TrustDomain(), "ns", "app", "sa", account), time.Hour)
	if err != nil {
		w.Fatal(err)
	}
	source.SetBundle(w.ca.Bundle())
	return source
}

// TestOtherMeshes has peers of another mesh, with a root of its own, and peers
// that have the name that the mesh had before.
func TestOtherMeshes(t *testing.T) {
	other, err := identity.NewCA(identity.CAConfig{TrustDomain: otherMesh})
	if err != nil {
		t.Fatal(err)
	}
	former, err := identity.NewCA(identity.CAConfig{TrustDomain: formerDomain})
	if err != nil {
		t.Fatal(err)
	}
	w := trustingWorld(t, Config{
		Federated: []spiffeid.TrustDomain{otherMesh},
		Trust: identity.Config{
			Bundles: identity.NewMemory(nil, other.Bundle(), former.Bundle()),
			Aliases: identity.Aliases{formerDomain: td},
		},
	})
	for _, tt := range []struct {
		name string
		ca   *identity.CA
		peer string // as policies know it
	}{
		{"another mesh", other, "spiffe://other.example/ns/app/sa/client"},
		{"the former name", former, "spiffe://cluster.local/ns/app/sa/client"},
		{"our own", w.ca, "spiffe://cluster.local/ns/app/sa/client"},
	} {
		conn, err := w.knockAs(w.of(tt.ca, "client"))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if e := w.event(Inbound); e.Peer != tt.peer {
			t.Errorf("%s: it is taken for %s, want %s", tt.name, e.Peer, tt.peer)
		}
		conn.Close()
	}
	// A policy that has the former name is about the workload by any name.
	w.policies(&wds.Authorization{Name: "not-the-client", Namespace: "app", Scope: wds.ScopeNamespace, Action: wds.ActionDeny,
		Groups: []wds.Group{{Rules: []wds.Rule{{Matches: []wds.Match{{Principals: []wds.StringMatch{{Value: "former.example/ns/app/sa/client"}}}}}}}}})
	for _, ca := range []*identity.CA{former, w.ca} {
		if _, err := w.knockAs(w.of(ca, "client")); statusIn(err) != http.StatusUnauthorized {
			t.Errorf("denied by its former name, as a member of %s: %v", ca.TrustDomain().Name(), err)
		}
	}
	if conn, err := w.knockAs(w.of(other, "client")); err != nil {
		t.Errorf("the namesake in another mesh: %v", err)
	} else {
		conn.Close()
	}
	stranger, err := identity.NewCA(identity.CAConfig{TrustDomain: otherMesh})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.knockAs(w.of(stranger, "client")); err == nil {
		t.Error("somebody else's root vouches for the other mesh")
	}
}

// TestRevokedPeers revokes the certificate of a client while its connection is
// open.
func TestRevokedPeers(t *testing.T) {
	crls, err := identity.OpenCRLs(identity.CRLConfig{})
	if err != nil {
		t.Fatal(err)
	}
	w := trustingWorld(t, Config{Trust: identity.Config{Revocations: crls}})
	victim, bystander := w.of(w.ca, "victim"), w.of(w.ca, "bystander")
	open := func(source identity.Source) *hbone.Conn {
		conn, err := w.knockAs(source)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if name, err := readName(conn); name != "reviews" {
			t.Fatalf("%q answers, %v", name, err)
		}
		return conn
	}
	inbound, other := open(victim), open(bystander)
	svid, err := victim.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	crls.Revoke(svid.Certificates[0])
	if _, err := inbound.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the connection of the revoked client ended with %v", err)
	}
	for e := w.event(Inbound); ; e = w.event(Inbound) {
		if errors.Is(e.Err, hbone.ErrRevoked) {
			break
		}
	}
	if _, err := w.knockAs(victim); err == nil {
		t.Error("the revoked client comes in again")
	}
	if _, err := other.Write([]byte{1}); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
		t.Errorf("another client's connection: %v", err)
	}
}
