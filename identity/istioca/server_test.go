package istioca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/internal/strictpem"
	istio "istio.io/api/security/v1alpha1"
)

// The clients of this file are Istio's own generated code.

func requestPEM(t testing.TB, key any, change func(*x509.CertificateRequest)) string {
	t.Helper()
	tmpl := &x509.CertificateRequest{URIs: []*url.URL{pod.URL()}}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: csrBlock, Bytes: der}))
}

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func withBearer(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func impersonating(id string) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{"ImpersonatedIdentity": structpb.NewStringValue(id)}}
}

// call asks for a certificate and returns the leaf.
func call(ctx context.Context, t testing.TB, conn grpc.ClientConnInterface, in *istio.IstioCertificateRequest) (*x509.Certificate, *istio.IstioCertificateResponse, error) {
	t.Helper()
	out, err := istio.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	certs, err := strictpem.Certificates([]byte(out.CertChain[0]))
	if err != nil {
		t.Fatal(err)
	}
	return certs[0], out, nil
}

func TestIssueToIstiosClient(t *testing.T) {
	ca := newCA(t, identity.CAConfig{})
	w := serve(t, serverConfig(ca))
	key := p256(t)
	forWhom := func(change func(*x509.CertificateRequest)) string { return requestPEM(t, key, change) }
	for _, tc := range []struct {
		name, token string
		in          *istio.IstioCertificateRequest
		want        spiffeid.ID
	}{
		{"itself", "pod-token", &istio.IstioCertificateRequest{Csr: forWhom(nil)}, pod},
		{"ztunnel itself", "ztunnel-token", &istio.IstioCertificateRequest{Csr: forWhom(nil)}, ztunnel},
		{"impersonation", "ztunnel-token", &istio.IstioCertificateRequest{Csr: forWhom(nil), Metadata: impersonating(pod.String())}, pod},
		{"impersonation of nobody", "pod-token", &istio.IstioCertificateRequest{Csr: forWhom(nil), Metadata: impersonating("")}, pod},
		{"other names in the CSR", "pod-token", &istio.IstioCertificateRequest{Csr: forWhom(func(r *x509.CertificateRequest) {
			r.URIs = []*url.URL{ztunnel.URL(), absent.URL()}
			r.DNSNames = []string{"istiod.istio-system.svc"}
			r.Subject = pkix.Name{CommonName: "admin"}
		})}, pod},
	} {
		t.Run(tc.name, func(t *testing.T) {
			leaf, out, err := call(withBearer(t.Context(), tc.token), t, w.dial(t), tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if id, err := identity.CertificateID(leaf); err != nil || id != tc.want || len(leaf.DNSNames) > 0 || leaf.Subject.CommonName != "" {
				t.Errorf("certified %v (%v), DNS %v, subject %q", id, err, leaf.DNSNames, leaf.Subject)
			}
			if !key.PublicKey.Equal(leaf.PublicKey) {
				t.Error("it is for another key")
			}
			roots, err := strictpem.Certificates([]byte(out.CertChain[len(out.CertChain)-1]))
			if err != nil || len(out.CertChain) != 2 || !roots[0].Equal(ca.Bundle().X509Authorities()[0]) || !strings.HasSuffix(out.CertChain[0], "\n") {
				t.Errorf("chain of %d elements, roots %v, %v", len(out.CertChain), roots, err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	w := serve(t, serverConfig(newCA(t, identity.CAConfig{})))
	good := requestPEM(t, p256(t), nil)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := &structpb.Struct{Fields: map[string]*structpb.Value{"CertSigner": structpb.NewStringValue("x")}}
	number := &structpb.Struct{Fields: map[string]*structpb.Value{"ImpersonatedIdentity": structpb.NewNumberValue(1)}}
	bad := []byte(good)
	block, _ := pem.Decode(bad)
	block.Bytes[len(block.Bytes)-1] ^= 1
	tampered := string(pem.EncodeToMemory(block))
	tests := []struct {
		name, auth string
		csr        string
		md         *structpb.Struct
		code       codes.Code
		message    string // what the caller is told
		reason     string // what the log says
	}{
		{"no token", "", good, nil, codes.Unauthenticated, "request authenticate failure", "0 authorization headers"},
		{"unknown token", "Bearer xyz", good, nil, codes.Unauthenticated, "request authenticate failure", "unknown token"},
		{"not a bearer token", "Basic pod-token", good, nil, codes.Unauthenticated, "request authenticate failure", "not a bearer token"},
		{"another trust domain", "Bearer foreign-token", good, nil, codes.Unauthenticated, "request authenticate failure", "trust domain"},
		{"impersonation by a workload", "Bearer pod-token", good, impersonating(pod.String()), codes.Unauthenticated, "request impersonation authentication failure", "not a trusted node"},
		{"impersonation of one on another node", "Bearer ztunnel-token", good, impersonating(absent.String()), codes.Unauthenticated, "request impersonation authentication failure", "no such workload runs"},
		{"impersonation with no node", "Bearer nodeless-token", good, impersonating(pod.String()), codes.Unauthenticated, "request impersonation authentication failure", "node is not known"},
		{"impersonation in another trust domain", "Bearer ztunnel-token", good, impersonating("spiffe://other.example/ns/app/sa/reviews"), codes.Unauthenticated, "request impersonation authentication failure", "not in trust domain"},
		{"impersonation of a malformed ID", "Bearer ztunnel-token", good, impersonating("spiffe://cluster.local/ns/app/sa/reviews/"), codes.Unauthenticated, "request impersonation authentication failure", "SPIFFE ID"},
		{"impersonation of no service account", "Bearer ztunnel-token", good, impersonating("spiffe://cluster.local/web"), codes.Unauthenticated, "request impersonation authentication failure", "not the identity of a service account"},
		{"impersonation of a number", "Bearer ztunnel-token", good, number, codes.Unauthenticated, "request impersonation authentication failure", "not a string"},
		{"a signer", "Bearer pod-token", good, signer, codes.InvalidArgument, "unacceptable certificate request", "CertSigner is not supported"},
		{"no CSR", "Bearer pod-token", "", nil, codes.InvalidArgument, "unacceptable certificate request", "not one PEM block"},
		{"two CSRs", "Bearer pod-token", good + good, nil, codes.InvalidArgument, "unacceptable certificate request", "not one PEM block"},
		{"another block", "Bearer pod-token", strings.ReplaceAll(good, "CERTIFICATE REQUEST", "CERTIFICATE"), nil, codes.InvalidArgument, "unacceptable certificate request", "not one PEM block"},
		{"huge", "Bearer pod-token", good + strings.Repeat("\n", maxCSR), nil, codes.InvalidArgument, "unacceptable certificate request", "at most"},
		{"no proof of possession", "Bearer pod-token", tampered, nil, codes.InvalidArgument, "unacceptable certificate request", "verification failure"},
		{"weak RSA key", "Bearer pod-token", requestPEM(t, weak, nil), nil, codes.InvalidArgument, "unacceptable certificate request", "RSA key of 1024 bits"},
		{"weak curve", "Bearer pod-token", requestPEM(t, p224, nil), nil, codes.InvalidArgument, "unacceptable certificate request", "224"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			ctx := t.Context()
			if tc.auth != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", tc.auth)
			}
			before := len(w.log.String())
			_, _, err := call(ctx, t, w.dial(t), &istio.IstioCertificateRequest{Csr: tc.csr, Metadata: tc.md})
			if s := status.Convert(err); s.Code() != tc.code || s.Message() != tc.message {
				t.Errorf("caller got %v", err)
			}
			logged := w.log.String()[before:]
			if !strings.Contains(logged, tc.reason) {
				t.Errorf("log has no %q: %s", tc.reason, logged)
			}
			for _, secret := range []string{"pod-token", "ztunnel-token", "xyz"} {
				if strings.Contains(logged, secret) {
					t.Errorf("the log has the token: %s", logged)
				}
			}
		})
	}
}

func TestNobodyImpersonatesUnlessConfigured(t *testing.T) {
	for name, change := range map[string]func(*ServerConfig){
		"no trusted nodes": func(c *ServerConfig) { c.TrustedNodes = identity.Peers{} },
		"no Nodes":         func(c *ServerConfig) { c.Nodes = nil },
		"unknown node":     func(c *ServerConfig) { c.Nodes = runs{} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := serverConfig(newCA(t, identity.CAConfig{}))
			change(&cfg)
			w := serve(t, cfg)
			in := &istio.IstioCertificateRequest{Csr: requestPEM(t, p256(t), nil), Metadata: impersonating(pod.String())}
			if _, _, err := call(withBearer(t.Context(), "ztunnel-token"), t, w.dial(t), in); status.Code(err) != codes.Unauthenticated {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLifeOfCertificates(t *testing.T) {
	w := serve(t, serverConfig(newCA(t, identity.CAConfig{})))
	conn := w.dial(t)
	for _, tc := range []struct {
		seconds int64
		want    time.Duration
	}{
		{0, 24 * time.Hour}, {-1, 24 * time.Hour}, {math.MinInt64, 24 * time.Hour}, {3600, time.Hour},
		{1000 * 24 * 3600, 90 * 24 * time.Hour}, {math.MaxInt64, 90 * 24 * time.Hour},
	} {
		leaf, _, err := call(withBearer(t.Context(), "pod-token"), t, conn, &istio.IstioCertificateRequest{Csr: requestPEM(t, p256(t), nil), ValidityDuration: tc.seconds})
		if err != nil {
			t.Fatal(err)
		}
		if off := leaf.NotAfter.Sub(time.Now().Add(tc.want)).Abs(); off > time.Minute {
			t.Errorf("%d s: off by %v", tc.seconds, off)
		}
	}
}

func TestClientCertificateCallers(t *testing.T) {
	ca, impostor := newCA(t, identity.CAConfig{}), newCA(t, identity.CAConfig{})
	own, err := ca.Source(spiffeid.RequireFromString("spiffe://cluster.local/ns/istio-system/sa/istiod"), 0)
	if err != nil {
		t.Fatal(err)
	}
	crls, err := identity.OpenCRLs(identity.CRLConfig{})
	if err != nil {
		t.Fatal(err)
	}
	verify, err := identity.NewServer(identity.Config{Source: own, Peers: identity.Peers{TrustDomains: []spiffeid.TrustDomain{local}}, Revocations: crls})
	if err != nil {
		t.Fatal(err)
	}
	cfg := serverConfig(ca)
	cfg.Authenticator = AnyOf(ClientCertificates{verify}, StaticTokens(callers))
	w := serve(t, cfg)
	ask := func(ctx context.Context, certs ...tls.Certificate) (spiffeid.ID, error) {
		leaf, _, err := call(ctx, t, w.dial(t, certs...), &istio.IstioCertificateRequest{Csr: requestPEM(t, p256(t), nil)})
		if err != nil {
			return spiffeid.ID{}, err
		}
		return identity.CertificateID(leaf)
	}
	if id, err := ask(t.Context(), clientCertificate(t, ca, absent)); err != nil || id != absent {
		t.Errorf("by certificate: %v, %v", id, err)
	}
	if id, err := ask(withBearer(t.Context(), "pod-token")); err != nil || id != pod {
		t.Errorf("by token: %v, %v", id, err)
	}
	if id, err := ask(t.Context(), clientCertificate(t, impostor, absent)); status.Code(err) != codes.Unauthenticated {
		t.Errorf("by the certificate of another CA: %v, %v", id, err)
	}
	if id, err := ask(t.Context()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("by nothing: %v, %v", id, err)
	}
	cert := clientCertificate(t, ca, absent)
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	crls.Revoke(leaf)
	if id, err := ask(t.Context(), cert); status.Code(err) != codes.Unauthenticated {
		t.Errorf("by a revoked certificate: %v, %v", id, err)
	}
}

func clientCertificate(t *testing.T, ca *identity.CA, id spiffeid.ID) tls.Certificate {
	t.Helper()
	svid, err := ca.Issue(id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{svid.Certificates[0].Raw}, PrivateKey: svid.PrivateKey}
}

// TestTokensOverPlaintext has a server without TLS by mistake.
func TestTokensOverPlaintext(t *testing.T) {
	s, err := NewServer(serverConfig(newCA(t, identity.CAConfig{})))
	if err != nil {
		t.Fatal(err)
	}
	w := servePlaintext(t, s)
	_, _, err = call(withBearer(t.Context(), "pod-token"), t, w.dialPlaintext(t), &istio.IstioCertificateRequest{Csr: requestPEM(t, p256(t), nil)})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("got %v", err)
	}
}
