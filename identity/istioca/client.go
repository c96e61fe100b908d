package istioca

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/eastwest-mesh/eastwest/internal/boundedfile"
	capb "github.com/eastwest-mesh/eastwest/internal/pb/ca/v1"
)

// ClientConfig describes a client. Only Conn is required.
type ClientConfig struct {
	// Conn is the connection to the CA. It stays the caller's: Close does not
	// close it. Required.
	Conn grpc.ClientConnInterface

	// Token returns the bearer token to authenticate with; it is called for
	// each request. If nil, none is sent, and the client certificate of Conn
	// must do. A token is never sent over a connection without TLS: the request
	// fails.
	Token func(context.Context) (string, error)

	// ClusterID is the name of our cluster, for a CA that serves several. If
	// empty, it is not sent.
	ClusterID string

	// Headers are further gRPC metadata of each request.
	Headers map[string]string

	// Impersonate asks for the identity as a node proxy does that is not that
	// workload itself.
	Impersonate bool

	// TTL is the life to ask for. If zero, 24h.
	TTL time.Duration

	// Timeout bounds one request. If zero, 10 s.
	Timeout time.Duration

	// Concurrency bounds the requests under way at once, over all sources. If
	// zero, 8.
	Concurrency int

	// RetryMin and RetryMax bound the delay of a Source after a failure; it
	// doubles each time. If zero, 1 s and 150 s.
	RetryMin, RetryMax time.Duration

	// Logger is told about renewals and failures. If nil, nobody is.
	Logger *slog.Logger
}

// Client fetches certificates from a CA. It is safe for concurrent use.
type Client struct {
	cfg   ClientConfig
	slots chan struct{} // of Concurrency
}

// NewClient returns a client.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Conn == nil {
		return nil, errors.New("istioca: ClientConfig.Conn is not set")
	}
	if cfg.TTL < 0 || cfg.Timeout < 0 || cfg.RetryMin < 0 || cfg.RetryMax < 0 || cfg.Concurrency < 0 {
		return nil, errors.New("istioca: negative value in ClientConfig")
	}
	cfg.TTL = cmp.Or(cfg.TTL, 24*time.Hour)
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Second)
	cfg.Concurrency = cmp.Or(cfg.Concurrency, 8)
	cfg.RetryMin = cmp.Or(cfg.RetryMin, time.Second)
	cfg.RetryMax = max(cmp.Or(cfg.RetryMax, 150*time.Second), cfg.RetryMin)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return &Client{cfg: cfg, slots: make(chan struct{}, cfg.Concurrency)}, nil
}

// maxToken is far above any token: servers bound the header that it is sent in.
const maxToken = 64 << 10

// TokenFile returns a Token that reads a file for each request: Kubernetes
// replaces projected tokens long before they expire.
func TokenFile(name string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		b, err := boundedfile.Read(name, maxToken)
		if err != nil {
			return "", err
		}
		token := strings.TrimSpace(string(b))
		if token == "" {
			return "", errors.New(name + " is empty")
		}
		return token, nil
	}
}

// Fetch makes a key and gets a certificate for it, in one request. It returns
// the certificate, and the roots that the CA names for its trust domain. The
// certificate is for id, verifies with those roots, and is valid now; anything
// else is an error, a FetchError.
func (c *Client) Fetch(ctx context.Context, id spiffeid.ID) (*x509svid.SVID, *x509bundle.Bundle, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, nil, &FetchError{ID: id, Op: "call", Err: context.Cause(ctx)}
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	key, csr, err := newRequest(id)
	if err != nil {
		return nil, nil, &FetchError{ID: id, Op: "key", Err: err}
	}
	opts, err := c.credentials(ctx)
	if err != nil {
		return nil, nil, &FetchError{ID: id, Op: "token", Err: err}
	}
	out := new(capb.IstioCertificateResponse)
	if err := c.cfg.Conn.Invoke(c.headers(ctx), methodPath, c.request(csr, id), out, opts...); err != nil {
		return nil, nil, &FetchError{ID: id, Op: "call", Err: err}
	}
	svid, bundle, err := parseResponse(out.GetCertChain(), key, id, time.Now())
	if err != nil {
		return nil, nil, &FetchError{ID: id, Op: "response", Err: err}
	}
	return svid, bundle, nil
}

// newRequest makes a P-256 key and a CSR whose only name is the URI, with no
// subject, as ztunnel does.
func newRequest(id spiffeid.ID) (*ecdsa.PrivateKey, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id.URL()}}, key)
	if err != nil {
		return nil, "", err
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: csrBlock, Bytes: der})), nil
}

func (c *Client) request(csr string, id spiffeid.ID) *capb.IstioCertificateRequest {
	in := &capb.IstioCertificateRequest{Csr: csr, ValidityDuration: int64(c.cfg.TTL / time.Second)}
	if c.cfg.Impersonate {
		in.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{fieldIdentity: structpb.NewStringValue(id.String())}}
	}
	return in
}

func (c *Client) headers(ctx context.Context) context.Context {
	if c.cfg.ClusterID != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, headerCluster, c.cfg.ClusterID)
	}
	for k, v := range c.cfg.Headers {
		ctx = metadata.AppendToOutgoingContext(ctx, k, v)
	}
	return ctx
}

func (c *Client) credentials(ctx context.Context) ([]grpc.CallOption, error) {
	if c.cfg.Token == nil {
		return nil, nil
	}
	token, err := c.cfg.Token(ctx)
	if err != nil {
		return nil, err
	}
	return []grpc.CallOption{grpc.PerRPCCredentials(bearer(token))}, nil
}

// bearer is a token that gRPC sends over TLS only.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }
