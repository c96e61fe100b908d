package federation

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	gospiffe "github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"go.uber.org/goleak"

	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	east     = spiffeid.RequireTrustDomainFromString("east.example")
	west     = spiffeid.RequireTrustDomainFromString("west.example")
	serverID = spiffeid.RequireFromString("spiffe://west.example/bundle-server")
	alice    = spiffeid.RequireFromString("spiffe://east.example/ns/app/sa/alice")
	carol    = spiffeid.RequireFromString("spiffe://west.example/ns/app/sa/carol")
)

const westURL = "https://west.example:8443/bundle"

func newCA(t testing.TB, td spiffeid.TrustDomain) *identity.CA {
	t.Helper()
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// world is the web as the tests have it.
type world struct {
	network memnet.Network
	pki     *webPKI
}

// webPKI vouches for the name west.example.
type webPKI struct {
	roots *x509.CertPool
	cert  tls.Certificate
}

func newWebPKI(t testing.TB) *webPKI {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		DNSNames:              []string{"west.example"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(240 * time.Hour),
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pki := &webPKI{roots: x509.NewCertPool(), cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}
	pki.roots.AddCert(leaf)
	return pki
}

func newWorld(t testing.TB) *world { return &world{pki: newWebPKI(t)} }

// serve is a bundle endpoint. Without a source it has a certificate of the web.
func (w *world) serve(t testing.TB, handler http.Handler, source identity.Source) {
	t.Helper()
	l, err := w.network.Listen("west.example:8443")
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{w.pki.cert}, MinVersion: tls.VersionTLS12}
	if source != nil {
		cfg = tlsconfig.TLSServerConfig(source)
	}
	server := &http.Server{Handler: handler, TLSConfig: cfg, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

func (w *world) config(endpoints ...Endpoint) Config {
	return Config{Endpoints: endpoints, DialContext: w.network.Host("east").Dial}
}

func (w *world) web() Endpoint {
	return Endpoint{TrustDomain: west, URL: westURL, Roots: w.pki.roots}
}

func mustNew(t testing.TB, cfg Config) *Bundles {
	t.Helper()
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustHandler(t testing.TB, td spiffeid.TrustDomain, source x509bundle.Source, hint time.Duration) http.Handler {
	t.Helper()
	h, err := NewHandler(td, source, hint)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func knows(b *Bundles, ca *identity.CA) bool {
	bundle, err := b.GetX509BundleForTrustDomain(ca.TrustDomain())
	return err == nil && bundle.Equal(ca.Bundle())
}

// TestTwoMeshesBecomeOne fetches west's bundle, and has a workload of west
// accepted in east by it.
func TestTwoMeshesBecomeOne(t *testing.T) {
	w := newWorld(t)
	eastCA, westCA := newCA(t, east), newCA(t, west)
	w.serve(t, mustHandler(t, west, westCA.Bundle(), 0), nil)
	b := mustNew(t, w.config(w.web()))
	source, err := eastCA.Source(alice, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	server, err := identity.NewServer(identity.Config{Source: source, Bundles: b, Peers: identity.Peers{IDs: []spiffeid.ID{carol}}})
	if err != nil {
		t.Fatal(err)
	}
	state := func(ca *identity.CA) tls.ConnectionState {
		svid, err := ca.Issue(carol, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return tls.ConnectionState{PeerCertificates: svid.Certificates}
	}
	var refused *identity.PeerError
	if err := server.Verify(state(westCA)); !errors.As(err, &refused) || refused.Check != identity.CheckBundle {
		t.Errorf("before the bundle is there: %v", err)
	}
	if err := b.Refresh(t.Context(), west); err != nil {
		t.Fatal(err)
	}
	if err := server.Verify(state(westCA)); err != nil {
		t.Errorf("a workload of west: %v", err)
	}
	if err := server.Verify(state(newCA(t, west))); !errors.As(err, &refused) || refused.Check != identity.CheckChain {
		t.Errorf("an impostor of west: %v", err)
	}
	fake, err := eastCA.Issue(alice, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Verify(tls.ConnectionState{PeerCertificates: fake.Certificates}); err == nil {
		t.Error("east's root vouches for somebody that is not accepted")
	}
}

// TestWithGoSPIFFE has the reference implementation at the other end.
func TestWithGoSPIFFE(t *testing.T) {
	ca := newCA(t, west)
	doc := spiffebundle.FromX509Bundle(ca.Bundle())
	doc.SetRefreshHint(time.Minute)
	theirs, err := gospiffe.NewHandler(west, doc)
	if err != nil {
		t.Fatal(err)
	}
	source, err := ca.Source(serverID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		source   identity.Source
		endpoint func(*world) Endpoint
	}{
		"https_web": {nil, (*world).web},
		"https_spiffe": {source, func(*world) Endpoint {
			return Endpoint{TrustDomain: west, URL: westURL, ServerID: serverID, Bundle: ca.Bundle()}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.serve(t, theirs, tc.source)
			b := mustNew(t, w.config(tc.endpoint(w)))
			if err := b.Refresh(t.Context(), west); err != nil {
				t.Fatal(err)
			}
			if s := b.Status(); len(s) != 1 || s[0].Roots != 1 || s[0].Fetched.IsZero() || s[0].Err != nil || !knows(b, ca) {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// TestHandlerReadByGoSPIFFE serves, and the reference implementation reads.
func TestHandlerReadByGoSPIFFE(t *testing.T) {
	source := identity.NewMemory(nil, newCA(t, west).Bundle())
	handler := mustHandler(t, west, source, 2*time.Minute)
	read := func() *spiffebundle.Bundle {
		w := &recorder{header: http.Header{}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		handler.ServeHTTP(w, request)
		b, err := spiffebundle.Parse(west, w.body.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first, again := read(), read()
	if hint, ok := first.RefreshHint(); !ok || hint != 2*time.Minute {
		t.Errorf("hint %v, %t", hint, ok)
	}
	if !first.Equal(again) {
		t.Error("the same bundle is served differently")
	}
	source.SetBundle(newCA(t, west).Bundle())
	was, _ := first.SequenceNumber()
	if is, ok := read().SequenceNumber(); !ok || is <= was {
		t.Errorf("another bundle has the number %d, the one before had %d", is, was)
	}
	for name, f := range map[string]func() (http.Handler, error){
		"no trust domain": func() (http.Handler, error) { return NewHandler(spiffeid.TrustDomain{}, source, 0) },
		"no source":       func() (http.Handler, error) { return NewHandler(west, nil, 0) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
func (r *recorder) WriteHeader(int)             {}

// TestBundleVerifiesTheNext moves an endpoint to a new root, as the profile
// https_spiffe has it: it publishes the new one before it uses it.
func TestBundleVerifiesTheNext(t *testing.T) {
	w := newWorld(t)
	old, next := newCA(t, west), newCA(t, west)
	both := x509bundle.FromX509Authorities(west, slices.Concat(old.Bundle().X509Authorities(), next.Bundle().X509Authorities()))
	published := identity.NewMemory(nil, old.Bundle())
	source, err := old.Source(serverID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	w.serve(t, mustHandler(t, west, published, 0), source)
	b := mustNew(t, w.config(Endpoint{TrustDomain: west, URL: westURL, ServerID: serverID, Bundle: old.Bundle()}))
	step := func(name string, bundle *x509bundle.Bundle, ca *identity.CA, id spiffeid.ID, good bool) {
		t.Helper()
		published.SetBundle(bundle)
		svid, err := ca.Issue(id, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		source.SetSVID(svid)
		if err := b.Refresh(t.Context(), west); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
	step("a root that was never published", both, next, serverID, false)
	step("publish the new root", both, old, serverID, true)
	step("another workload of west", both, next, carol, false)
	step("use the new root", next.Bundle(), next, serverID, true)
	step("the old root is gone", both, old, serverID, false)
	if !knows(b, next) {
		t.Error("the last good bundle is not in use")
	}
}

// TestWhatIsRefused has an endpoint that serves nonsense after a good bundle.
func TestWhatIsRefused(t *testing.T) {
	ca := newCA(t, west)
	good, err := spiffebundle.FromX509Bundle(ca.Bundle()).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Issue(carol, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	noAuthority, err := spiffebundle.FromX509Authorities(west, leaf.Certificates).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	body := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }
	}
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"no JSON":   {body([]byte("<html>")), "unacceptable bundle"},
		"empty":     {body(nil), "unacceptable bundle"},
		"no keys":   {body([]byte(`{"keys":[]}`)), "no X.509 roots"},
		"a leaf":    {body(noAuthority), "is not an authority"},
		"huge":      {body(append(bytes.Repeat([]byte(" "), maxBundle), good...)), "more than"},
		"not found": {http.NotFound, "404"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, westURL+"/elsewhere", http.StatusFound)
		}, "redirect"},
		"cut off":          {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"huge header":      {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, "header"},
		"other's bundle":   {body(bytes.Replace(good, []byte("x509-svid"), []byte("jwt-svid"), 1)), "unacceptable bundle"},
		"half of it":       {body(good[:len(good)/2]), "unacceptable bundle"},
		"nothing for long": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				var broken atomic.Bool
				w.serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if broken.Load() {
						tc.handler(rw, r)
						return
					}
					_, _ = rw.Write(good)
				}), nil)
				b := mustNew(t, w.config(w.web()))
				if err := b.Refresh(t.Context(), west); err != nil {
					t.Fatal(err)
				}
				broken.Store(true)
				err := b.Refresh(t.Context(), west)
				var endpoint *EndpointError
				if !errors.As(err, &endpoint) || endpoint.TrustDomain != west || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want an EndpointError with %q", err, tc.want)
				}
				if strings.HasPrefix(tc.want, "unacceptable") && !errors.Is(err, ErrBundle) {
					t.Errorf("%v is not ErrBundle", err)
				}
				if !knows(b, ca) {
					t.Error("the last good bundle is gone")
				}
				if s := b.Status()[0]; s.Err == nil || s.Roots != 1 {
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

func TestEndpointOfSomebodyElse(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	ca := newCA(t, west)
	w.serve(t, mustHandler(t, west, ca.Bundle(), 0), nil)
	e := w.web()
	e.Roots = other.pki.roots
	b := mustNew(t, w.config(e))
	var unknown x509.UnknownAuthorityError
	if err := b.Refresh(t.Context(), west); !errors.As(err, &unknown) {
		t.Errorf("got %v, want an unknown authority", err)
	}
	if _, err := b.GetX509BundleForTrustDomain(west); !errors.As(err, &unknown) {
		t.Errorf("the bundle: %v, want the reason why it is missing", err)
	}
}

// TestRefreshes counts requests over time: the hint, bounds, no hint, failures.
func TestRefreshes(t *testing.T) {
	for name, tc := range map[string]struct {
		hint    time.Duration
		down    bool
		least   int // requests in an hour
		most    int
		between time.Duration // at most, of the first two
	}{
		"hint":           {hint: 10 * time.Minute, least: 7, most: 8, between: 10 * time.Minute},
		"no hint":        {least: 13, most: 15, between: 5 * time.Minute},
		"impatient hint": {hint: time.Second, least: 360, most: 402, between: 10 * time.Second},
		"lazy hint":      {hint: 1000 * time.Hour, least: 2, most: 3, between: time.Hour},
		"down":           {down: true, least: 19, most: 25, between: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				inner := mustHandler(t, west, newCA(t, west).Bundle(), tc.hint)
				var times []time.Time
				w.serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					times = append(times, time.Now())
					if tc.down {
						http.Error(rw, "down", http.StatusServiceUnavailable)
						return
					}
					inner.ServeHTTP(rw, r)
				}), nil)
				b := mustNew(t, w.config(w.web()))
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour+time.Second)
				defer cancel()
				if err := b.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Run: %v", err)
				}
				if len(times) < tc.least || len(times) > tc.most {
					t.Errorf("%d requests in an hour, want %d to %d", len(times), tc.least, tc.most)
				}
				if d := times[1].Sub(times[0]); d > tc.between || d < tc.between*8/10 {
					t.Errorf("the second came after %v, want %v at most, and not much less", d, tc.between)
				}
			})
		})
	}
}

// TestRecovery has an endpoint down for days.
func TestRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		old, next := newCA(t, west), newCA(t, west)
		source := identity.NewMemory(nil, old.Bundle())
		w.serve(t, mustHandler(t, west, source, 0), nil)
		var log bytes.Buffer
		cfg := w.config(w.web())
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		b := mustNew(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx) }()
		time.Sleep(time.Second)
		w.network.Cut("east", "west.example")
		source.SetBundle(next.Bundle())
		time.Sleep(72 * time.Hour)
		if !knows(b, old) {
			t.Error("the last good bundle is gone")
		}
		w.network.Heal("east", "west.example")
		time.Sleep(DefaultInterval)
		if !knows(b, next) {
			t.Error("it did not recover")
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		if !strings.Contains(log.String(), "the last one stays in use") {
			t.Error("nobody was told of the failure")
		}
	})
}

func TestKeptOnDisk(t *testing.T) {
	w := newWorld(t)
	ca := newCA(t, west)
	w.serve(t, mustHandler(t, west, ca.Bundle(), 0), nil)
	cfg := w.config(w.web())
	cfg.Dir = filepath.Join(t.TempDir(), "new", "bundles")
	if b := mustNew(t, cfg); b.Refresh(t.Context(), west) != nil || !knows(b, ca) {
		t.Fatal("no bundle")
	}
	w.network.Cut("east", "west.example")
	if b := mustNew(t, cfg); !knows(b, ca) {
		t.Error("a restart without the endpoint has lost the bundle")
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("files %v, %v", entries, err)
	}

	// A broken file is told of, and what was given is used.
	if err := os.WriteFile(filepath.Join(cfg.Dir, "west.example.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	if _, err := mustNew(t, cfg).GetX509BundleForTrustDomain(west); err == nil {
		t.Error("a bundle out of a broken file")
	}
	cfg.Endpoints[0].Bundle = ca.Bundle()
	if b := mustNew(t, cfg); !knows(b, ca) {
		t.Error("the given bundle is not in use")
	}
	if !strings.Contains(log.String(), "west.example.json") {
		t.Errorf("nobody was told: %s", &log)
	}
}

// TestKeptLater: what the disk did not take at first is kept by the next fetch.
func TestKeptLater(t *testing.T) {
	w := newWorld(t)
	ca := newCA(t, west)
	w.serve(t, mustHandler(t, west, ca.Bundle(), 0), nil)
	cfg := w.config(w.web())
	cfg.Dir = t.TempDir()
	inTheWay := filepath.Join(cfg.Dir, "west.example.json")
	if err := os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := mustNew(t, cfg)
	if err := b.Refresh(t.Context(), west); err != nil || !knows(b, ca) {
		t.Fatalf("a bundle that cannot be kept: %v", err)
	}
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	if err := b.Refresh(t.Context(), west); err != nil {
		t.Fatal(err)
	}
	w.network.Cut("east", "west.example")
	if b := mustNew(t, cfg); !knows(b, ca) {
		t.Error("it was not kept later either")
	}
}

func TestConfigsThatMakeNoSense(t *testing.T) {
	w := newWorld(t)
	good := w.web()
	bundle := newCA(t, east).Bundle()
	for name, cfg := range map[string]Config{
		"no trust domain":         {Endpoints: []Endpoint{{URL: westURL}}},
		"no URL":                  {Endpoints: []Endpoint{{TrustDomain: west}}},
		"plain HTTP":              {Endpoints: []Endpoint{{TrustDomain: west, URL: "http://west.example/"}}},
		"password":                {Endpoints: []Endpoint{{TrustDomain: west, URL: "https://a:b@west.example/"}}},
		"malformed URL":           {Endpoints: []Endpoint{{TrustDomain: west, URL: "https://%zz"}}},
		"twice":                   {Endpoints: []Endpoint{good, good}},
		"bundle of another":       {Endpoints: []Endpoint{{TrustDomain: west, URL: westURL, Bundle: bundle}}},
		"both profiles":           {Endpoints: []Endpoint{{TrustDomain: west, URL: westURL, ServerID: serverID, Roots: w.pki.roots}}},
		"nothing to verify with":  {Endpoints: []Endpoint{{TrustDomain: west, URL: westURL, ServerID: serverID}}},
		"server of an unknown TD": {Endpoints: []Endpoint{{TrustDomain: west, URL: westURL, ServerID: alice}}},
		"negative":                {Interval: -1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	b := mustNew(t, Config{})
	var endpoint *EndpointError
	if err := b.Refresh(t.Context(), west); !errors.As(err, &endpoint) {
		t.Errorf("refresh of an unknown trust domain: %v", err)
	}
	if _, err := b.GetX509BundleForTrustDomain(west); err == nil {
		t.Error("a bundle of an unknown trust domain")
	}
}

func FuzzParse(f *testing.F) {
	good, err := spiffebundle.FromX509Bundle(newCA(f, west).Bundle()).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"keys":[{"use":"x509-svid","kty":"EC"}],"spiffe_sequence":-1,"spiffe_refresh_hint":-5}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parse(west, data)
		if err != nil {
			return
		}
		for _, root := range b.X509Authorities() {
			if !root.IsCA {
				t.Fatal("a root that is no authority")
			}
		}
		if b.Empty() || b.TrustDomain() != west {
			t.Fatal("an empty bundle")
		}
	})
}
