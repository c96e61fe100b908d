package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// maxIDLen bounds an ID that a peer sends: SPIFFE-ID §2.3 asks
// implementations to support up to 2048 bytes and to issue no more.
const maxIDLen = 2048

// WorkloadID returns the ID that Istio gives to the pods of a service account:
// spiffe://<trust domain>/ns/<namespace>/sa/<service account>.
func WorkloadID(td spiffeid.TrustDomain, namespace, serviceAccount string) (spiffeid.ID, error) {
	if td.IsZero() {
		return spiffeid.ID{}, errors.New("identity: workload ID without a trust domain")
	}
	id, err := spiffeid.FromSegments(td, "ns", namespace, "sa", serviceAccount)
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("identity: workload ID of namespace %q, service account %q: %w", namespace, serviceAccount, err)
	}
	return id, nil
}

// SplitWorkloadID is the inverse of WorkloadID. ok is false for an ID of any
// other form.
func SplitWorkloadID(id spiffeid.ID) (namespace, serviceAccount string, ok bool) {
	rest, ok := strings.CutPrefix(id.Path(), "/ns/")
	if !ok {
		return "", "", false
	}
	namespace, serviceAccount, ok = strings.Cut(rest, "/sa/")
	if !ok || namespace == "" || serviceAccount == "" || strings.Contains(namespace, "/") || strings.Contains(serviceAccount, "/") {
		return "", "", false
	}
	return namespace, serviceAccount, true
}

// PeerID returns the SPIFFE ID of the peer's certificate. It is verified if the
// handshake was made with a configuration of this package and is complete;
// PeerID by itself verifies nothing but its form. Exactly one URI SAN is
// required, as SPIFFE X.509-SVID §5.2 does, spelled canonically.
func PeerID(cs tls.ConnectionState) (spiffeid.ID, error) {
	if len(cs.PeerCertificates) == 0 {
		return spiffeid.ID{}, &PeerError{Check: CheckCertificate, Err: errors.New("the peer presented no certificate")}
	}
	id, err := CertificateID(cs.PeerCertificates[0])
	if err != nil {
		return spiffeid.ID{}, &PeerError{Check: CheckID, Err: err}
	}
	return id, nil
}

// CertificateID returns the SPIFFE ID in a certificate, with the same checks of
// its form as PeerID.
//
// It is read from the bytes of the certificate: parsed URLs have lost
// distinctions such as an upper-case scheme or an empty fragment, which another
// implementation could see differently.
func CertificateID(cert *x509.Certificate) (spiffeid.ID, error) {
	uri, n, err := rawURI(cert)
	if err != nil {
		return spiffeid.ID{}, err
	}
	if n != 1 {
		return spiffeid.ID{}, fmt.Errorf("the certificate has %d URI names, want exactly one", n)
	}
	return ParseID(string(uri))
}

// ParseID parses the SPIFFE ID of a workload as it appears in a certificate. It
// is stricter than spiffeid.FromString in that the ID must have a path
// (X.509-SVID §2) and may have 2048 bytes at most.
func ParseID(s string) (spiffeid.ID, error) {
	if len(s) > maxIDLen {
		return spiffeid.ID{}, fmt.Errorf("SPIFFE ID of %d bytes, at most %d are allowed", len(s), maxIDLen)
	}
	id, err := spiffeid.FromString(s)
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("SPIFFE ID %q: %w", s, err)
	}
	if id.Path() == "" {
		return spiffeid.ID{}, fmt.Errorf("SPIFFE ID %q names a trust domain, not a workload", s)
	}
	return id, nil
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

var errSubjectAltName = errors.New("the certificate has a malformed subjectAltName")

// rawURI returns the last uniformResourceIdentifier (context tag 6) of the
// subjectAltName extension, RFC 5280 §4.2.1.6, and how many there are.
func rawURI(cert *x509.Certificate) (uri []byte, n int, err error) {
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names, name asn1.RawValue
		rest, err := asn1.Unmarshal(ext.Value, &names)
		if err != nil || len(rest) > 0 || names.Tag != asn1.TagSequence || names.Class != asn1.ClassUniversal || !names.IsCompound {
			return nil, 0, errSubjectAltName
		}
		for rest = names.Bytes; len(rest) > 0; {
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return nil, 0, errSubjectAltName
			}
			if name.Class == asn1.ClassContextSpecific && name.Tag == 6 {
				uri, n = name.Bytes, n+1
			}
		}
	}
	return uri, n, nil
}
