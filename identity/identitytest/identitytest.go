// Package identitytest holds sources of certificates to what package identity
// expects of them.
//
//	func TestSource(t *testing.T) {
//		identitytest.Run(t, func(t *testing.T) identitytest.Subject {
//			source := newMySource(t)
//			return identitytest.Subject{Source: source, ID: id, Rotate: source.rotate}
//		})
//	}
//
// Each test of the suite gets a source of its own, and makes real handshakes
// with it. The suite does not test how a source gets its certificates.
package identitytest

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/eastwest-mesh/eastwest/identity"
)

// A Subject is a source under test, and what can be done to it. It has a
// certificate when the suite gets it.
type Subject struct {
	// Source is under test. Required.
	Source identity.Source

	// ID is whose certificates the source has. Required.
	ID spiffeid.ID

	// Rotate gives the source another certificate of the same identity, and
	// returns once it is served. If nil, tests of rotation are skipped.
	Rotate func(t *testing.T)

	// ReplaceRoots gives the source another root for its own trust domain, and
	// a certificate that leads to it, and returns once both are served. If nil,
	// the test of that is skipped.
	ReplaceRoots func(t *testing.T)

	// Withdraw takes the certificate away, or lets it expire, and returns once
	// that is so. If nil, the test of that is skipped.
	Withdraw func(t *testing.T)

	// Federated is another trust domain that the source has roots of. If zero,
	// the test of that is skipped.
	Federated spiffeid.TrustDomain
}

// Run runs the suite. It calls new for each test.
func Run(t *testing.T, new func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s Subject)
	}{
		{"IsAPointer", isAPointer},
		{"Certificate", certificate},
		{"LeadsToItsRoots", leadsToItsRoots},
		{"UnknownTrustDomain", unknownTrustDomain},
		{"Federated", federated},
		{"Handshake", handshake},
		{"RefusesImpostors", refusesImpostors},
		{"Rotation", rotation},
		{"RotationUnderLoad", rotationUnderLoad},
		{"ReplacedRoots", replacedRoots},
		{"Withdrawal", withdrawal},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, new(t)) })
	}
}

// isAPointer: tunnels are shared between credentials of one source, and a
// pointer is what says that it is one.
func isAPointer(t *testing.T, s Subject) {
	if k := reflect.ValueOf(s.Source).Kind(); k != reflect.Pointer {
		t.Errorf("the source is a %v: credentials made from it share no tunnels", k)
	}
}

func svidOf(t *testing.T, s Subject) *x509svid.SVID {
	t.Helper()
	svid, err := s.Source.GetX509SVID()
	if err != nil {
		t.Fatalf("GetX509SVID: %v", err)
	}
	return svid
}

// certificate checks what X.509-SVID asks of a leaf, and that the key is its own.
func certificate(t *testing.T, s Subject) {
	svid := svidOf(t, s)
	if svid.ID != s.ID {
		t.Errorf("the certificate is of %v, want %v", svid.ID, s.ID)
	}
	if len(svid.Certificates) == 0 {
		t.Fatal("no certificates")
	}
	leaf := svid.Certificates[0]
	if id, err := identity.CertificateID(leaf); err != nil || id != s.ID {
		t.Errorf("the name in the leaf is %v, %v, want %v", id, err, s.ID)
	}
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Error("the leaf is an authority")
	}
	if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		t.Errorf("the leaf is valid from %v to %v, not now", leaf.NotBefore, leaf.NotAfter)
	}
	checkKey(t, svid)
}

func checkKey(t *testing.T, svid *x509svid.SVID) {
	t.Helper()
	public, ok := svid.PrivateKey.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(svid.Certificates[0].PublicKey) {
		t.Error("the key does not belong to the certificate")
	}
}

func leadsToItsRoots(t *testing.T, s Subject) {
	td := s.ID.TrustDomain()
	bundle, err := s.Source.GetX509BundleForTrustDomain(td)
	if err != nil {
		t.Fatalf("its own bundle: %v", err)
	}
	if bundle.TrustDomain() != td || bundle.Empty() {
		t.Errorf("the bundle is of %q with %d roots, want one of %q", bundle.TrustDomain(), len(bundle.X509Authorities()), td)
	}
	svid := svidOf(t, s)
	if id, _, err := x509svid.Verify(svid.Certificates, bundle); err != nil || id != s.ID {
		t.Errorf("the certificate verifies as %v, %v", id, err)
	}
	for i, c := range svid.Certificates[1:] {
		if bundle.HasX509Authority(c) {
			t.Errorf("certificate %d is a root: it would be sent in each handshake", i+1)
		}
	}
}

