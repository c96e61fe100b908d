package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/strictpem"
)

// maxCRLFile bounds a file of revocation lists: 32 MiB hold some 800,000
// revoked certificates.
const maxCRLFile = 32 << 20

const crlBlock = "X509 CRL" // RFC 7468 §6

// ParseCRLs parses certificate revocation lists: PEM or DER, one or more, one
// after the other. Signatures are not checked here: each list counts only for
// certificates of the issuer that signed it.
func ParseCRLs(data []byte) ([]*x509.RevocationList, error) {
	parse := parseDER
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		parse = parsePEM
	}
	lists, err := parse(data)
	if err == nil && len(lists) == 0 {
		err = errors.New("no revocation list in it")
	}
	return lists, err
}

func parsePEM(data []byte) (lists []*x509.RevocationList, err error) {
	blocks, err := strictpem.Blocks(data)
	if err != nil {
		return nil, err
	}
	for i, block := range blocks {
		if block.Type != crlBlock {
			return nil, fmt.Errorf("revocation list %d: a PEM block of type %q, want %q", i+1, block.Type, crlBlock)
		}
		l, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("revocation list %d: %w", i+1, err)
		}
		lists = append(lists, l)
	}
	return lists, nil
}

func parseDER(data []byte) (lists []*x509.RevocationList, err error) {
	for len(bytes.TrimSpace(data)) > 0 {
		var raw asn1.RawValue
		rest, err := asn1.Unmarshal(data, &raw)
		if err != nil {
			return nil, fmt.Errorf("revocation list %d: neither PEM nor DER: %w", len(lists)+1, err)
		}
		l, err := x509.ParseRevocationList(raw.FullBytes)
		if err != nil {
			return nil, fmt.Errorf("revocation list %d: %w", len(lists)+1, err)
		}
		lists, data = append(lists, l), rest
	}
	return lists, nil
}

// list is a revocation list, ready for look-ups.
type list struct {
	*x509.RevocationList // without its entries
	entries              map[string]x509.RevocationListEntry
	complete             bool // it is about all certificates of its issuer
	told                 bool // that it is out of date; of CRLs.warnStale

	mu      sync.Mutex
	signers map[string]bool // by certificate of an issuer: whether it signed the list
}

// maxSigners bounds what a list remembers about issuers of its issuer's name.
const maxSigners = 32

// Extensions that say what a list is about.
var (
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28} // RFC 5280 §5.2.5
	oidDeltaCRLIndicator        = asn1.ObjectIdentifier{2, 5, 29, 27} // RFC 5280 §5.2.4
	oidAuthorityKeyID           = asn1.ObjectIdentifier{2, 5, 29, 35}
)

var (
	errDelta    = errors.New("it is a delta list, which says nothing without its base")
	errIndirect = errors.New("it is an indirect list, of several issuers")
)

func newList(l *x509.RevocationList) (*list, error) {
	out := &list{complete: true, entries: make(map[string]x509.RevocationListEntry, len(l.RevokedCertificateEntries)), signers: make(map[string]bool)}
	for _, ext := range l.Extensions {
		switch {
		case ext.Id.Equal(oidDeltaCRLIndicator):
			return nil, errDelta
		case ext.Id.Equal(oidIssuingDistributionPoint):
			// A part of an issuer's certificates: what it revokes is revoked.
			out.complete = false
			if err := checkDistributionPoint(ext.Value); err != nil {
				return nil, err
			}
		case ext.Critical && !ext.Id.Equal(oidAuthorityKeyID):
			// RFC 5280 §5.2: such a list must not be used.
			return nil, fmt.Errorf("unknown critical extension %s", ext.Id)
		}
	}
	for _, e := range l.RevokedCertificateEntries {
		for _, ext := range e.Extensions {
			if ext.Critical {
				return nil, fmt.Errorf("entry of certificate %x: unknown critical extension %s", e.SerialNumber, ext.Id)
			}
		}
		out.entries[string(e.SerialNumber.Bytes())] = x509.RevocationListEntry{RevocationTime: e.RevocationTime, ReasonCode: e.ReasonCode}
	}
	head := *l
	head.RevokedCertificateEntries, head.Raw = nil, nil
	out.RevocationList = &head
	return out, nil
}

// checkDistributionPoint refuses indirect lists: their entries are of issuers
// that are named in the entries.
func checkDistributionPoint(der []byte) error {
	var point struct {
		Name         asn1.RawValue  `asn1:"optional,tag:0"`
		OnlyUsers    bool           `asn1:"optional,tag:1"`
		OnlyCAs      bool           `asn1:"optional,tag:2"`
		OnlyReasons  asn1.BitString `asn1:"optional,tag:3"`
		Indirect     bool           `asn1:"optional,tag:4"`
		OnlyAttrCert bool           `asn1:"optional,tag:5"`
	}
	if rest, err := asn1.Unmarshal(der, &point); err != nil || len(rest) > 0 {
		return errors.New("malformed issuing distribution point")
	}
	if point.Indirect {
		return errIndirect
	}
	return nil
}

// staleAt reports whether a newer list should have come. What the list revokes
// stays revoked.
func (l *list) staleAt(now time.Time) bool { return !l.NextUpdate.IsZero() && now.After(l.NextUpdate) }

// signedBy reports whether an issuer signed the list, and may sign such.
func (l *list) signedBy(issuer *x509.Certificate, logger *slog.Logger) bool {
	key := string(issuer.Raw) // not by its key: another certificate of that may not sign lists
	l.mu.Lock()
	defer l.mu.Unlock()
	if ok, known := l.signers[key]; known {
		return ok
	}
	err := l.CheckSignatureFrom(issuer)
	if err != nil {
		logger.Warn("a revocation list is not of the issuer that it names", "issuer", issuer.Subject.String(), "error", err)
	}
	if len(l.signers) >= maxSigners {
		clear(l.signers)
	}
	l.signers[key] = err == nil
	return err == nil
}
