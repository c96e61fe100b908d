package istioca

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/eastwest-mesh/eastwest/identity"
	istio "istio.io/api/security/v1alpha1"
)

// recorder is a CA made with Istio's generated code, which keeps what it was
// asked.
type recorder struct {
	istio.UnimplementedIstioCertificateServiceServer
	ca *identity.CA

	mu      sync.Mutex
	request *istio.IstioCertificateRequest
	header  metadata.MD
	answer  func(csr *x509.CertificateRequest) ([]string, error) // if not nil
}

func (r *recorder) CreateCertificate(ctx context.Context, in *istio.IstioCertificateRequest) (*istio.IstioCertificateResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.request = in
	r.header, _ = metadata.FromIncomingContext(ctx)
	block, _ := pem.Decode([]byte(in.Csr))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if r.answer != nil {
		chain, err := r.answer(csr)
		return &istio.IstioCertificateResponse{CertChain: chain}, err
	}
	return &istio.IstioCertificateResponse{CertChain: chainFor(r.ca, csr, pod)}, nil
}

func chainFor(ca *identity.CA, csr *x509.CertificateRequest, id spiffeid.ID) []string {
	chain, err := ca.SignCSR(csr, id, time.Hour)
	if err != nil {
		panic(err)
	}
	return encodeChain(chain, ca)
}

func record(t testing.TB) (*recorder, *world) {
	r := &recorder{ca: newCA(t, identity.CAConfig{})}
	return r, serveService(t, func(_ *world, s grpc.ServiceRegistrar) { istio.RegisterIstioCertificateServiceServer(s, r) })
}

