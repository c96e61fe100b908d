package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// crlAuthority is a CA, with an intermediate below it that may sign lists.
type crlAuthority struct{ root, inter *CA }

func newCRLAuthority(t testing.TB) crlAuthority {
	t.Helper()
	root := newTestCA(t, east)
	inter, err := root.Intermediate("intermediate", 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return crlAuthority{root, inter}
}

// chain returns the verified chain of a new certificate of the intermediate.
func (a crlAuthority) chain(t testing.TB) []*x509.Certificate {
	t.Helper()
	svid, err := a.inter.Issue(alice, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return append(slices.Clone(svid.Certificates), certOf(a.root))
}

func crlOf(t testing.TB, ca *CA, certs ...*x509.Certificate) *x509.RevocationList {
	t.Helper()
	template := &x509.RevocationList{}
	for _, c := range certs {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Minute), ReasonCode: 1})
	}
	l, err := ca.SignCRL(template)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func pemOf(lists ...*x509.RevocationList) []byte {
	var out []byte
	for _, l := range lists {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: crlBlock, Bytes: l.Raw})...)
	}
	return out
}

func derOf(lists ...*x509.RevocationList) []byte {
	var out []byte
	for _, l := range lists {
		out = append(out, l.Raw...)
	}
	return out
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestCRLForms(t *testing.T) {
	a := newCRLAuthority(t)
	chain := a.chain(t)
	revoking, other := crlOf(t, a.inter, chain[0]), crlOf(t, a.root)
	for name, data := range map[string][]byte{
		"PEM":              pemOf(revoking),
		"concatenated PEM": pemOf(other, revoking),
		"PEM with text":    slices.Concat([]byte("Certificate Revocation List:\n"), pemOf(revoking), []byte("# end\n")),
		"DER":              derOf(revoking),
		"concatenated DER": derOf(other, revoking),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "crl")
			writeFile(t, file, data)
			crls := mustCRLs(t, CRLConfig{Files: []string{file}})
			var revoked *RevokedError
			if err := crls.CheckRevoked(chain); !errors.As(err, &revoked) || revoked.Serial.Cmp(chain[0].SerialNumber) != 0 ||
				revoked.Reason != 1 || revoked.Subject != alice.String() {
				t.Errorf("the revoked one: %v", err)
			}
			if err := crls.CheckRevoked(a.chain(t)); err != nil {
				t.Errorf("another one: %v", err)
			}
		})
	}
}

// TestDamagedPEM: a block that is cut off must not go unnoticed, wherever it is.
func TestDamagedPEM(t *testing.T) {
	a := newCRLAuthority(t)
	whole := pemOf(crlOf(t, a.inter))
	for name, data := range map[string][]byte{
		"cut off":           whole[:len(whole)/2],
		"before a good one": slices.Concat(whole[:len(whole)/2], []byte("\n"), whole),
		"after a good one":  slices.Concat(whole, whole[:len(whole)/2]),
		"only its dashes":   slices.Concat(whole, whole[:8]),
	} {
		if lists, err := ParseCRLs(data); err == nil {
			t.Errorf("%s: %d lists and no error", name, len(lists))
		}
	}
}

// TestIssuersOfOneKey: an authority that was certified again with its key, and
// may sign lists only since.
func TestIssuersOfOneKey(t *testing.T) {
	a := newCRLAuthority(t)
	chain := a.chain(t)
	before := *chain[1]
	before.KeyUsage, before.Raw = x509.KeyUsageCertSign, []byte("earlier")
	crls := mustCRLs(t, CRLConfig{})
	if err := crls.Set(crlOf(t, a.inter, chain[0])); err != nil {
		t.Fatal(err)
	}
	if err := crls.CheckRevoked([]*x509.Certificate{chain[0], &before, chain[2]}); err != nil {
		t.Fatalf("by the issuer that may not sign lists: %v", err)
	}
	if crls.CheckRevoked(chain) == nil {
		t.Error("what a peer showed before decides about this chain")
	}
}