func unknownTrustDomain(t *testing.T, s Subject) {
	unknown := spiffeid.RequireTrustDomainFromString("unknown.identitytest.example")
	for _, td := range []spiffeid.TrustDomain{unknown, {}} {
		if b, err := s.Source.GetX509BundleForTrustDomain(td); err == nil {
			t.Errorf("trust domain %q has a bundle of %d roots, want an error", td.Name(), len(b.X509Authorities()))
		}
	}
}

func federated(t *testing.T, s Subject) {
	if s.Federated.IsZero() {
		t.Skip("the source is not federated")
	}
	own, err := s.Source.GetX509BundleForTrustDomain(s.ID.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := s.Source.GetX509BundleForTrustDomain(s.Federated)
	if err != nil || bundle.TrustDomain() != s.Federated || bundle.Empty() {
		t.Fatalf("the bundle of %q: %v", s.Federated, err)
	}
	for _, root := range bundle.X509Authorities() {
		if own.HasX509Authority(root) {
			t.Errorf("a root of %q vouches for %q as well", s.Federated, s.ID.TrustDomain())
		}
	}
}

// handshake connects the source with itself.
func handshake(t *testing.T, s Subject) {
	c := connect(t, s, identity.Peers{IDs: []spiffeid.ID{s.ID}})
	defer c.close()
	c.check(t, s.ID)
	if other := spiffeid.RequireFromSegments(s.ID.TrustDomain(), "identitytest", "other"); other != s.ID {
		_, err := dial(t, s, s, identity.Peers{IDs: []spiffeid.ID{other}})
		wantRefusal(t, err, identity.CheckPeer)
	}
}

// refusesImpostors has another authority that calls itself by the source's own
// trust domain.
func refusesImpostors(t *testing.T, s Subject) {
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: s.ID.TrustDomain()})
	if err != nil {
		t.Fatal(err)
	}
	impostor, err := ca.Source(s.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, err = dial(t, s, Subject{Source: impostor, ID: s.ID}, identity.Peers{IDs: []spiffeid.ID{s.ID}})
	wantRefusal(t, err, identity.CheckChain)
}

func rotation(t *testing.T, s Subject) {
	if s.Rotate == nil {
		t.Skip("the source does not rotate here")
	}
	peers := identity.Peers{IDs: []spiffeid.ID{s.ID}}
	before := svidOf(t, s)
	raw := bytes.Clone(before.Certificates[0].Raw)
	old := connect(t, s, peers)
	defer old.close()
	key := old.client.Key()
	s.Rotate(t)
	after := svidOf(t, s)
	if after.ID != s.ID || after.Certificates[0].Equal(before.Certificates[0]) {
		t.Fatalf("after the rotation the certificate of %v is served, want a new one of %v", after.ID, s.ID)
	}
	checkKey(t, after)
	checkKey(t, before)
	if !bytes.Equal(raw, before.Certificates[0].Raw) {
		t.Error("the SVID that was got before has changed: it must not be modified")
	}
	old.check(t, s.ID) // goes on
	if old.client.Key() != key {
		t.Error("the key of the credentials has changed: tunnels would not be found again")
	}
	fresh := connect(t, s, peers)
	defer fresh.close()
	fresh.check(t, s.ID)
	if !fresh.state.PeerCertificates[0].Equal(after.Certificates[0]) {
		t.Error("a new connection has the old certificate")
	}
}

// rotationUnderLoad reads from many goroutines while the certificate changes.
func rotationUnderLoad(t *testing.T, s Subject) {
	if s.Rotate == nil {
		t.Skip("the source does not rotate here")
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				svid, err := s.Source.GetX509SVID()
				if err != nil {
					t.Errorf("GetX509SVID during a rotation: %v", err)
					return
				}
				checkKey(t, svid)
				if _, err := s.Source.GetX509BundleForTrustDomain(s.ID.TrustDomain()); err != nil {
					t.Errorf("the bundle during a rotation: %v", err)
					return
				}
			}
		})
	}
	for range 5 {
		s.Rotate(t)
	}
	close(stop)
	readers.Wait()
}

