package istioca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/internal/strictpem"
)

const (
	csrBlock  = "CERTIFICATE REQUEST"
	certBlock = "CERTIFICATE"
	maxCerts  = 256 // of a response
)

// parseResponse checks what a CA sent: the leaf first, intermediates, roots
// last. Some versions of istiod send all roots in the last element, others one
// per element; self-signed certificates are roots wherever they are.
func parseResponse(chain []string, key crypto.Signer, id spiffeid.ID, now time.Time) (*x509svid.SVID, *x509bundle.Bundle, error) {
	if len(chain) < 2 {
		return nil, nil, fmt.Errorf("%w: %d elements, want a certificate and the roots at least", ErrResponse, len(chain))
	}
	var svid []*x509.Certificate
	var roots []*x509.Certificate
	for i, element := range chain {
		certs, err := strictpem.Certificates([]byte(element))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: element %d: %w", ErrResponse, i, err)
		}
		for j, cert := range certs {
			isLeaf := i == 0 && j == 0
			if !isLeaf && (i == len(chain)-1 || selfSigned(cert)) {
				roots = append(roots, cert)
			} else {
				svid = append(svid, cert)
			}
		}
		if len(svid)+len(roots) > maxCerts {
			return nil, nil, fmt.Errorf("%w: more than %d certificates", ErrResponse, maxCerts)
		}
	}
	if err := checkLeaf(svid, key, id); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	bundle := x509bundle.FromX509Authorities(id.TrustDomain(), roots)
	if _, _, err := x509svid.Verify(svid, bundle, x509svid.WithTime(now)); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	return &x509svid.SVID{ID: id, Certificates: svid, PrivateKey: key}, bundle, nil
}

func checkLeaf(certs []*x509.Certificate, key crypto.Signer, id spiffeid.ID) error {
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(certs[0].PublicKey) {
		return errors.New("the certificate is for another key")
	}
	got, err := identity.CertificateID(certs[0])
	if err != nil {
		return err
	}
	if got != id {
		return fmt.Errorf("the certificate is for %s", got)
	}
	return nil
}

func selfSigned(c *x509.Certificate) bool {
	return c.IsCA && bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}
