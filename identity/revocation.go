package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"time"
)

// Revocations know of revoked certificates. CRLs implement it.
type Revocations interface {
	// CheckRevoked returns an error if a certificate of a verified chain (leaf
	// first, root last) must not be relied on; best a RevokedError. It is
	// called at each handshake and must not block.
	CheckRevoked(chain []*x509.Certificate) error

	// WatchRevoked returns a channel that is closed once a certificate of the
	// chain is revoked; already closed if one is.
	WatchRevoked(chain []*x509.Certificate) <-chan struct{}
}

// ErrNoCurrentList means that it is not known whether a certificate is revoked.
var ErrNoCurrentList = errors.New("no current revocation list")

var errNoChain = errors.New("an empty chain")

// A RevokedError names the certificate of a chain that is revoked.
type RevokedError struct {
	Subject string   // of the certificate; its SPIFFE ID if it has one
	Issuer  string   // distinguished name
	Serial  *big.Int // by which the issuer revoked it

	// At is when it was revoked, and Reason the code of RFC 5280 §5.3.1, as
	// the issuer's list says. They are zero for CRLs.Revoke.
	At     time.Time
	Reason int
}

func (e *RevokedError) Error() string {
	msg := fmt.Sprintf("certificate %x of %s", e.Serial, e.Issuer)
	if e.Subject != "" {
		msg += " for " + e.Subject
	}
	msg += " is revoked"
	if !e.At.IsZero() {
		msg += fmt.Sprintf(" since %s, reason %d", e.At.UTC().Format(time.RFC3339), e.Reason)
	}
	return msg
}

// CRLConfig describes CRLs. Its zero value is an empty set that is filled by
// CRLs.Set and CRLs.Revoke.
type CRLConfig struct {
	// Files hold certificate revocation lists: PEM or DER, any number in each.
	// If empty, nothing is read.
	Files []string

	// RequireCurrent refuses a peer if an issuer in its chain has no complete
	// list here whose next update is still to come. If false, a certificate
	// about which nothing is known is good, as for ztunnel.
	RequireCurrent bool

	// Interval is how often Run looks for changes. If zero, 10 s.
	Interval time.Duration

	// Logger is told about reloads and their failures, and about lists that
	// cannot be relied on. If nil, nobody is.
	Logger *slog.Logger

	// Time is the clock. If nil, time.Now.
	Time func() time.Time
}

// CRLs are certificate revocation lists, and the connections that depend on
// them. A list counts only for certificates of the very issuer that signed it:
// another authority of the same name cannot revoke them, nor can the file's
// owner. Their methods are safe for concurrent use.
type CRLs struct {
	cfg   CRLConfig
	files watchedFiles

	mu      sync.RWMutex
	lists   map[string][]*list   // by raw name of the issuer
	revoked map[string]time.Time // by certKey: until when it would be valid; see Revoke
	chains  map[string]*watchedChain
	sweepAt int
}

// watchedChain is a chain in use. Equal chains share one.
type watchedChain struct {
	chain []*x509.Certificate
	cut   chan struct{}
}

