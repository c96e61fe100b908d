package hbonetest

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// Credentials are what one end shows and whom it accepts, as plain data, for
// implementations that know nothing of crypto/tls.
type Credentials struct {
	Certificate tls.Certificate     // leaf, intermediates and key; the leaf's only name is a SPIFFE ID
	Roots       []*x509.Certificate // to which the peer's chain must lead
	Peers       []string            // the SPIFFE IDs to accept, and no other

	ca *testca.CA
}

// ClientTLS returns the credentials as a client's configuration: TLS 1.3, ALPN
// h2, no server name, and a peer that must be one of Peers. It is nil if the
// suite runs in plain text.
func (c Credentials) ClientTLS() *tls.Config {
	if c.ca == nil {
		return nil
	}
	return c.ca.ClientConfig(c.Certificate, c.Peers...)
}

// ServerTLS returns the credentials as a server's configuration, which wants a
// client certificate of one of Peers. It is nil if the suite runs in plain
// text.
func (c Credentials) ServerTLS() *tls.Config {
	if c.ca == nil {
		return nil
	}
	return c.ca.ServerConfig(c.Certificate, c.Peers...)
}

// Who takes part in the tests.
const (
	webID     = "spiffe://cluster.local/ns/app/sa/web"     // the client
	reviewsID = "spiffe://cluster.local/ns/app/sa/reviews" // the server
	gatewayID = "spiffe://cluster.local/ns/istio-system/sa/gateway"
	strangeID = "spiffe://cluster.local/ns/app/sa/stranger"
)

// credentials returns those of id, with peers to accept.
func (s *script) credentials(id string, peers ...string) Credentials {
	if s.opts.Plaintext {
		return Credentials{}
	}
	return Credentials{
		Certificate: s.ca.Issue(id),
		Roots:       []*x509.Certificate{s.ca.Root()},
		Peers:       peers,
		ca:          s.ca,
	}
}
