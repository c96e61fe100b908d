package testca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Credentials are one end's certificate and the peers that it accepts, in the
// shape that package hbone asks for. They are safe for concurrent use.
type Credentials struct {
	config *tls.Config
	key    string

	mu      sync.Mutex
	drain   time.Time
	cut     chan struct{}
	revoked bool
}

// Client returns credentials that dial as cert and accept only servers with
// one of the given IDs (paths or whole URIs) whose chain ends in ca.
func (ca *CA) Client(cert tls.Certificate, servers ...string) *Credentials {
	return newCredentials(ca.ClientConfig(cert, servers...), cert, ca.ids(servers))
}

// Server returns credentials that serve as cert and accept only clients with
// one of the given IDs, or any client of the trust domain if none is given.
func (ca *CA) Server(cert tls.Certificate, clients ...string) *Credentials {
	return newCredentials(ca.ServerConfig(cert, clients...), cert, ca.ids(clients))
}

// ClientConfig returns the TLS configuration of [CA.Client].
func (ca *CA) ClientConfig(cert tls.Certificate, servers ...string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"h2"},
		Certificates:       []tls.Certificate{cert},
		InsecureSkipVerify: true, // no host names in a mesh: VerifyConnection checks the SPIFFE ID
		VerifyConnection:   ca.verify(x509.ExtKeyUsageServerAuth, ca.ids(servers)),
	}
}

// ServerConfig returns the TLS configuration of [CA.Server].
func (ca *CA) ServerConfig(cert tls.Certificate, clients ...string) *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		NextProtos:       []string{"h2"},
		Certificates:     []tls.Certificate{cert},
		ClientAuth:       tls.RequireAnyClientCert,
		VerifyConnection: ca.verify(x509.ExtKeyUsageClientAuth, ca.ids(clients)),
	}
}

func newCredentials(config *tls.Config, cert tls.Certificate, peers []string) *Credentials {
	own := ""
	if cert.Leaf != nil {
		own = fmt.Sprint(cert.Leaf.URIs)
	}
	return &Credentials{
		config: config,
		key:    own + " > " + strings.Join(peers, ","),
		cut:    make(chan struct{}),
	}
}

// Config returns the TLS configuration.
func (c *Credentials) Config(context.Context) (*tls.Config, error) { return c.config, nil }

// Key names the local identity and the accepted peers, in sorted order.
func (c *Credentials) Key() string { return c.key }

// Retire returns what [Credentials.DrainAt] and [Credentials.Revoke] set.
func (c *Credentials) Retire(tls.ConnectionState) (time.Time, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drain, c.cut
}

// DrainAt sets when tunnels made from now on stop taking new streams.
func (c *Credentials) DrainAt(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain = t
}

// Revoke ends every tunnel made with c.
func (c *Credentials) Revoke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.revoked {
		c.revoked = true
		close(c.cut)
	}
}

// ids returns whole, sorted SPIFFE IDs.
func (ca *CA) ids(ids []string) []string {
	whole := make([]string, 0, len(ids))
	for _, id := range ids {
		whole = append(whole, ca.uri(id).String())
	}
	slices.Sort(whole)
	return slices.Compact(whole)
}

func (ca *CA) verify(usage x509.ExtKeyUsage, peers []string) func(tls.ConnectionState) error {
	roots := ca.Pool()
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("testca: the peer sent no certificate")
		}
		leaf, intermediates := state.PeerCertificates[0], x509.NewCertPool()
		for _, cert := range state.PeerCertificates[1:] {
			intermediates.AddCert(cert)
		}
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots:         roots,
			Intermediates: intermediates,
			CurrentTime:   time.Now(),
			KeyUsages:     []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return err
		}
		return ca.checkID(leaf, peers)
	}
}

func (ca *CA) checkID(leaf *x509.Certificate, peers []string) error {
	if len(leaf.URIs) != 1 {
		return fmt.Errorf("testca: the peer's certificate has %d URI SANs, want 1", len(leaf.URIs))
	}
	id := leaf.URIs[0]
	if len(peers) == 0 && id.Host == ca.TrustDomain {
		return nil
	}
	if !slices.Contains(peers, id.String()) {
		return fmt.Errorf("testca: the peer is %s, want one of %q", id, peers)
	}
	return nil
}
