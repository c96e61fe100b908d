package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// TestOwnCertificateIsRevoked: the peer knows nothing of it. It is we who stop.
func TestOwnCertificateIsRevoked(t *testing.T) {
	for _, role := range []Role{RoleClient, RoleServer} {
		for name, revoke := range map[string]func(*testing.T, crlAuthority, *CRLs, []*x509.Certificate){
			"by hand": func(_ *testing.T, _ crlAuthority, crls *CRLs, own []*x509.Certificate) { crls.Revoke(own[0]) },
			"by a list": func(t *testing.T, a crlAuthority, crls *CRLs, own []*x509.Certificate) {
				set(t, crls, crlOf(t, a.inter, own[0]))
			},
			"with what signed it": func(t *testing.T, a crlAuthority, crls *CRLs, own []*x509.Certificate) {
				set(t, crls, crlOf(t, a.root, own[1]))
			},
		} {
			t.Run(string(role)+" "+name, func(t *testing.T) {
				a, crls := newCRLAuthority(t), mustCRLs(t, CRLConfig{})
				o := newOwnTest(t, a, role, crls)
				o.connects(t)
				o.connects(t) // resumed
				svid, _ := o.source.GetX509SVID()
				revoke(t, a, crls, svid.Certificates)
				var local *LocalError
				var revoked *RevokedError
				if _, err := o.own.Config(t.Context()); !errors.As(err, &local) || local.ID != svid.ID || !errors.As(err, &revoked) {
					t.Errorf("Config: %v, want a LocalError with a RevokedError", err)
				}
				if err := o.connect(); !errors.As(err, &local) || !errors.As(err, &revoked) {
					t.Errorf("handshake: %v, want a LocalError with a RevokedError", err)
				}
				renewed, err := a.root.Issue(svid.ID, time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				o.source.SetSVID(renewed)
				o.connects(t)
			})
		}
	}
}

func set(t *testing.T, crls *CRLs, lists ...*x509.RevocationList) {
	t.Helper()
	if err := crls.Set(lists...); err != nil {
		t.Fatal(err)
	}
}

// ownTest is credentials in one role, with a peer.
type ownTest struct {
	role      Role
	source    *Memory
	own       *Credentials
	mine, far *tls.Config
}

func newOwnTest(t *testing.T, a crlAuthority, role Role, revoked Revocations) *ownTest {
	o := &ownTest{role: role, source: newTestSource(t, a.root, alice)}
	svid, err := a.inter.Issue(alice, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	o.source.SetSVID(svid)
	cfg := Config{Source: o.source, Peers: onlyID(bob), Revocations: revoked, Resumption: true}
	peer := Config{Source: newTestSource(t, a.root, bob), Peers: Peers{TrustDomains: []spiffeid.TrustDomain{east}}, Resumption: true}
	if role == RoleClient {
		o.own, o.far = mustClient(t, cfg), configOf(t, mustServer(t, peer))
	} else {
		o.own, o.far = mustServer(t, cfg), configOf(t, mustClient(t, peer))
	}
	o.mine = configOf(t, o.own)
	return o
}

// connect returns the error of our side.
func (o *ownTest) connect() error {
	if o.role == RoleClient {
		c, _ := connect(o.mine, o.far)
		return c.err
	}
	_, s := connect(o.far, o.mine)
	return s.err
}

func (o *ownTest) connects(t *testing.T) {
	t.Helper()
	if err := o.connect(); err != nil {
		t.Fatal(err)
	}
}

// TestOwnCertificateWithoutAList: whether a list is current is for those to ask
// who rely on it; and what leads to no root of ours may be accepted by others.
func TestOwnCertificateWithoutAList(t *testing.T) {
	ca := newTestCA(t, east)
	svid, err := ca.Issue(alice, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, src := range map[string]*Memory{
		"no list":     newTestSource(t, ca, alice),
		"no roots":    NewMemory(svid),
		"other roots": NewMemory(svid, newTestCA(t, east).Bundle()),
	} {
		creds := mustClient(t, Config{Source: src, Revocations: mustCRLs(t, CRLConfig{RequireCurrent: true})})
		if _, err := creds.Config(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
