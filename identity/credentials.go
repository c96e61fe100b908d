package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Role is a side of a TLS handshake.
type Role string

// The two roles.
const (
	RoleClient Role = "client"
	RoleServer Role = "server"
)

// Config says how credentials are made. It is copied: changing it afterwards
// has no effect.
type Config struct {
	// Source gives our certificate and the roots. Required.
	Source Source

	// Peers are accepted on the hop. The zero value accepts nobody.
	Peers Peers

	// Bundles know the roots of trust domains that Source has none of: those of
	// other meshes. If nil, there are none. Pass it as a pointer, like Source.
	Bundles x509bundle.Source

	// Aliases are further names of trust domains. If nil, there are none.
	Aliases Aliases

	// Revocations are asked about the chain of each peer, at its handshake and
	// for as long as its connection lives; and about our own, which makes no
	// more handshakes once it is revoked. If nil, nothing is revoked. Pass it as
	// a pointer, like Source.
	Revocations Revocations

	// NextProtos are the ALPN protocols. If empty, h2.
	NextProtos []string

	// RequirePQ accepts only the key exchange X25519MLKEM768, which stays safe
	// if a quantum computer reads today's recordings. If false, it is preferred
	// and classical ones are accepted.
	RequirePQ bool

	// Resumption lets TLS sessions be resumed, which saves the signatures of a
	// handshake and sends a ticket on each. Every check is made on resumed
	// sessions as well. If false, every handshake is a full one.
	Resumption bool

	// Time is the clock for validity periods. If nil, time.Now.
	Time func() time.Time
}

// Credentials say who we are and whom we accept on one hop, for one role. They
// are safe for concurrent use and need no closing.
type Credentials struct {
	role    Role // ours
	source  Source
	bundles x509bundle.Source // may be nil
	aliases Aliases
	revoked Revocations // may be nil
	peers   peerSet
	now     func() time.Time
	trust   string // names in Key what besides the local identity decides
	pqOnly  bool
	mu      sync.Mutex
	config  *tls.Config // replaced with its sessions, never changed
	key     string      // cached for keyID
	keyID   spiffeid.ID // the local identity that key was made for
	current served      // what the last handshakes presented
	before  served

	peerUse  []x509.ExtKeyUsage // that a certificate of the peer must have
	roots    rootPools
	accepted chains    // of peers
	own      ownChains // of ours
}

// served is a certificate that we presented.
type served struct {
	svid *x509svid.SVID
	last time.Time // when it was presented last
}

// NewClient returns credentials for dialing.
func NewClient(cfg Config) (*Credentials, error) { return newCredentials(RoleClient, cfg) }

// NewServer returns credentials for accepting.
func NewServer(cfg Config) (*Credentials, error) { return newCredentials(RoleServer, cfg) }

func newCredentials(role Role, cfg Config) (*Credentials, error) {
	if cfg.Source == nil {
		return nil, &LocalError{Err: errors.New("Config.Source is not set")}
	}
	if err := cfg.Aliases.check(); err != nil {
		return nil, &LocalError{Err: err}
	}
	c := &Credentials{
		role:    role,
		source:  cfg.Source,
		bundles: cfg.Bundles,
		aliases: maps.Clone(cfg.Aliases),
		revoked: cfg.Revocations,
		now:     cfg.Time,
		pqOnly:  cfg.RequirePQ,
		peerUse: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if role == RoleServer {
		c.peerUse = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	c.peers = newPeerSet(cfg.Peers, c.aliases)
	if c.now == nil {
		c.now = time.Now
	}
	c.trust = c.trustKey()
	c.config = c.newConfig(cfg)
	return c, nil
}

func (c *Credentials) newConfig(cfg Config) *tls.Config {
	t := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"h2"},
		Time:                   c.now,
		VerifyConnection:       c.Verify,
		SessionTicketsDisabled: !cfg.Resumption,
	}
	if len(cfg.NextProtos) > 0 {
		t.NextProtos = slices.Clone(cfg.NextProtos)
	}
	if cfg.RequirePQ {
		t.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768}
	}
	if c.role == RoleServer {
		// The chain is verified in VerifyConnection, with the roots of the
		// peer's own trust domain.
		t.ClientAuth = tls.RequireAnyClientCert
		t.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.present() }
		if cfg.Resumption {
			c.resumeOnlyCurrent(t)
		}
		return t
	}
	// There is no host name to verify: VerifyConnection verifies the SPIFFE ID
	// and the chain. No ServerName means that no SNI is sent, as ztunnel does.
	t.InsecureSkipVerify = true
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.present() }
	if cfg.Resumption {
		t.ClientSessionCache = c.newSessions(nil)
	}
	return t
}

