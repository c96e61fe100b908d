package identity

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// resumable returns two sides that resume, and their sources.
func resumable(t *testing.T) (client, server *tls.Config, clientSrc, serverSrc *Memory) {
	return resumableWith(t, nil, nil)
}

// resumableWith has each side ask revocations of its own. What signs for the
// server is an intermediate.
func resumableWith(t *testing.T, ofClient, ofServer Revocations) (client, server *tls.Config, clientSrc, serverSrc *Memory) {
	a := newCRLAuthority(t)
	clientSrc, serverSrc = newTestSource(t, a.root, alice), newTestSource(t, a.inter, bob)
	client = configOf(t, mustClient(t, Config{Source: clientSrc, Peers: onlyID(bob), Resumption: true, Revocations: ofClient}))
	server = configOf(t, mustServer(t, Config{Source: serverSrc, Peers: onlyID(alice), Resumption: true, Revocations: ofServer}))
	if c, s := connect(client, server); c.err != nil || s.err != nil {
		t.Fatalf("first connection: %v, %v", c.err, s.err)
	}
	return client, server, clientSrc, serverSrc
}

func TestResumptionIsOffByDefault(t *testing.T) {
	ca := newTestCA(t, east)
	clientSrc, serverSrc := newTestSource(t, ca, alice), newTestSource(t, ca, bob)
	for name, on := range map[string]struct{ client, server bool }{"neither": {}, "client only": {client: true}, "server only": {server: true}} {
		client := configOf(t, mustClient(t, Config{Source: clientSrc, Peers: onlyID(bob), Resumption: on.client}))
		server := configOf(t, mustServer(t, Config{Source: serverSrc, Peers: onlyID(alice), Resumption: on.server}))
		for range 2 {
			if c, s := connect(client, server); c.err != nil || s.err != nil || c.state.DidResume || s.state.DidResume {
				t.Fatalf("%s: client: %v, server: %v, resumed %t", name, c.err, s.err, s.state.DidResume)
			}
		}
	}
}

func TestResumedConnectionHasPeerID(t *testing.T) {
	client, server, _, _ := resumable(t)
	c, s := connect(client, server)
	if c.err != nil || s.err != nil || !c.state.DidResume || !s.state.DidResume {
		t.Fatalf("client: %v, server: %v, resumed %t", c.err, s.err, s.state.DidResume)
	}
	if id, err := PeerID(c.state); err != nil || id != bob {
		t.Errorf("client's peer is %v, %v", id, err)
	}
	if id, err := PeerID(s.state); err != nil || id != alice {
		t.Errorf("server's peer is %v, %v", id, err)
	}
}

// TestResumptionIsVerified withdraws trust between two connections. With the
// check in VerifyPeerCertificate, which does not run on resumption, the second
// one would be accepted.
func TestResumptionIsVerified(t *testing.T) {
	t.Run("server lost the bundle", func(t *testing.T) {
		client, server, _, src := resumable(t)
		src.RemoveBundle(east)
		c, s := connect(client, server)
		wantRefusal(t, s.err, CheckBundle)
		if c.err == nil {
			t.Error("client was not told")
		}
	})
	t.Run("client lost the bundle", func(t *testing.T) {
		client, server, src, _ := resumable(t)
		src.RemoveBundle(east)
		c, _ := connect(client, server)
		wantRefusal(t, c.err, CheckBundle)
	})
	t.Run("server got another root", func(t *testing.T) {
		client, server, _, src := resumable(t)
		src.SetBundle(newTestCA(t, east).Bundle())
		_, s := connect(client, server)
		wantRefusal(t, s.err, CheckChain)
	})
	t.Run("client certificate was revoked", func(t *testing.T) {
		crls := mustCRLs(t, CRLConfig{})
		client, server, peer, _ := resumableWith(t, nil, crls)
		svid, _ := peer.GetX509SVID()
		crls.Revoke(svid.Certificates[0])
		_, s := connect(client, server)
		wantRefusal(t, s.err, CheckRevoked)
	})
	t.Run("server's CA was revoked", func(t *testing.T) {
		crls := mustCRLs(t, CRLConfig{})
		client, server, _, peer := resumableWith(t, crls, nil)
		svid, _ := peer.GetX509SVID()
		crls.Revoke(svid.Certificates[1])
		c, _ := connect(client, server)
		wantRefusal(t, c.err, CheckRevoked)
	})
}

