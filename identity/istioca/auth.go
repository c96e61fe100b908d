package istioca

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/eastwest-mesh/eastwest/identity"
)

// A Caller is who sent a request, as an Authenticator found out.
type Caller struct {
	ID   spiffeid.ID // what it is certified as, unless it impersonates
	Node string      // the node it runs on; "" if not known, and then it cannot impersonate

	// ClusterID is the cluster that it says it is in. If an Authenticator leaves
	// it empty, the Server fills it in from the request: unproven then.
	ClusterID string
}

// An Authenticator finds out who sent a request. Its errors are logged; the
// caller is told only that authentication failed.
type Authenticator interface {
	Authenticate(ctx context.Context) (Caller, error)
}

// AnyOf tries authenticators in order; the first success counts.
func AnyOf(authenticators ...Authenticator) Authenticator { return anyOf(authenticators) }

type anyOf []Authenticator

func (a anyOf) Authenticate(ctx context.Context) (Caller, error) {
	errs := make([]error, 0, len(a))
	for _, one := range a {
		caller, err := one.Authenticate(ctx)
		if err == nil {
			return caller, nil
		}
		errs = append(errs, err)
	}
	return Caller{}, errors.Join(append(errs, errors.New("no authenticator succeeded"))...)
}

// ClientCertificates authenticates by the certificate of the TLS connection.
type ClientCertificates struct {
	// Verify are server credentials whose Peers and Source decide; the
	// connection itself may have been made with a configuration that verifies
	// nothing. The checks are made at each request, so that a certificate that
	// expired since is refused. Required.
	Verify *identity.Credentials
}

// Authenticate implements Authenticator.
func (a ClientCertificates) Authenticate(ctx context.Context) (Caller, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Caller{}, errors.New("client certificate: no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return Caller{}, errors.New("client certificate: the connection is not TLS")
	}
	if len(info.State.PeerCertificates) == 0 {
		return Caller{}, errors.New("client certificate: none was presented")
	}
	if err := a.Verify.Verify(info.State); err != nil {
		return Caller{}, err
	}
	id, err := identity.PeerID(info.State)
	return Caller{ID: id}, err
}

// Tokens authenticates by bearer tokens.
type Tokens struct {
	// Lookup returns whose token it is. Required.
	Lookup func(ctx context.Context, token string) (Caller, error)
}

// StaticTokens is a table of tokens.
func StaticTokens(table map[string]Caller) Tokens {
	// Comparing hashes tells nothing about the tokens by the time it takes.
	byHash := make(map[[sha256.Size]byte]Caller, len(table))
	for token, caller := range maps.All(table) {
		byHash[sha256.Sum256([]byte(token))] = caller
	}
	return Tokens{Lookup: func(_ context.Context, token string) (Caller, error) {
		caller, ok := byHash[sha256.Sum256([]byte(token))]
		if !ok {
			return Caller{}, errors.New("unknown token")
		}
		return caller, nil
	}}
}

// Authenticate implements Authenticator.
func (a Tokens) Authenticate(ctx context.Context) (Caller, error) {
	token, err := bearerToken(ctx)
	if err != nil {
		return Caller{}, fmt.Errorf("bearer token: %w", err)
	}
	caller, err := a.Lookup(ctx, token)
	if err != nil {
		return Caller{}, fmt.Errorf("bearer token: %w", err)
	}
	return caller, nil
}

// bearerToken refuses tokens that came over a connection that others can read:
// they are no secret any more.
func bearerToken(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok || p.AuthInfo == nil {
		return "", errors.New("the connection is not secure")
	}
	if err := credentials.CheckSecurityLevel(p.AuthInfo, credentials.PrivacyAndIntegrity); err != nil {
		return "", err
	}
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return "", fmt.Errorf("%d authorization headers, want one", len(values))
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errors.New("the authorization header is not a bearer token")
	}
	return token, nil
}