// Config returns the TLS configuration of the hop. It fails with a LocalError
// if the source has no certificate that is valid now and not known to be revoked,
// so that nothing is dialed in vain. The configuration is shared between calls:
// clone it to change it. It stays good when the source gets new certificates;
// but it resumes sessions of the certificate only that it was made for.
func (c *Credentials) Config(ctx context.Context) (*tls.Config, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	svid, err := c.local()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.config.ClientSessionCache.(*sessions); ok && !s.leaf.Equal(svid.Certificates[0]) {
		c.config = c.config.Clone()
		c.config.ClientSessionCache = c.newSessions(svid.Certificates[0])
	}
	return c.config, nil
}

// Role returns which side of the handshake the credentials are for.
func (c *Credentials) Role() Role { return c.role }

// Key names what a tunnel made with these credentials may be used for: role,
// local identity, source, and accepted peers. Credentials with equal keys may
// share a tunnel. A key is meaningful within this process, for as long as
// credentials that have it are reachable.
func (c *Credentials) Key() string {
	var id spiffeid.ID
	if svid, err := c.source.GetX509SVID(); err == nil {
		id = svid.ID
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.key == "" || c.keyID != id {
		c.keyID = id
		c.key = fmt.Sprintf("%s|%s|%s", c.role, id, c.trust)
	}
	return c.key
}

// trustKey names everything that decides about peers.
func (c *Credentials) trustKey() string {
	key := originOf(c.source, c)
	if c.bundles != nil {
		key += "|bundles=" + originOf(c.bundles, c)
	}
	if c.revoked != nil {
		key += "|revocations=" + originOf(c.revoked, c)
	}
	if len(c.aliases) > 0 {
		key += "|aliases=" + c.aliases.key()
	}
	return fmt.Sprintf("%s|pq=%t|%s", key, c.pqOnly, c.peers.key)
}

// originOf tells sources apart. A pointer is as good as a name while it is
// held; a source that is not a pointer is never shared.
func originOf(source any, c *Credentials) string {
	if v := reflect.ValueOf(source); v.Kind() == reflect.Pointer {
		return fmt.Sprintf("%T@%x", source, v.Pointer())
	}
	return fmt.Sprintf("%T@%p", source, c)
}

// local returns our certificate if it is valid now, and not revoked.
func (c *Credentials) local() (*x509svid.SVID, error) {
	svid, err := c.source.GetX509SVID()
	if err != nil {
		return nil, &LocalError{Err: err}
	}
	if len(svid.Certificates) == 0 || svid.PrivateKey == nil {
		return nil, &LocalError{ID: svid.ID, Err: ErrNoIdentity}
	}
	leaf, now := svid.Certificates[0], c.now()
	if now.After(leaf.NotAfter) {
		return nil, &LocalError{ID: svid.ID, Err: fmt.Errorf("the certificate expired at %s", leaf.NotAfter.Format(time.RFC3339))}
	}
	if now.Before(leaf.NotBefore) {
		return nil, &LocalError{ID: svid.ID, Err: fmt.Errorf("the certificate is not valid before %s", leaf.NotBefore.Format(time.RFC3339))}
	}
	if err := c.ownRevoked(svid); err != nil {
		return nil, &LocalError{ID: svid.ID, Err: err}
	}
	return svid, nil
}

// present returns the certificate for one handshake.
func (c *Credentials) present() (*tls.Certificate, error) {
	svid, err := c.local()
	if err != nil {
		return nil, err
	}
	c.remember(svid)
	cert := &tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}
	for _, x := range svid.Certificates {
		cert.Certificate = append(cert.Certificate, x.Raw)
	}
	return cert, nil
}