// TestServerWithoutItsCertificate: a ticket speaks for a certificate that the
// server may no longer use.
func TestServerWithoutItsCertificate(t *testing.T) {
	t.Run("withdrawn", func(t *testing.T) {
		client, server, _, src := resumable(t)
		src.SetSVID(nil)
		c, s := connect(client, server)
		if !errors.Is(s.err, ErrNoIdentity) {
			t.Errorf("server: %v, resumed %t, want %v", s.err, s.state.DidResume, ErrNoIdentity)
		}
		if c.err == nil {
			t.Error("client was not told")
		}
	})
	t.Run("replaced", func(t *testing.T) {
		ca := newTestCA(t, east)
		src := newTestSource(t, ca, bob)
		now := time.Now()
		clock := func() time.Time { return now }
		client := configOf(t, mustClient(t, Config{Source: newTestSource(t, ca, alice), Peers: onlyID(bob), Resumption: true, Time: clock}))
		server := configOf(t, mustServer(t, Config{Source: src, Peers: onlyID(alice), Resumption: true, Time: clock}))
		next := func(resumed bool) {
			t.Helper()
			c, s := connect(client, server)
			if c.err != nil || s.err != nil || c.state.DidResume != resumed {
				t.Fatalf("client: %v, server: %v; resumed %t, want %t", c.err, s.err, c.state.DidResume, resumed)
			}
			if svid, _ := src.GetX509SVID(); !c.state.PeerCertificates[0].Equal(svid.Certificates[0]) {
				t.Error("the client saw the old certificate")
			}
		}
		next(false)
		next(true)
		svid, err := ca.Issue(bob, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		src.SetSVID(svid)
		next(false)
		next(false) // the ticket could be of a handshake with the old one
		now = now.Add(2 * handshakeSpan)
		next(false)
		next(true)
	})
}

// TestNewCertificateIsPresented changes the client's certificate between two
// connections. A resumed session would speak for the old one.
func TestNewCertificateIsPresented(t *testing.T) {
	dave := spiffeid.RequireFromString("spiffe://east.example/ns/app/sa/dave")
	for _, next := range []spiffeid.ID{alice, dave} {
		t.Run(next.Path(), func(t *testing.T) {
			ca := newTestCA(t, east)
			src := newTestSource(t, ca, alice)
			creds := mustClient(t, Config{Source: src, Peers: onlyID(bob), Resumption: true})
			server := configOf(t, mustServer(t, Config{Source: newTestSource(t, ca, bob), Peers: onlyID(alice, dave), Resumption: true}))
			old := configOf(t, creds)
			if c, s := connect(old, server); c.err != nil || s.err != nil {
				t.Fatalf("first connection: %v, %v", c.err, s.err)
			}
			svid, err := ca.Issue(next, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			src.SetSVID(svid)
			for _, client := range []*tls.Config{configOf(t, creds), old} {
				c, s := connect(client, server)
				if c.err != nil || s.err != nil {
					t.Fatalf("next connection: %v, %v", c.err, s.err)
				}
				if !s.state.PeerCertificates[0].Equal(svid.Certificates[0]) {
					t.Errorf("resumed %t: the server saw the old certificate", s.state.DidResume)
				}
			}
			if c, s := connect(configOf(t, creds), server); c.err != nil || s.err != nil || !s.state.DidResume {
				t.Errorf("with the new certificate: %v, %v, resumed %t", c.err, s.err, s.state.DidResume)
			}
		})
	}
}
