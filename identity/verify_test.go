package identity

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var bothUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}

func TestMutualHandshake(t *testing.T) {
	ca := newTestCA(t, east)
	client := mustClient(t, Config{Source: newTestSource(t, ca, alice), Peers: onlyID(bob)})
	server := mustServer(t, Config{Source: newTestSource(t, ca, bob), Peers: Peers{TrustDomains: []spiffeid.TrustDomain{east}}})
	c, s := connect(configOf(t, client), configOf(t, server))
	if c.err != nil || s.err != nil {
		t.Fatalf("client: %v, server: %v", c.err, s.err)
	}
	for _, tc := range []struct {
		name  string
		state tls.ConnectionState
		peer  spiffeid.ID
	}{{"client", c.state, bob}, {"server", s.state, alice}} {
		if id, err := PeerID(tc.state); err != nil || id != tc.peer {
			t.Errorf("%s: peer is %v, %v, want %v", tc.name, id, err, tc.peer)
		}
		if tc.state.Version != tls.VersionTLS13 || tc.state.NegotiatedProtocol != "h2" || tc.state.ServerName != "" {
			t.Errorf("%s: version %x, protocol %q, server name %q", tc.name, tc.state.Version, tc.state.NegotiatedProtocol, tc.state.ServerName)
		}
		if tc.state.CurveID != tls.X25519MLKEM768 {
			t.Errorf("%s: key exchange %v, want X25519MLKEM768", tc.name, tc.state.CurveID)
		}
	}
}