func TestCRLOfWhom(t *testing.T) {
	a := newCRLAuthority(t)
	chain := a.chain(t)
	// Istio's roots are all called O=<trust domain>.
	namesake, err := NewCA(CAConfig{TrustDomain: east})
	if err != nil || !bytes.Equal(certOf(namesake).RawSubject, certOf(a.root).RawSubject) {
		t.Fatal("want an authority of the same name", err)
	}
	noCRLSign := intermediate(t, a.root)
	leaf, err := noCRLSign.Issue(alice, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		list    *x509.RevocationList
		chain   []*x509.Certificate
		revoked bool
	}{
		"leaf":                          {crlOf(t, a.inter, chain[0]), chain, true},
		"intermediate":                  {crlOf(t, a.root, chain[1]), chain, true},
		"leaf, by the wrong issuer":     {crlOf(t, a.root, chain[0]), chain, false},
		"intermediate, by a namesake":   {crlOf(t, namesake, chain[1]), chain, false},
		"leaf, by one that may not":     {forgeCRL(t, noCRLSign, leaf.Certificates[0]), append(leaf.Certificates, certOf(a.root)), false},
		"list from which it is missing": {crlOf(t, a.inter), chain, false},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			crls := mustCRLs(t, CRLConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err := crls.Set(tc.list); err != nil {
				t.Fatal(err)
			}
			if err := crls.CheckRevoked(tc.chain); (err != nil) != tc.revoked {
				t.Errorf("CheckRevoked: %v, want revoked %t", err, tc.revoked)
			}
			if got := isClosed(crls.WatchRevoked(tc.chain)); got != tc.revoked {
				t.Errorf("WatchRevoked is closed: %t, want %t", got, tc.revoked)
			}
			if strings.Contains(name, "by ") && !strings.Contains(name, "wrong issuer") && !strings.Contains(log.String(), "not of the issuer") {
				t.Error("nobody is told of a list that counts for nothing")
			}
		})
	}
}

// forgeCRL signs with the authority of a CA whose certificate does not allow it.
func forgeCRL(t *testing.T, ca *CA, cert *x509.Certificate) *x509.RevocationList {
	t.Helper()
	able := *certOf(ca)
	able.KeyUsage |= x509.KeyUsageCRLSign
	return signCRL(t, &x509.RevocationList{
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: cert.SerialNumber, RevocationTime: time.Now()}},
	}, &able, keyOf(ca))
}