func replacedRoots(t *testing.T, s Subject) {
	if s.ReplaceRoots == nil {
		t.Skip("the source does not replace its roots here")
	}
	old, err := s.Source.GetX509BundleForTrustDomain(s.ID.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	before := Subject{Source: identity.NewMemory(svidOf(t, s), old), ID: s.ID}
	s.ReplaceRoots(t)
	c := connect(t, s, identity.Peers{IDs: []spiffeid.ID{s.ID}})
	defer c.close()
	c.check(t, s.ID)
	_, err = dial(t, s, before, identity.Peers{IDs: []spiffeid.ID{s.ID}})
	wantRefusal(t, err, identity.CheckChain)
}

func withdrawal(t *testing.T, s Subject) {
	if s.Withdraw == nil {
		t.Skip("the source does not lose its certificate here")
	}
	client, err := identity.NewClient(identity.Config{Source: s.Source})
	if err != nil {
		t.Fatal(err)
	}
	s.Withdraw(t)
	var local *identity.LocalError
	if _, err := client.Config(t.Context()); !errors.As(err, &local) {
		t.Errorf("Config without a valid certificate: %v, want a LocalError", err)
	}
}

// connection is a connection between two sources.
type connection struct {
	client         *identity.Credentials
	near, far      *tls.Conn
	state          tls.ConnectionState // as the client sees it
	serverSawState tls.ConnectionState
}

func (c *connection) close() {
	c.near.NetConn().Close()
	c.far.NetConn().Close()
}

// check passes bytes both ways and compares the names that both ends saw.
func (c *connection) check(t *testing.T, want spiffeid.ID) {
	t.Helper()
	for _, way := range []struct{ from, to *tls.Conn }{{c.near, c.far}, {c.far, c.near}} {
		sent := make(chan error, 1)
		go func() {
			_, err := way.from.Write([]byte("ping"))
			sent <- err
		}()
		buf := make([]byte, 4)
		if _, err := way.to.Read(buf); err != nil || string(buf) != "ping" {
			t.Errorf("read %q, %v", buf, err)
		}
		if err := <-sent; err != nil {
			t.Errorf("write: %v", err)
		}
	}
	for _, state := range []tls.ConnectionState{c.state, c.serverSawState} {
		if id, err := identity.PeerID(state); err != nil || id != want {
			t.Errorf("the peer is %v, %v, want %v", id, err, want)
		}
	}
}

// connect makes a connection of the source with itself.
func connect(t *testing.T, s Subject, peers identity.Peers) *connection {
	t.Helper()
	c, err := dial(t, s, s, peers)
	if err != nil {
		t.Fatalf("handshake: %v", err)
	}
	return c
}

// dial makes a connection from one source to another. The error is that of the
// client's side, who verifies first.
func dial(t *testing.T, from, to Subject, peers identity.Peers) (*connection, error) {
	t.Helper()
	client, err := identity.NewClient(identity.Config{Source: from.Source, Peers: peers})
	if err != nil {
		t.Fatal(err)
	}
	server, err := identity.NewServer(identity.Config{Source: to.Source, Peers: identity.Peers{IDs: []spiffeid.ID{from.ID}}})
	if err != nil {
		t.Fatal(err)
	}
	clientConfig, err := client.Config(t.Context())
	if err != nil {
		return nil, err
	}
	serverConfig, err := server.Config(t.Context())
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	c := &connection{client: client, near: tls.Client(near, clientConfig), far: tls.Server(far, serverConfig)}
	done := make(chan error, 1)
	go func() {
		err := c.far.HandshakeContext(t.Context())
		if err != nil {
			far.Close()
		}
		done <- err
	}()
	err = c.near.HandshakeContext(t.Context())
	if err != nil {
		near.Close()
	}
	if serverErr := <-done; err == nil {
		err = serverErr
	}
	if err != nil {
		c.close()
		return nil, err
	}
	c.state, c.serverSawState = c.near.ConnectionState(), c.far.ConnectionState()
	return c, nil
}

func wantRefusal(t *testing.T, err error, want identity.Check) {
	t.Helper()
	var refused *identity.PeerError
	if !errors.As(err, &refused) || refused.Check != want {
		t.Errorf("got %v, want a failed %q check", err, want)
	}
}