// TestRefusals presents bad certificates to a good client and to a good server.
func TestRefusals(t *testing.T) {
	eastCA, westCA, eastImpostor := newTestCA(t, east), newTestCA(t, west), newTestCA(t, east)
	now := time.Now()
	tests := []struct {
		name  string
		f     forgery
		by    *CA
		check Check // "" if it is to be accepted
	}{
		{"good", forgery{uris: []string{bob.String()}, usages: bothUsages}, eastCA, ""},
		{"no EKU at all", forgery{uris: []string{bob.String()}}, eastCA, ""},
		{"wrong peer", forgery{uris: []string{alice.String()}, usages: bothUsages}, eastCA, CheckPeer},
		{"wrong trust domain", forgery{uris: []string{carol.String()}, usages: bothUsages}, westCA, CheckTrustDomain},
		{"trust domain without bundle", forgery{uris: []string{"spiffe://north.example/ns/app/sa/dave"}, usages: bothUsages}, westCA, CheckBundle},
		{"expired", forgery{uris: []string{bob.String()}, usages: bothUsages, notBefore: now.Add(-time.Hour), notAfter: now.Add(-time.Second)}, eastCA, CheckExpired},
		{"not yet valid", forgery{uris: []string{bob.String()}, usages: bothUsages, notBefore: now.Add(time.Hour), notAfter: now.Add(2 * time.Hour)}, eastCA, CheckNotYetValid},
		{"wrong EKU", forgery{uris: []string{bob.String()}, usages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}, eastCA, CheckUsage},
		{"other root of the same trust domain", forgery{uris: []string{bob.String()}, usages: bothUsages}, eastImpostor, CheckChain},
		{"root of another trust domain that we know", forgery{uris: []string{bob.String()}, usages: bothUsages}, westCA, CheckChain},
		{"two URI SANs", forgery{uris: []string{bob.String(), alice.String()}, usages: bothUsages}, eastCA, CheckID},
		{"the same URI twice", forgery{uris: []string{bob.String(), bob.String()}, usages: bothUsages}, eastCA, CheckID},
		{"no URI SAN", forgery{usages: bothUsages}, eastCA, CheckID},
		{"URI in the common name", forgery{commonName: bob.String(), usages: bothUsages}, eastCA, CheckID},
		{"URI as a DNS name", forgery{dnsName: bob.String(), usages: bothUsages}, eastCA, CheckID},
		{"another URI in the common name", forgery{uris: []string{alice.String()}, commonName: bob.String(), usages: bothUsages}, eastCA, CheckPeer},
		{"trust domain only", forgery{uris: []string{"spiffe://east.example"}, usages: bothUsages}, eastCA, CheckID},
		{"https", forgery{uris: []string{"https://east.example/ns/app/sa/bob"}, usages: bothUsages}, eastCA, CheckID},
		{"upper-case scheme", forgery{uris: []string{"SPIFFE://east.example/ns/app/sa/bob"}, usages: bothUsages}, eastCA, CheckID},
		{"upper-case trust domain", forgery{uris: []string{"spiffe://East.example/ns/app/sa/bob"}, usages: bothUsages}, eastCA, CheckID},
		{"other case in the path", forgery{uris: []string{"spiffe://east.example/ns/app/sa/Bob"}, usages: bothUsages}, eastCA, CheckPeer},
		{"percent-encoding", forgery{uris: []string{"spiffe://east.example/ns/app/sa/%62ob"}, usages: bothUsages}, eastCA, CheckID},
		{"trailing slash", forgery{uris: []string{bob.String() + "/"}, usages: bothUsages}, eastCA, CheckID},
		{"empty segment", forgery{uris: []string{"spiffe://east.example/ns//app/sa/bob"}, usages: bothUsages}, eastCA, CheckID},
		{"dot segment", forgery{uris: []string{"spiffe://east.example/ns/x/../app/sa/bob"}, usages: bothUsages}, eastCA, CheckID},
		{"empty fragment", forgery{uris: []string{bob.String() + "#"}, usages: bothUsages}, eastCA, CheckID},
		{"empty query", forgery{uris: []string{bob.String() + "?"}, usages: bothUsages}, eastCA, CheckID},
		{"port", forgery{uris: []string{"spiffe://east.example:443/ns/app/sa/bob"}, usages: bothUsages}, eastCA, CheckID},
		{"user", forgery{uris: []string{"spiffe://u@east.example/ns/app/sa/bob"}, usages: bothUsages}, eastCA, CheckID},
		{"wildcard", forgery{uris: []string{"spiffe://east.example/ns/app/sa/*"}, usages: bothUsages}, eastCA, CheckID},
		{"4 KiB name", forgery{uris: []string{bob.String() + strings.Repeat("b", 4096)}, usages: bothUsages}, eastCA, CheckID},
		{"authority as leaf", forgery{uris: []string{bob.String()}, usages: bothUsages, isCA: true, keyUsage: x509.KeyUsageCertSign}, eastCA, CheckCertificate},
		{"leaf that may sign CRLs", forgery{uris: []string{bob.String()}, usages: bothUsages, keyUsage: x509.KeyUsageCRLSign}, eastCA, CheckCertificate},
	}
	peers := onlyID(bob, spiffeid.RequireFromString("spiffe://north.example/ns/app/sa/dave"))
	src := newTestSource(t, eastCA, alice)
	src.SetBundle(westCA.Bundle())
	client := configOf(t, mustClient(t, Config{Source: src, Peers: peers}))
	server := configOf(t, mustServer(t, Config{Source: src, Peers: peers}))
	for _, tc := range tests {
		bad := naive(forge(t, tc.f, certOf(tc.by), keyOf(tc.by)))
		t.Run(tc.name+"/by server", func(t *testing.T) {
			c, s := connect(bad, server)
			checkVerdict(t, tc.check, RoleClient, s.err, c.err)
		})
		t.Run(tc.name+"/by client", func(t *testing.T) {
			c, s := connect(client, bad)
			checkVerdict(t, tc.check, RoleServer, c.err, s.err)
		})
	}
}

// checkVerdict checks what the verifying side and the refused side saw.
func checkVerdict(t *testing.T, want Check, refused Role, verifier, peer error) {
	t.Helper()
	if want == "" {
		if verifier != nil || peer != nil {
			t.Fatalf("refused: %v; peer saw %v", verifier, peer)
		}
		return
	}
	var pe *PeerError
	if !errors.As(verifier, &pe) {
		t.Fatalf("verifier got %v, want a PeerError", verifier)
	}
	if pe.Check != want || pe.Role != refused || pe.Local != alice {
		t.Errorf("check %q of the %s by %s, want %q of the %s by %s (%v)", pe.Check, pe.Role, pe.Local, want, refused, alice, pe)
	}
	if !strings.Contains(peer.Error(), "bad certificate") {
		t.Errorf("peer saw %v, want the alert bad_certificate", peer)
	}
}

