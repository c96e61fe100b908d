package discovery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// ControlPlane says how to reach an istiod, and as whom.
type ControlPlane struct {
	Address   string // host:port of its TLS port (15012)
	RootCerts []byte // PEM of the roots that its certificate leads to; required
	// ServerName is what its certificate must be for. If empty, the host of
	// Address.
	ServerName string
	Token      func() (string, error) // the bearer token, asked for each call; required
	ClusterID  string
}

// Dial returns a connection to the control plane, which connects when it is
// used, and again whenever it broke. The caller closes it.
func (c ControlPlane) Dial() (*grpc.ClientConn, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.RootCerts) {
		return nil, errors.New("discovery: no root certificate of the control plane")
	}
	if c.Token == nil {
		return nil, errors.New("discovery: no token for the control plane")
	}
	return grpc.NewClient(c.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs:    roots,
			ServerName: c.ServerName,
			MinVersion: tls.VersionTLS13,
		})),
		grpc.WithPerRPCCredentials(bearer{c.Token, c.ClusterID}),
		// The xds.Client waits between attempts, as does the CA's; gRPC must not
		// wait for two minutes on top.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		// As ztunnel has it: a control plane that vanished is noticed.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
}

// TokenFile returns a Token that reads a file each time, since Kubernetes
// replaces it while it is used.
func TokenFile(path string) func() (string, error) {
	return func() (string, error) {
		token, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("discovery: token: %w", err)
		}
		text := strings.TrimSpace(string(token))
		if text == "" {
			return "", fmt.Errorf("discovery: token: %s is empty", path)
		}
		return text, nil
	}
}

// bearer sends what istiod authenticates a proxy by.
type bearer struct {
	token     func() (string, error)
	clusterID string
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := b.token()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token, "clusterid": b.clusterID}, nil
}

// RequireTransportSecurity keeps the token off plaintext connections.
func (bearer) RequireTransportSecurity() bool { return true }