// TestRequestIsZtunnels compares with what ztunnel sends.
func TestRequestIsZtunnels(t *testing.T) {
	r, w := record(t)
	c := newClient(t, ClientConfig{Conn: w.dial(t), Token: token("secret"), ClusterID: "east", Impersonate: true, Headers: map[string]string{"x-extra": "1"}})
	svid, bundle, err := c.Fetch(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	if svid.ID != pod || len(svid.Certificates) != 1 || !bundle.Equal(r.ca.Bundle()) {
		t.Errorf("got %v with %d certificates", svid.ID, len(svid.Certificates))
	}
	for name, want := range map[string]string{"authorization": "Bearer secret", "clusterid": "east", "x-extra": "1"} {
		if got := r.header.Get(name); len(got) != 1 || got[0] != want {
			t.Errorf("header %s: %q", name, got)
		}
	}
	if got := r.request.Metadata.GetFields()["ImpersonatedIdentity"].GetStringValue(); got != pod.String() || r.request.ValidityDuration != 86400 {
		t.Errorf("impersonates %q for %d s", got, r.request.ValidityDuration)
	}
	block, _ := pem.Decode([]byte(r.request.Csr))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if csr.PublicKeyAlgorithm != x509.ECDSA || csr.Subject.String() != "" || len(csr.URIs) != 1 || csr.URIs[0].String() != pod.String() || len(csr.DNSNames) > 0 {
		t.Errorf("CSR: %v, subject %q, URIs %v, DNS %v", csr.PublicKeyAlgorithm, csr.Subject, csr.URIs, csr.DNSNames)
	}
}

func TestRequestWithoutImpersonation(t *testing.T) {
	r, w := record(t)
	if _, _, err := newClient(t, ClientConfig{Conn: w.dial(t), TTL: time.Hour}).Fetch(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if r.request.Metadata != nil || len(r.header.Get("authorization")) > 0 || len(r.header.Get("clusterid")) > 0 || r.request.ValidityDuration != 3600 {
		t.Errorf("sent %v with %v", r.request, r.header)
	}
}

func TestTokenFileIsReadEachTime(t *testing.T) {
	r, w := record(t)
	name := filepath.Join(t.TempDir(), "token")
	c := newClient(t, ClientConfig{Conn: w.dial(t), Token: TokenFile(name)})
	for _, want := range []string{"one", "two"} {
		if err := os.WriteFile(name, []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Fetch(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		if got := r.header.Get("authorization"); got[0] != "Bearer "+want {
			t.Errorf("got %q", got)
		}
	}
	for what, do := range map[string]func() error{
		"empty":   func() error { return os.WriteFile(name, []byte("\n"), 0o600) },
		"missing": func() error { return os.Remove(name) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.Fetch(t.Context(), pod)
		var fe *FetchError
		if !errors.As(err, &fe) || fe.Op != "token" || fe.ID != pod || strings.Contains(err.Error(), "two") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func TestTokenIsNotSentInPlaintext(t *testing.T) {
	s, err := NewServer(serverConfig(newCA(t, identity.CAConfig{})))
	if err != nil {
		t.Fatal(err)
	}
	w := servePlaintext(t, s)
	_, _, err = newClient(t, ClientConfig{Conn: w.dialPlaintext(t), Token: token("secret")}).Fetch(t.Context(), pod)
	var fe *FetchError
	if !errors.As(err, &fe) || fe.Op != "call" || !strings.Contains(err.Error(), "transport") {
		t.Errorf("got %v", err)
	}
}

func TestResponses(t *testing.T) {
	r, w := record(t)
	other := newCA(t, identity.CAConfig{})
	past := newCA(t, identity.CAConfig{Time: func() time.Time { return time.Now().Add(-48 * time.Hour) }})
	client := newClient(t, ClientConfig{Conn: w.dial(t)})
	rootOf := func(ca *identity.CA) string { return encode(ca.Bundle().X509Authorities()[0]) }
	tests := []struct {
		name   string
		answer func(csr *x509.CertificateRequest) []string
		want   string // "" if it is acceptable
		roots  int
	}{
		{"as istiod", func(csr *x509.CertificateRequest) []string { return chainFor(r.ca, csr, pod) }, "", 1},
		{"two roots in the last element", func(csr *x509.CertificateRequest) []string {
			c := chainFor(r.ca, csr, pod)
			return []string{c[0], c[1] + rootOf(other)}
		}, "", 2},
		{"a root per element", func(csr *x509.CertificateRequest) []string { return append(chainFor(r.ca, csr, pod), rootOf(other)) }, "", 2},
		{"nothing", func(*x509.CertificateRequest) []string { return nil }, "0 elements", 0},
		{"no roots", func(csr *x509.CertificateRequest) []string { return chainFor(r.ca, csr, pod)[:1] }, "1 elements", 0},
		{"another identity", func(csr *x509.CertificateRequest) []string { return chainFor(r.ca, csr, absent) }, "the certificate is for " + absent.String(), 0},
		{"another key", func(*x509.CertificateRequest) []string {
			svid, _ := r.ca.Issue(pod, 0)
			return encodeChain(svid.Certificates, r.ca)
		}, "for another key", 0},
		{"roots of another CA", func(csr *x509.CertificateRequest) []string {
			return []string{chainFor(r.ca, csr, pod)[0], rootOf(other)}
		}, "unknown authority", 0},
		{"expired", func(csr *x509.CertificateRequest) []string { return chainFor(past, csr, pod) }, "expired", 0},
		{"not PEM", func(csr *x509.CertificateRequest) []string { return []string{"x", rootOf(other)} }, "element 0: no PEM certificate", 0},
		{"a root that is cut off", func(csr *x509.CertificateRequest) []string {
			return []string{chainFor(r.ca, csr, pod)[0], rootOf(other)[:99] + "\n" + rootOf(r.ca)}
		}, "element 1: malformed PEM", 0},
		{"a key", func(csr *x509.CertificateRequest) []string {
			return []string{chainFor(r.ca, csr, pod)[0], "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}
		}, `type "PRIVATE KEY"`, 0},
		{"too many", func(csr *x509.CertificateRequest) []string {
			return []string{chainFor(r.ca, csr, pod)[0], strings.Repeat(rootOf(r.ca), maxCerts)}
		}, "more than 256", 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r.mu.Lock()
			r.answer = func(csr *x509.CertificateRequest) ([]string, error) { return tc.answer(csr), nil }
			r.mu.Unlock()
			svid, bundle, err := client.Fetch(t.Context(), pod)
			if tc.want != "" {
				if !errors.Is(err, ErrResponse) || !strings.Contains(err.Error(), tc.want) || svid != nil || bundle != nil {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				return
			}
			if err != nil || len(svid.Certificates) != 1 || len(bundle.X509Authorities()) != tc.roots {
				t.Errorf("got %v, %v", svid, err)
			}
		})
	}
}

func TestCallErrorsUnwrap(t *testing.T) {
	w := serve(t, serverConfig(newCA(t, identity.CAConfig{})))
	_, _, err := newClient(t, ClientConfig{Conn: w.dial(t), Token: token("unknown")}).Fetch(t.Context(), pod)
	var fe *FetchError
	if !errors.As(err, &fe) || fe.Op != "call" || status.Code(fe.Err) != codes.Unauthenticated {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := newClient(t, ClientConfig{Conn: w.dial(t), Concurrency: 1})
	c.slots <- struct{}{}
	if _, _, err := c.Fetch(ctx, pod); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while others were under way: %v", err)
	}
}

func TestOurClientWithOurServerAndIntermediate(t *testing.T) {
	root, ca := withIntermediate(t)
	w := serve(t, serverConfig(ca))
	c := newClient(t, ClientConfig{Conn: w.dial(t), Token: token("ztunnel-token"), Impersonate: true})
	svid, bundle, err := c.Fetch(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	if len(svid.Certificates) != 2 || !bundle.Equal(root.Bundle()) {
		t.Errorf("chain of %d, %d roots", len(svid.Certificates), len(bundle.X509Authorities()))
	}
}

func FuzzParseResponse(f *testing.F) {
	ca := newCA(f, identity.CAConfig{})
	svid, err := ca.Issue(pod, 0)
	if err != nil {
		f.Fatal(err)
	}
	chain := encodeChain(svid.Certificates, ca)
	f.Add(chain[0], chain[1])
	f.Add(chain[0]+chain[1], chain[1])
	f.Add("", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, leaf, roots string) {
		got, bundle, err := parseResponse([]string{leaf, roots}, svid.PrivateKey, pod, time.Now())
		if err != nil {
			return
		}
		if bundle.Empty() || !got.Certificates[0].Equal(svid.Certificates[0]) {
			t.Fatal("accepted something else")
		}
	})
}
