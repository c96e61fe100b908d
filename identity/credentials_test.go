package identity

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// tunnelCredentials is what a tunnel dialer wants; see package hbone.
type tunnelCredentials interface {
	Config(context.Context) (*tls.Config, error)
	Key() string
	Retire(tls.ConnectionState) (drain time.Time, cut <-chan struct{})
}

var _ tunnelCredentials = (*Credentials)(nil)

func wantRefusal(t *testing.T, err error, want Check) {
	t.Helper()
	var pe *PeerError
	if !errors.As(err, &pe) || pe.Check != want {
		t.Errorf("got %v, want a failed %q check", err, want)
	}
}

func TestKey(t *testing.T) {
	ca := newTestCA(t, east)
	src, other := newTestSource(t, ca, alice), newTestSource(t, ca, alice)
	bobSrc := newTestSource(t, ca, bob)
	key := func(f func(Config) (*Credentials, error), cfg Config) string {
		c, err := f(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return c.Key()
	}
	base := key(NewClient, Config{Source: src, Peers: onlyID(bob, carol)})
	same := map[string]string{
		"again":      key(NewClient, Config{Source: src, Peers: onlyID(bob, carol)}),
		"order":      key(NewClient, Config{Source: src, Peers: onlyID(carol, bob)}),
		"duplicates": key(NewClient, Config{Source: src, Peers: onlyID(carol, bob, carol)}),
		"time":       key(NewClient, Config{Source: src, Peers: onlyID(carol, bob), Time: time.Now}),
	}
	for name, k := range same {
		if k != base {
			t.Errorf("%s: key %q differs from %q", name, k, base)
		}
	}
	different := map[string]string{
		"role":         key(NewServer, Config{Source: src, Peers: onlyID(bob, carol)}),
		"local":        key(NewClient, Config{Source: bobSrc, Peers: onlyID(bob, carol)}),
		"source":       key(NewClient, Config{Source: other, Peers: onlyID(bob, carol)}),
		"value source": key(NewClient, Config{Source: struct{ *Memory }{src}, Peers: onlyID(bob, carol)}),
		"fewer peers":  key(NewClient, Config{Source: src, Peers: onlyID(bob)}),
		"no peers":     key(NewClient, Config{Source: src}),
		"domain":       key(NewClient, Config{Source: src, Peers: Peers{TrustDomains: []spiffeid.TrustDomain{east, west}}}),
		"bundles":      key(NewClient, Config{Source: src, Peers: onlyID(bob, carol), Bundles: other}),
		"revocations":  key(NewClient, Config{Source: src, Peers: onlyID(bob, carol), Revocations: mustCRLs(t, CRLConfig{})}),
		"aliases":      key(NewClient, Config{Source: src, Peers: onlyID(bob, carol), Aliases: Aliases{north: east}}),
		"other alias":  key(NewClient, Config{Source: src, Peers: onlyID(bob, carol), Aliases: Aliases{north: west}}),
		"post-quantum": key(NewClient, Config{Source: src, Peers: onlyID(bob, carol), RequirePQ: true}),
	}
	seen := map[string]string{base: "base"}
	for name, k := range different {
		if twin, dup := seen[k]; dup {
			t.Errorf("%s and %s share the key %q", name, twin, k)
		}
		seen[k] = name
	}
}

func TestKeyFollowsLocalIdentity(t *testing.T) {
	ca := newTestCA(t, east)
	src := newTestSource(t, ca, alice)
	c := mustClient(t, Config{Source: src, Peers: onlyID(bob)})
	before := c.Key()
	svid, err := ca.Issue(carolOf(east), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	src.SetSVID(svid)
	if c.Key() == before {
		t.Error("the key did not change with the local identity")
	}
}

func carolOf(td spiffeid.TrustDomain) spiffeid.ID {
	return spiffeid.RequireFromSegments(td, "ns", "app", "sa", "carol")
}

func TestKeyDoesNotAllocate(t *testing.T) {
	src := newTestSource(t, newTestCA(t, east), alice)
	c := mustClient(t, Config{Source: src, Peers: onlyID(bob)})
	if n := testing.AllocsPerRun(100, func() { c.Key() }); n > 0 {
		t.Errorf("Key allocates %v times", n)
	}
}

func TestRotationNeedsNoNewConfig(t *testing.T) {
	ca := newTestCA(t, east)
	src := newTestSource(t, ca, alice)
	client := configOf(t, mustClient(t, Config{Source: src, Peers: onlyID(bob)}))
	server := configOf(t, mustServer(t, Config{Source: newTestSource(t, ca, bob), Peers: onlyID(alice)}))
	_, first := connect(client, server)
	svid, err := ca.Issue(alice, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	src.SetSVID(svid)
	_, second := connect(client, server)
	if first.err != nil || second.err != nil {
		t.Fatal(first.err, second.err)
	}
	if first.state.PeerCertificates[0].Equal(second.state.PeerCertificates[0]) || !second.state.PeerCertificates[0].Equal(svid.Certificates[0]) {
		t.Error("the new certificate was not presented")
	}
}

func TestLocalErrors(t *testing.T) {
	ca := newTestCA(t, east)
	past, err := NewCA(CAConfig{TrustDomain: east, Time: func() time.Time { return time.Now().Add(-2 * time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	expired, err := past.Source(alice, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(Config{Peers: onlyID(bob)}); err == nil {
		t.Error("no source was accepted")
	}
	for name, tc := range map[string]struct {
		src  Source
		want error
		id   spiffeid.ID
	}{
		"nothing yet": {&Memory{}, ErrNoIdentity, spiffeid.ID{}},
		"expired":     {expired, nil, alice},
	} {
		for _, role := range []func(Config) (*Credentials, error){NewClient, NewServer} {
			c, err := role(Config{Source: tc.src, Peers: onlyID(bob)})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Config(t.Context())
			var le *LocalError
			if !errors.As(err, &le) || le.ID != tc.id || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("%s, %s: got %v", name, c.Role(), err)
			}
		}
	}
	// A configuration that was good may outlive the certificate: nothing is
	// presented then.
	src := newTestSource(t, ca, alice)
	client := configOf(t, mustClient(t, Config{Source: src, Peers: onlyID(bob)}))
	server := configOf(t, mustServer(t, Config{Source: newTestSource(t, ca, bob), Peers: onlyID(alice)}))
	old, _ := expired.GetX509SVID()
	src.SetSVID(old)
	var le *LocalError
	if c, s := connect(client, server); !errors.As(c.err, &le) || s.err == nil {
		t.Errorf("client: %v, server: %v", c.err, s.err)
	}
}

func TestConfigHonoursContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := mustClient(t, Config{Source: &Memory{}})
	if _, err := c.Config(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRetireDrainsAtTheEarlierEnd(t *testing.T) {
	ca := newTestCA(t, east)
	short, err := ca.Source(alice, 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	long := newTestSource(t, ca, bob)
	client := mustClient(t, Config{Source: short, Peers: onlyID(bob)})
	server := mustServer(t, Config{Source: long, Peers: onlyID(alice)})
	c, s := connect(configOf(t, client), configOf(t, server))
	if c.err != nil || s.err != nil {
		t.Fatal(c.err, s.err)
	}
	svid, _ := short.GetX509SVID()
	want := svid.Certificates[0].NotAfter
	if drain, _ := client.Retire(c.state); !drain.Equal(want) {
		t.Errorf("client drains at %v, want its own end %v", drain, want)
	}
	if drain, _ := server.Retire(s.state); !drain.Equal(want) {
		t.Errorf("server drains at %v, want its peer's end %v", drain, want)
	}

	// Renewed between handshake and Retire: the connection has the old one.
	renewed, err := ca.Issue(alice, 30*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	short.SetSVID(renewed)
	if drain, _ := client.Retire(c.state); !drain.Equal(want) {
		t.Errorf("after a renewal the client drains at %v, want %v", drain, want)
	}
	if c, s := connect(configOf(t, client), configOf(t, server)); c.err != nil || s.err != nil {
		t.Fatal(c.err, s.err)
	}
	if drain, _ := client.Retire(c.state); !drain.Equal(want) {
		t.Errorf("after a renewal and another handshake the client drains at %v, want %v", drain, want)
	}
}

// TestRetireDrainsWithTheChain: an intermediate may end before the leaf.
func TestRetireDrainsWithTheChain(t *testing.T) {
	root := newTestCA(t, east)
	end := time.Now().Add(10 * time.Minute).Truncate(time.Second)
	inter := forge(t, forgery{uris: []string{"spiffe://east.example"}, isCA: true, keyUsage: x509.KeyUsageCertSign, notAfter: end}, certOf(root), keyOf(root))
	issuer, err := x509.ParseCertificate(inter.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	leaf := forge(t, forgery{uris: []string{alice.String()}, usages: bothUsages}, issuer, inter.PrivateKey.(crypto.Signer))
	leaf.Certificate = append(leaf.Certificate, inter.Certificate...)
	short := NewMemory(svidOf(t, leaf, alice), root.Bundle())
	for name, revoked := range map[string]Revocations{"": nil, " with revocations": mustCRLs(t, CRLConfig{})} {
		client := mustClient(t, Config{Source: short, Peers: onlyID(bob), Revocations: revoked})
		server := mustServer(t, Config{Source: newTestSource(t, root, bob), Peers: onlyID(alice), Revocations: revoked})
		c, s := connect(configOf(t, client), configOf(t, server))
		if c.err != nil || s.err != nil {
			t.Fatal(c.err, s.err)
		}
		if drain, _ := server.Retire(s.state); !drain.Equal(end) {
			t.Errorf("server%s drains at %v, want the end of the peer's intermediate %v", name, drain, end)
		}
		if drain, _ := client.Retire(c.state); !drain.Equal(end) {
			t.Errorf("client%s drains at %v, want the end of its own intermediate %v", name, drain, end)
		}
	}
}

func svidOf(t testing.TB, cert tls.Certificate, id spiffeid.ID) *x509svid.SVID {
	t.Helper()
	svid := &x509svid.SVID{ID: id, PrivateKey: cert.PrivateKey.(crypto.Signer)}
	for _, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		svid.Certificates = append(svid.Certificates, c)
	}
	return svid
}

func TestRevocationCutsConnections(t *testing.T) {
	root := newTestCA(t, east)
	inter := intermediate(t, root)
	leaf, err := inter.Issue(alice, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	peer := newTestSource(t, root, alice)
	peer.SetSVID(leaf)
	for name, victim := range map[string]int{"leaf": 0, "intermediate": 1} {
		t.Run(name, func(t *testing.T) {
			crls := mustCRLs(t, CRLConfig{})
			server := mustServer(t, Config{Source: newTestSource(t, root, bob), Peers: onlyID(alice), Revocations: crls})
			client := mustClient(t, Config{Source: peer, Peers: onlyID(bob)})
			c, s := connect(configOf(t, client), configOf(t, server))
			if c.err != nil || s.err != nil {
				t.Fatal(c.err, s.err)
			}
			_, cut := server.Retire(s.state)
			select {
			case <-cut:
				t.Fatal("cut before anything was revoked")
			default:
			}
			unrelated, err := root.Issue(alice, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			crls.Revoke(unrelated.Certificates[0])
			select {
			case <-cut:
				t.Fatal("cut by the revocation of another certificate")
			default:
			}
			crls.Revoke(leaf.Certificates[victim])
			<-cut
			_, s = connect(configOf(t, client), configOf(t, server))
			wantRefusal(t, s.err, CheckRevoked)
		})
	}
}

func TestRevocationsForgetExpired(t *testing.T) {
	ca, err := NewCA(CAConfig{TrustDomain: east, Time: func() time.Time { return time.Now().Add(-2 * time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	crls := mustCRLs(t, CRLConfig{})
	for range 200 {
		svid, err := ca.Issue(alice, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		crls.WatchRevoked(svid.Certificates)
	}
	if len(crls.chains) > 65 {
		t.Errorf("%d expired chains are kept", len(crls.chains))
	}
}