func TestUsageOfTheOtherRole(t *testing.T) {
	ca := newTestCA(t, east)
	src := newTestSource(t, ca, alice)
	id := []string{bob.String()}
	onlyServer := naive(forge(t, forgery{uris: id, usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, certOf(ca), keyOf(ca)))
	onlyClient := naive(forge(t, forgery{uris: id, usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, certOf(ca), keyOf(ca)))
	client := configOf(t, mustClient(t, Config{Source: src, Peers: onlyID(bob)}))
	server := configOf(t, mustServer(t, Config{Source: src, Peers: onlyID(bob)}))

	c, s := connect(client, onlyServer)
	checkVerdict(t, "", RoleServer, c.err, s.err)
	c, s = connect(onlyClient, server)
	checkVerdict(t, "", RoleClient, s.err, c.err)
	c, s = connect(client, onlyClient)
	checkVerdict(t, CheckUsage, RoleServer, c.err, s.err)
	c, s = connect(onlyServer, server)
	checkVerdict(t, CheckUsage, RoleClient, s.err, c.err)
}

func TestClientWithoutCertificate(t *testing.T) {
	ca := newTestCA(t, east)
	server := mustServer(t, Config{Source: newTestSource(t, ca, bob), Peers: onlyID(alice)})
	bare := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	c, s := connect(bare, configOf(t, server))
	if s.err == nil || !strings.Contains(s.err.Error(), "didn't provide a certificate") {
		t.Errorf("server: %v", s.err)
	}
	if c.err == nil || !strings.Contains(c.err.Error(), "certificate required") {
		t.Errorf("client: %v, want the alert certificate_required", c.err)
	}
}

func TestZeroPeersAcceptNobody(t *testing.T) {
	ca := newTestCA(t, east)
	good := configOf(t, mustServer(t, Config{Source: newTestSource(t, ca, bob), Peers: onlyID(alice)}))
	closed := configOf(t, mustClient(t, Config{Source: newTestSource(t, ca, alice)}))
	c, s := connect(closed, good)
	checkVerdict(t, CheckTrustDomain, RoleServer, c.err, s.err)
}

func TestOldTLSIsRefused(t *testing.T) {
	ca := newTestCA(t, east)
	server := configOf(t, mustServer(t, Config{Source: newTestSource(t, ca, bob), Peers: onlyID(alice)}))
	old := naive(forge(t, forgery{uris: []string{alice.String()}, usages: bothUsages}, certOf(ca), keyOf(ca)))
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if c, s := connect(old, server); c.err == nil || s.err == nil {
		t.Errorf("TLS 1.2 was accepted: %v, %v", c.err, s.err)
	}
}

// TestFederation has two trust domains with roots of their own.
func TestFederation(t *testing.T) {
	eastCA, westCA := newTestCA(t, east), newTestCA(t, west)
	a, c := newTestSource(t, eastCA, alice), newTestSource(t, westCA, carol)
	a.SetBundle(westCA.Bundle())
	c.SetBundle(eastCA.Bundle())
	client := configOf(t, mustClient(t, Config{Source: a, Peers: onlyID(carol)}))
	server := configOf(t, mustServer(t, Config{Source: c, Peers: Peers{TrustDomains: []spiffeid.TrustDomain{east, west}}}))
	cs, ss := connect(client, server)
	checkVerdict(t, "", RoleServer, cs.err, ss.err)

	a.RemoveBundle(west)
	cs, ss = connect(client, server)
	checkVerdict(t, CheckBundle, RoleServer, cs.err, ss.err)
}

// TestBundleOfAnother: a source that confuses trust domains confuses us not.
func TestBundleOfAnother(t *testing.T) {
	ca, other := newTestCA(t, east), newTestCA(t, west)
	for _, wrong := range []*x509bundle.Bundle{other.Bundle(), nil} {
		creds := mustClient(t, Config{Source: confused{newTestSource(t, ca, alice), wrong}, Peers: onlyID(bob)})
		cert := forge(t, forgery{uris: []string{bob.String()}, usages: bothUsages}, certOf(other), keyOf(other))
		_, err := creds.verifiedChain(tls.ConnectionState{PeerCertificates: svidOf(t, cert, bob).Certificates})
		wantRefusal(t, err, CheckBundle)
	}
}

// confused returns the same bundle for every trust domain.
type confused struct {
	*Memory
	bundle *x509bundle.Bundle
}

func (c confused) GetX509BundleForTrustDomain(spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return c.bundle, nil
}

func TestChains(t *testing.T) {
	root := newTestCA(t, east)
	inter := intermediate(t, root)
	src := newTestSource(t, root, alice)
	server := configOf(t, mustServer(t, Config{Source: src, Peers: onlyID(bob)}))

	leaf, err := inter.Issue(bob, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	peer := newTestSource(t, root, bob)
	peer.SetSVID(leaf)
	client := configOf(t, mustClient(t, Config{Source: peer, Peers: onlyID(alice)}))
	c, s := connect(client, server)
	checkVerdict(t, "", RoleClient, s.err, c.err)

	full := naive(tls.Certificate{PrivateKey: leaf.PrivateKey})
	for range maxChain + 1 {
		full.Certificates[0].Certificate = append(full.Certificates[0].Certificate, leaf.Certificates[0].Raw)
	}
	c, s = connect(full, server)
	checkVerdict(t, CheckCertificate, RoleClient, s.err, c.err)

	alone := naive(tls.Certificate{PrivateKey: leaf.PrivateKey, Certificate: [][]byte{leaf.Certificates[0].Raw}})
	c, s = connect(alone, server)
	checkVerdict(t, CheckChain, RoleClient, s.err, c.err)
}

// intermediate returns a CA whose authority the root signed.
func intermediate(t testing.TB, root *CA) *CA {
	t.Helper()
	cert := forge(t, forgery{isCA: true, keyUsage: x509.KeyUsageCertSign}, certOf(root), keyOf(root))
	parsed, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	ca, err := NewCA(CAConfig{
		TrustDomain: root.TrustDomain(),
		Certificate: parsed,
		Key:         cert.PrivateKey.(crypto.Signer),
		Roots:       root.Bundle().X509Authorities(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestPostQuantumOnly(t *testing.T) {
	ca := newTestCA(t, east)
	strict := Config{Source: newTestSource(t, ca, bob), Peers: onlyID(alice), RequirePQ: true}
	server := configOf(t, mustServer(t, strict))
	modern := configOf(t, mustClient(t, Config{Source: newTestSource(t, ca, alice), Peers: onlyID(bob)}))
	c, s := connect(modern, server)
	if c.err != nil || s.err != nil || s.state.CurveID != tls.X25519MLKEM768 {
		t.Fatalf("client: %v, server: %v, key exchange %v", c.err, s.err, s.state.CurveID)
	}
	classical := modern.Clone()
	classical.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
	if c, s = connect(classical, server); s.err == nil || c.err == nil {
		t.Errorf("a classical key exchange was accepted: %v, %v", c.err, s.err)
	}
}

func TestClockSkew(t *testing.T) {
	ca := newTestCA(t, east)
	src := newTestSource(t, ca, bob)
	for _, tc := range []struct {
		skew  time.Duration
		check Check
	}{
		{-time.Minute, ""}, // within the CA's backdating
		{-10 * time.Minute, CheckNotYetValid},
		{10 * time.Minute, ""},
		{61 * time.Minute, CheckExpired},
	} {
		t.Run(fmt.Sprint(tc.skew), func(t *testing.T) {
			clock := func() time.Time { return time.Now().Add(tc.skew) }
			own, err := NewCA(CAConfig{TrustDomain: east, Time: clock})
			if err != nil {
				t.Fatal(err)
			}
			verifier := newTestSource(t, own, alice)
			verifier.SetBundle(ca.Bundle())
			server := configOf(t, mustServer(t, Config{Source: verifier, Peers: onlyID(bob), Time: clock}))
			client := configOf(t, mustClient(t, Config{Source: src, Peers: onlyID(alice)}))
			client = client.Clone()
			client.VerifyConnection = nil // it does not know the verifier's own CA
			c, s := connect(client, server)
			checkVerdict(t, tc.check, RoleClient, s.err, c.err)
		})
	}
}
