package discovery

import (
	"context"
	"log/slog"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"

	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/identity/istioca"
)

// Certificates fetches certificates from a control plane's CA and keeps them
// current. It must be closed.
type Certificates struct{ manager *istioca.Manager }

// NewCertificates asks for certificates over a connection that says who we are,
// such as ControlPlane.Dial makes. A node proxy impersonates its pods.
func NewCertificates(conn *grpc.ClientConn, impersonate bool, logger *slog.Logger) (*Certificates, error) {
	client, err := istioca.NewClient(istioca.ClientConfig{Conn: conn, Impersonate: impersonate, Logger: logger})
	if err != nil {
		return nil, err
	}
	return &Certificates{istioca.NewManager(client)}, nil
}

// Source returns a source of an identity's certificate, once there is one. It
// is good until release is called.
func (c *Certificates) Source(ctx context.Context, id spiffeid.ID) (source identity.Source, release func(), err error) {
	s, err := c.manager.Acquire(id)
	if err != nil {
		return nil, nil, err
	}
	if err := s.Ready(ctx); err != nil {
		c.manager.Release(id)
		return nil, nil, err
	}
	return s, func() { c.manager.Release(id) }, nil
}

// Close ends all renewing.
func (c *Certificates) Close() error { return c.manager.Close() }