func signCRL(t testing.TB, l *x509.RevocationList, issuer *x509.Certificate, key crypto.Signer) *x509.RevocationList {
	t.Helper()
	l.Number, l.ThisUpdate = big.NewInt(1), time.Now()
	if l.NextUpdate.IsZero() {
		l.NextUpdate = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateRevocationList(nil, l, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestListsThatCannotBeUnderstood(t *testing.T) {
	a := newCRLAuthority(t)
	chain := a.chain(t)
	with := func(ext pkix.Extension, ofEntry ...pkix.Extension) *x509.RevocationList {
		l := &x509.RevocationList{RevokedCertificateEntries: []x509.RevocationListEntry{
			{SerialNumber: chain[0].SerialNumber, RevocationTime: time.Now(), ExtraExtensions: ofEntry},
		}}
		if ext.Id != nil {
			l.ExtraExtensions = []pkix.Extension{ext}
		}
		return signCRL(t, l, certOf(a.inter), keyOf(a.inter))
	}
	point := func(field int) []byte {
		der, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: field, Bytes: []byte{0xff}}})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	number, _ := asn1.Marshal(big.NewInt(1))
	unknown := asn1.ObjectIdentifier{1, 2, 3}
	for name, tc := range map[string]struct {
		list *x509.RevocationList
		want string // "" if it counts
	}{
		"delta":                             {with(pkix.Extension{Id: oidDeltaCRLIndicator, Critical: true, Value: number}), "delta"},
		"indirect":                          {with(pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: point(4)}), "indirect"},
		"for users only":                    {with(pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: point(1)}), ""},
		"malformed point":                   {with(pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: []byte{1}}), "malformed"},
		"unknown critical extension":        {with(pkix.Extension{Id: unknown, Critical: true, Value: number}), "1.2.3"},
		"unknown extension":                 {with(pkix.Extension{Id: unknown, Value: number}), ""},
		"unknown critical in an entry":      {with(pkix.Extension{}, pkix.Extension{Id: unknown, Critical: true, Value: number}), "1.2.3"},
		"unknown not so critical in entry ": {with(pkix.Extension{}, pkix.Extension{Id: unknown, Value: number}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			crls := mustCRLs(t, CRLConfig{})
			err := crls.Set(tc.list)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want == "" && crls.CheckRevoked(chain) == nil:
				t.Error("it revokes nothing")
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestBrokenCRLFilesKeepTheOld(t *testing.T) {
	a := newCRLAuthority(t)
	chain := a.chain(t)
	good := pemOf(crlOf(t, a.inter, chain[0]))
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[0].Raw})
	for name, bad := range map[string][]byte{
		"empty":                  nil,
		"no list":                []byte("# none today\n"),
		"a certificate":          cert,
		"a certificate, as well": append(slices.Clone(good), cert...),
		"cut off":                good[:len(good)-40],
		"cut off after a list":   append(slices.Clone(good), good[:len(good)-40]...),
		"cut off DER":            derOf(crlOf(t, a.inter))[:100],
		"huge":                   make([]byte, maxCRLFile+1),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "crl.pem")
			writeFile(t, file, good)
			crls := mustCRLs(t, CRLConfig{Files: []string{file}})
			writeFile(t, file, bad)
			if changed, err := crls.Reload(); changed || err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("reload: %t, %v; want an error that names the file", changed, err)
			}
			if crls.CheckRevoked(chain) == nil {
				t.Error("what was revoked is good again")
			}
			if _, err := OpenCRLs(CRLConfig{Files: []string{file}}); err == nil {
				t.Error("the broken file was opened")
			}
		})
	}
	if _, err := OpenCRLs(CRLConfig{Files: []string{filepath.Join(t.TempDir(), "missing")}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestWatchedCRLCutsConnections replaces a file while connections are open.
func TestWatchedCRLCutsConnections(t *testing.T) {
	file := filepath.Join(t.TempDir(), "crl.pem")
	synctest.Test(t, func(t *testing.T) {
		a := newCRLAuthority(t)
		writeFile(t, file, pemOf(crlOf(t, a.inter)))
		crls := mustCRLs(t, CRLConfig{Files: []string{file}, Interval: time.Minute})
		go func() { _ = crls.Run(t.Context()) }()

		server := mustServer(t, Config{Source: newTestSource(t, a.root, bob), Peers: onlyID(alice), Revocations: crls})
		peer := func() (*Credentials, *x509.Certificate) {
			src := newTestSource(t, a.root, alice)
			svid, err := a.inter.Issue(alice, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			src.SetSVID(svid)
			return mustClient(t, Config{Source: src, Peers: onlyID(bob)}), svid.Certificates[0]
		}
		victim, cert := peer()
		bystander, _ := peer()
		cuts := make([]<-chan struct{}, 2)
		for i, client := range []*Credentials{victim, bystander} {
			_, s := connect(configOf(t, client), configOf(t, server))
			if s.err != nil {
				t.Fatal(s.err)
			}
			_, cuts[i] = server.Retire(s.state)
		}
		writeFile(t, file, pemOf(crlOf(t, a.inter, cert)))
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if isClosed(cuts[0]) {
			t.Error("cut before the file was looked at")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !isClosed(cuts[0]) || isClosed(cuts[1]) {
			t.Errorf("cut: the revoked one %t, another one %t", isClosed(cuts[0]), isClosed(cuts[1]))
		}
		_, s := connect(configOf(t, victim), configOf(t, server))
		wantRefusal(t, s.err, CheckRevoked)
		var revoked *RevokedError
		if !errors.As(s.err, &revoked) || revoked.Subject != alice.String() {
			t.Errorf("%v does not say which certificate is revoked", s.err)
		}
		if _, s = connect(configOf(t, bystander), configOf(t, server)); s.err != nil {
			t.Errorf("another one: %v", s.err)
		}
	})
}

func TestRequireCurrent(t *testing.T) {
	a := newCRLAuthority(t)
	chain := a.chain(t)
	ofRoot := crlOf(t, a.root)
	stale := signCRL(t, &x509.RevocationList{NextUpdate: time.Now().Add(time.Millisecond)}, certOf(a.inter), keyOf(a.inter))
	partial := signCRL(t, &x509.RevocationList{ExtraExtensions: []pkix.Extension{
		{Id: oidIssuingDistributionPoint, Critical: true, Value: []byte{0x30, 0x03, 0x81, 0x01, 0xff}},
	}}, certOf(a.inter), keyOf(a.inter))
	later := func() time.Time { return time.Now().Add(time.Minute) }
	for name, tc := range map[string]struct {
		lists []*x509.RevocationList
		good  bool
	}{
		"no lists":          {nil, false},
		"one is missing":    {[]*x509.RevocationList{ofRoot}, false},
		"all are there":     {[]*x509.RevocationList{ofRoot, crlOf(t, a.inter)}, true},
		"one is stale":      {[]*x509.RevocationList{ofRoot, stale}, false},
		"one is partial":    {[]*x509.RevocationList{ofRoot, partial}, false},
		"stale and current": {[]*x509.RevocationList{ofRoot, stale, crlOf(t, a.inter)}, true},
	} {
		crls := mustCRLs(t, CRLConfig{RequireCurrent: true, Time: later})
		if err := crls.Set(tc.lists...); err != nil {
			t.Fatal(err)
		}
		if err := crls.CheckRevoked(chain); (err == nil) != tc.good || err != nil && !errors.Is(err, ErrNoCurrentList) {
			t.Errorf("%s: %v, want good %t", name, err, tc.good)
		}
	}
}

func TestStaleListStillRevokes(t *testing.T) {
	a := newCRLAuthority(t)
	chain := a.chain(t)
	l := crlOf(t, a.inter, chain[0])
	var log bytes.Buffer
	crls := mustCRLs(t, CRLConfig{
		Time:   func() time.Time { return l.NextUpdate.Add(time.Hour) },
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err := crls.Set(l); err != nil {
		t.Fatal(err)
	}
	if crls.CheckRevoked(chain) == nil {
		t.Error("a list that is out of date revokes nothing")
	}
	if !strings.Contains(log.String(), "out of date") {
		t.Error("nobody is told that the list is out of date")
	}
}

// TestRunWithoutFiles: what was set in memory stays.
func TestRunWithoutFiles(t *testing.T) {
	a := newCRLAuthority(t)
	chain := a.chain(t)
	list := crlOf(t, a.inter, chain[0])
	synctest.Test(t, func(t *testing.T) {
		crls := mustCRLs(t, CRLConfig{})
		set(t, crls, list)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := crls.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run: %v", err)
		}
		if crls.CheckRevoked(chain) == nil {
			t.Error("the list is gone")
		}
	})
}

// TestListGoesStale: nothing changes but the time, and somebody is told, once.
func TestListGoesStale(t *testing.T) {
	var log bytes.Buffer
	now := time.Now()
	crls := mustCRLs(t, CRLConfig{Logger: slog.New(slog.NewTextHandler(&log, nil)), Time: func() time.Time { return now }})
	set(t, crls, crlOf(t, newTestCA(t, east)))
	for _, told := range []int{0, 1, 1} {
		if changed, err := crls.Reload(); changed || err != nil {
			t.Errorf("reload: %t, %v", changed, err)
		}
		if n := strings.Count(log.String(), "out of date"); n != told {
			t.Errorf("told %d times, want %d: %s", n, told, &log)
		}
		now = now.Add(2 * defaultNextUpdate)
	}
}

func FuzzParseCRLs(f *testing.F) {
	a := newCRLAuthority(f)
	chain := a.chain(f)
	l := crlOf(f, a.inter, chain[0])
	for _, seed := range [][]byte{nil, pemOf(l), derOf(l, l), pemOf(l)[:200], derOf(l)[:50], []byte("-----BEGIN X509 CRL-----\n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lists, err := ParseCRLs(data)
		if (err == nil) != (len(lists) > 0) {
			t.Fatalf("%d lists, error %v", len(lists), err)
		}
		if err != nil {
			return
		}
		crls := mustCRLs(t, CRLConfig{})
		if err := crls.Set(lists...); err != nil {
			return
		}
		// A list that the issuer has not signed revokes nothing.
		for _, got := range lists {
			if bytes.Equal(got.Raw, l.Raw) {
				return
			}
		}
		if err := crls.CheckRevoked(chain); err != nil {
			t.Fatalf("revoked by a forged list: %v", err)
		}
	})
}
