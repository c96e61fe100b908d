package istioca

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/eastwest-mesh/eastwest/identity"
	capb "github.com/eastwest-mesh/eastwest/internal/pb/ca/v1"
)

// maxCSR bounds a request: one of a 4096-bit RSA key has under 2 KiB.
const maxCSR = 16 << 10

// Nodes knows which workloads run where.
type Nodes interface {
	// RunsOn reports whether a workload with that identity runs on the node of
	// the caller (caller.Node, in caller.ClusterID).
	RunsOn(ctx context.Context, caller Caller, id spiffeid.ID) (bool, error)
}

// ServerConfig describes a server. CA and Authenticator are required.
type ServerConfig struct {
	// CA signs, and bounds how long certificates live. Required.
	CA *identity.CA

	// Authenticator says who calls. Required.
	Authenticator Authenticator

	// TrustedNodes are the identities that may ask for certificates of
	// workloads on their node: the node proxies. If empty, nobody may.
	TrustedNodes identity.Peers

	// Nodes says what runs on a trusted node. If nil, nothing does.
	Nodes Nodes

	// Logger is told about refusals, with the reasons that callers are not
	// told, and about certificates issued. If nil, nobody is.
	Logger *slog.Logger
}

// Server is the certificate service. It is safe for concurrent use.
type Server struct {
	cfg ServerConfig
}

// NewServer returns a server.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.CA == nil || cfg.Authenticator == nil {
		return nil, errors.New("istioca: ServerConfig needs CA and Authenticator")
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return &Server{cfg: cfg}, nil
}

// Register adds the service to a gRPC server. Serve it over TLS: tokens are
// refused on other connections.
func (s *Server) Register(r grpc.ServiceRegistrar) { r.RegisterService(&serviceDesc, s) }

// What callers are told; the reasons are for the log. The first two are
// istiod's words.
var (
	errUnauthenticated = status.Error(codes.Unauthenticated, "request authenticate failure")
	errImpersonation   = status.Error(codes.Unauthenticated, "request impersonation authentication failure")
	errBadRequest      = status.Error(codes.InvalidArgument, "unacceptable certificate request")
	errSigning         = status.Error(codes.Internal, "CSR signing error")
)

func (s *Server) createCertificate(ctx context.Context, in *capb.IstioCertificateRequest) (*capb.IstioCertificateResponse, error) {
	log := s.cfg.Logger.With("peer", address(ctx))
	caller, err := s.cfg.Authenticator.Authenticate(ctx)
	if err != nil {
		log.Warn("certificate refused: authentication", "error", err)
		return nil, errUnauthenticated
	}
	if caller.ClusterID == "" {
		caller.ClusterID = strings.Join(metadata.ValueFromIncomingContext(ctx, headerCluster), ",")
	}
	log = log.With("caller", caller.ID.String(), "node", caller.Node, "cluster", caller.ClusterID)
	id, err := s.subject(ctx, caller, in)
	if err != nil {
		log.Warn("certificate refused: impersonation", "error", err)
		return nil, errImpersonation
	}
	if !id.MemberOf(s.cfg.CA.TrustDomain()) {
		log.Warn("certificate refused: trust domain", "id", id.String(), "want", s.cfg.CA.TrustDomain().Name())
		return nil, errUnauthenticated
	}
	csr, err := parseRequest(in)
	if err != nil {
		log.Warn("certificate refused: request", "id", id.String(), "error", err)
		return nil, errBadRequest
	}
	chain, err := s.cfg.CA.Sign(csr.PublicKey, id, seconds(in.GetValidityDuration()))
	if err != nil {
		log.Error("certificate refused: signing", "id", id.String(), "error", err)
		return nil, errSigning
	}
	log.Info("certificate issued", "id", id.String(), "expires", chain[0].NotAfter)
	return &capb.IstioCertificateResponse{CertChain: encodeChain(chain, s.cfg.CA)}, nil
}

// subject returns whom to certify: the caller, or whom it may impersonate.
func (s *Server) subject(ctx context.Context, caller Caller, in *capb.IstioCertificateRequest) (spiffeid.ID, error) {
	name, ok := field(in.GetMetadata(), fieldIdentity)
	if !ok {
		return spiffeid.ID{}, fmt.Errorf("%s is not a string", fieldIdentity)
	}
	if name == "" {
		return caller.ID, nil
	}
	id, err := identity.ParseID(name)
	if err != nil {
		return spiffeid.ID{}, err
	}
	if _, _, ok := identity.SplitWorkloadID(id); !ok {
		return spiffeid.ID{}, fmt.Errorf("%s is not the identity of a service account", id)
	}
	// Istiod does not check the trust domain here.
	if !id.MemberOf(s.cfg.CA.TrustDomain()) {
		return spiffeid.ID{}, fmt.Errorf("%s is not in trust domain %s", id, s.cfg.CA.TrustDomain().Name())
	}
	switch {
	case !s.cfg.TrustedNodes.Accepts(caller.ID):
		return spiffeid.ID{}, fmt.Errorf("for %s: the caller is not a trusted node", id)
	case caller.Node == "":
		return spiffeid.ID{}, fmt.Errorf("for %s: the caller's node is not known", id)
	case s.cfg.Nodes == nil:
		return spiffeid.ID{}, fmt.Errorf("for %s: it is not known what runs on nodes", id)
	}
	runs, err := s.cfg.Nodes.RunsOn(ctx, caller, id)
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("for %s: %w", id, err)
	}
	if !runs {
		return spiffeid.ID{}, fmt.Errorf("for %s: no such workload runs on the caller's node", id)
	}
	return id, nil
}

func parseRequest(in *capb.IstioCertificateRequest) (*x509.CertificateRequest, error) {
	if signer, ok := field(in.GetMetadata(), fieldSigner); !ok || signer != "" {
		return nil, fmt.Errorf("%s is not supported", fieldSigner)
	}
	if len(in.GetCsr()) > maxCSR {
		return nil, fmt.Errorf("CSR of %d bytes, at most %d are allowed", len(in.GetCsr()), maxCSR)
	}
	block, rest := pem.Decode([]byte(in.GetCsr()))
	if block == nil || block.Type != csrBlock || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("the CSR is not one PEM block of type " + csrBlock)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return nil, err
	}
	return csr, csr.CheckSignature()
}

// checkKey refuses keys that are weak, or costly to verify.
func checkKey(pub any) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if bits := k.Curve.Params().BitSize; bits < 256 {
			return fmt.Errorf("ECDSA key of %d bits", bits)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 || bits > 8192 {
			return fmt.Errorf("RSA key of %d bits, want 2048 to 8192", bits)
		}
		return nil
	default:
		return fmt.Errorf("key of type %T", pub)
	}
}

// seconds converts the life that was asked for; more than a Duration holds is
// as much as it does.
func seconds(n int64) time.Duration {
	if n > int64(math.MaxInt64/time.Second) {
		return math.MaxInt64
	}
	return time.Duration(max(n, 0)) * time.Second
}

// encodeChain writes the leaf first, one certificate per element, and all roots
// in the last element: ztunnel trusts what is in the last one.
func encodeChain(chain []*x509.Certificate, ca *identity.CA) []string {
	out := make([]string, 0, len(chain)+1)
	for _, c := range chain {
		out = append(out, encode(c))
	}
	var roots strings.Builder
	for _, c := range ca.Bundle().X509Authorities() {
		roots.WriteString(encode(c))
	}
	return append(out, roots.String())
}

func encode(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: c.Raw}))
}

func address(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return "unknown"
}
