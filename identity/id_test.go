package identity

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestWorkloadID(t *testing.T) {
	id, err := WorkloadID(east, "app", "bob")
	if err != nil || id != bob {
		t.Fatalf("got %v, %v", id, err)
	}
	ns, sa, ok := SplitWorkloadID(id)
	if !ok || ns != "app" || sa != "bob" {
		t.Errorf("back: %q, %q, %t", ns, sa, ok)
	}
	for _, bad := range [][2]string{{"", "bob"}, {"app", ""}, {"a/b", "bob"}, {"app", "b%62"}, {"..", "bob"}} {
		if id, err := WorkloadID(east, bad[0], bad[1]); err == nil {
			t.Errorf("%q gave %v", bad, id)
		}
	}
	if _, err := WorkloadID(spiffeid.TrustDomain{}, "app", "bob"); err == nil {
		t.Error("no trust domain was accepted")
	}
}

func TestSplitWorkloadIDRefusesOtherForms(t *testing.T) {
	for _, path := range []string{"", "/web", "/ns/app", "/ns/app/sa", "/ns/app/sa/bob/more", "/x/app/sa/bob", "/ns/app/more/sa/bob", "/ns/app/sb/bob", "/ns/sa/sa/sa/sa"} {
		id, err := spiffeid.FromPath(east, path)
		if err != nil {
			t.Fatal(err)
		}
		if ns, sa, ok := SplitWorkloadID(id); ok {
			t.Errorf("%s gave %q, %q", id, ns, sa)
		}
	}
}

func TestPeerIDOfNoCertificate(t *testing.T) {
	_, err := PeerID(tls.ConnectionState{})
	wantRefusal(t, err, CheckCertificate)
}

func TestParseIDBoundsLength(t *testing.T) {
	long := bob.String() + strings.Repeat("b", maxIDLen-len(bob.String()))
	if _, err := ParseID(long); err != nil {
		t.Errorf("2048 bytes: %v", err)
	}
	if _, err := ParseID(long + "b"); err == nil {
		t.Error("2049 bytes were accepted")
	}
}

func TestPeersKeyIsCanonical(t *testing.T) {
	p := Peers{IDs: []spiffeid.ID{carol, bob, carol}, TrustDomains: []spiffeid.TrustDomain{west}}
	want := "spiffe://east.example/ns/app/sa/bob,spiffe://west.example/*,spiffe://west.example/ns/app/sa/carol"
	if got := p.Key(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if (Peers{}).Accepts(bob) || (Peers{TrustDomains: make([]spiffeid.TrustDomain, 1)}).Accepts(spiffeid.ID{}) {
		t.Error("zero values accept somebody")
	}
}

// FuzzParseID checks that what is accepted is spelled canonically, so that no
// two spellings of one identity exist.
func FuzzParseID(f *testing.F) {
	for _, s := range []string{
		bob.String(), "spiffe://east.example", "spiffe://east.example/", "spiffe://e/a//b", "spiffe://e/a/../b", "spiffe://e/%61",
		"SPIFFE://e/a", "spiffe://E/a", "spiffe://e/a?", "spiffe://e/a#", "spiffe://u@e/a", "spiffe://e:1/a", "spiffe:///a", "", "spiffe://e/\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			return
		}
		if id.String() != s {
			t.Fatalf("%q was accepted as %q", s, id)
		}
		if ns, sa, ok := SplitWorkloadID(id); ok {
			back, err := WorkloadID(id.TrustDomain(), ns, sa)
			if err != nil || back != id {
				t.Fatalf("%s splits into %q, %q, which gives %v, %v", id, ns, sa, back, err)
			}
		}
	})
}

// FuzzPeerID feeds certificates of a peer: never a panic, and whatever is
// accepted is the one URI in the certificate.
func FuzzPeerID(f *testing.F) {
	ca := newTestCA(f, east)
	for _, uris := range [][]string{{bob.String()}, {bob.String(), alice.String()}, {"https://east.example"}, nil} {
		f.Add(forge(f, forgery{uris: uris}, certOf(ca), keyOf(ca)).Certificate[0])
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		id, err := PeerID(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}})
		if err != nil {
			return
		}
		if len(cert.URIs) != 1 || !strings.EqualFold(cert.URIs[0].String(), id.String()) {
			t.Fatalf("accepted %v of %v", id, cert.URIs)
		}
	})
}