// OpenCRLs reads the files and fails if they are not all good.
func OpenCRLs(cfg CRLConfig) (*CRLs, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	c := &CRLs{
		cfg:     cfg,
		lists:   make(map[string][]*list),
		revoked: make(map[string]time.Time),
		chains:  make(map[string]*watchedChain),
	}
	c.files = watchedFiles{
		what:     "certificate revocation lists",
		names:    cfg.Files,
		limit:    maxCRLFile,
		interval: cfg.Interval,
		logger:   cfg.Logger,
		load:     c.load,
	}
	if len(cfg.Files) == 0 {
		return c, nil
	}
	if _, err := c.files.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// load replaces the lists by what is in the files.
func (c *CRLs) load(content [][]byte) error {
	var all []*x509.RevocationList
	for i, data := range content {
		lists, err := ParseCRLs(data)
		if err != nil {
			return fmt.Errorf("identity: %s: %w", c.cfg.Files[i], err)
		}
		all = append(all, lists...)
	}
	return c.Set(all...)
}

// Set replaces the lists. Connections that were made with a certificate on one
// of them are cut. If several lists are of one issuer, a certificate is revoked
// if it is on any. A list that cannot be understood is an error, and changes
// nothing: a delta list, an indirect list, one with an unknown critical
// extension.
func (c *CRLs) Set(lists ...*x509.RevocationList) error {
	byIssuer := make(map[string][]*list)
	for _, l := range lists {
		compiled, err := newList(l)
		if err != nil {
			return fmt.Errorf("identity: revocation list of %s: %w", l.Issuer, err)
		}
		byIssuer[string(l.RawIssuer)] = append(byIssuer[string(l.RawIssuer)], compiled)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lists = byIssuer
	c.cutRevoked()
	c.warnStale()
	return nil
}

// warnStale tells of each list once that is out of date. The lock is held.
func (c *CRLs) warnStale() {
	now := c.cfg.Time()
	for _, lists := range c.lists {
		for _, l := range lists {
			if l.staleAt(now) && !l.told {
				l.told = true
				c.cfg.Logger.Warn("a revocation list is out of date", "issuer", l.Issuer.String(), "next_update", l.NextUpdate)
			}
		}
	}
}

// Revoke refuses a certificate (of a peer, or of a CA above it) from now on,
// whatever lists say, and cuts the connections that were made with it.
func (c *CRLs) Revoke(cert *x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked[certKey(cert)] = cert.NotAfter
	c.cutRevoked()
}

// cutRevoked ends the connections that rely on what is revoked.
func (c *CRLs) cutRevoked() {
	for name, w := range c.chains {
		if c.find(w.chain) != nil {
			close(w.cut)
			delete(c.chains, name)
		}
	}
}

// Reload reads the files and reports whether they changed. On an error the
// previous lists stay in service. Without files there is nothing to do.
func (c *CRLs) Reload() (changed bool, err error) {
	if len(c.cfg.Files) > 0 {
		changed, err = c.files.Reload()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warnStale()
	return changed, err
}

// Run reloads the files when they change, and tells of lists that have gone out
// of date, until the context ends, whose cause it returns. Failures are logged,
// and tried again at the next interval.
func (c *CRLs) Run(ctx context.Context) error { return c.files.run(ctx, c.Reload) }

// CheckRevoked implements Revocations. Its errors are RevokedErrors, or with
// RequireCurrent ErrNoCurrentList.
func (c *CRLs) CheckRevoked(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errNoChain
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := c.find(chain); err != nil {
		return err
	}
	if c.cfg.RequireCurrent {
		return c.checkCurrent(chain)
	}
	return nil
}

// WatchRevoked implements Revocations.
func (c *CRLs) WatchRevoked(chain []*x509.Certificate) <-chan struct{} {
	var name strings.Builder
	for _, cert := range chain {
		name.Write(cert.Signature) // names a certificate, and costs no hashing
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &watchedChain{chain: chain, cut: make(chan struct{})}
	if len(chain) == 0 || c.find(chain) != nil {
		close(w.cut)
		return w.cut
	}
	if known, ok := c.chains[name.String()]; ok {
		return known.cut
	}
	c.sweep()
	c.chains[name.String()] = w
	return w.cut
}

// find returns the first certificate of a chain that is revoked, or nil.
func (c *CRLs) find(chain []*x509.Certificate) error {
	for i, cert := range chain {
		if _, ok := c.revoked[certKey(cert)]; ok {
			return revokedError(cert, x509.RevocationListEntry{})
		}
		if i+1 == len(chain) {
			break // a root is trusted by its own key
		}
		for _, l := range c.lists[string(cert.RawIssuer)] {
			if entry, ok := l.entries[string(cert.SerialNumber.Bytes())]; ok && l.signedBy(chain[i+1], c.cfg.Logger) {
				return revokedError(cert, entry)
			}
		}
	}
	return nil
}

func revokedError(cert *x509.Certificate, entry x509.RevocationListEntry) error {
	e := &RevokedError{
		Issuer: cert.Issuer.String(),
		Serial: cert.SerialNumber,
		At:     entry.RevocationTime,
		Reason: entry.ReasonCode,
	}
	e.Subject = cert.Subject.String()
	if id, err := CertificateID(cert); err == nil {
		e.Subject = id.String()
	}
	return e
}

// checkCurrent fails unless each certificate has a current list.
func (c *CRLs) checkCurrent(chain []*x509.Certificate) error {
	now := c.cfg.Time()
	for i, cert := range chain[:len(chain)-1] {
		if !c.hasCurrent(cert.RawIssuer, chain[i+1], now) {
			return fmt.Errorf("%w: of %s", ErrNoCurrentList, cert.Issuer)
		}
	}
	return nil
}

func (c *CRLs) hasCurrent(name []byte, issuer *x509.Certificate, now time.Time) bool {
	for _, l := range c.lists[string(name)] {
		if l.complete && !l.staleAt(now) && l.signedBy(issuer, c.cfg.Logger) {
			return true
		}
	}
	return false
}

// sweep forgets what has expired whenever the set of chains doubled: so memory
// is bounded by the certificates that are still valid.
func (c *CRLs) sweep() {
	if len(c.chains) < max(c.sweepAt, 64) {
		return
	}
	now := c.cfg.Time()
	for name, w := range c.chains {
		if now.After(w.chain[0].NotAfter) {
			delete(c.chains, name)
		}
	}
	for key, ends := range c.revoked {
		if now.After(ends) {
			delete(c.revoked, key)
		}
	}
	c.sweepAt = 2 * len(c.chains)
}

// certKey names a certificate as a list does: by issuer and serial number
// (RFC 5280 §5.1.2.6).
func certKey(c *x509.Certificate) string {
	return string(c.RawIssuer) + "\x00" + string(c.SerialNumber.Bytes())
}
