package hbone

import (
	"context"
	"crypto/tls"
	"slices"
	"time"
)

// Credentials say who we are and whom we accept on one hop. Package identity
// builds them; anything with these methods will do. They must be safe for
// concurrent use.
type Credentials interface {
	// Config returns the TLS configuration of a new connection. It is called
	// for every handshake, so certificates may change at any time, and is not
	// modified.
	//
	// It must ask for TLS 1.3 and the ALPN protocol "h2", hold a certificate
	// of ours, and verify the peer: a client in VerifyConnection (or by
	// RootCAs and ServerName), a server by requiring a client certificate. If
	// not, the dial or the connection fails with a *ConfigError.
	//
	// A client resumes sessions only if the configuration has a
	// ClientSessionCache; a server only if Server.SessionTickets is set.
	Config(ctx context.Context) (*tls.Config, error)

	// Key names the local identity and the accepted peers. Tunnels are shared
	// between dials with equal keys, so different sets of either must have
	// different keys, and the order of a set should not matter. Key may change, as when the
	// identity of a source does: later dials then use tunnels of their own.
	Key() string

	// Retire is asked once about each connection, after its handshake. From
	// drain on it takes no new streams, and ends when those it has are done;
	// the zero time means never. When cut is closed it ends at once, with all
	// of its streams: a certificate was revoked. A nil cut never is.
	Retire(tls.ConnectionState) (drain time.Time, cut <-chan struct{})
}

// Plaintext are the credentials of a hop without TLS: HTTP/2 with prior
// knowledge (h2c). Nobody is identified and nothing is encrypted.
//
// It exists for tests, and for a hop inside of another tunnel or on loopback
// that is already protected. There is no fallback to it: only a hop or a
// server that names it is in plain text, and such a hop fails with a peer that
// expects TLS.
type Plaintext struct{}

// Config returns nil: there is no TLS.
func (Plaintext) Config(context.Context) (*tls.Config, error) { return nil, nil }

// Key returns a key; tunnels are not shared with other credentials that have the same.
func (Plaintext) Key() string { return "plaintext" }

// Retire returns never.
func (Plaintext) Retire(tls.ConnectionState) (time.Time, <-chan struct{}) {
	return time.Time{}, nil
}

func isPlaintext(c Credentials) bool {
	_, ok := c.(Plaintext)
	return ok
}

// protocol is the only one that HBONE has (RFC 9113 §3.2).
const protocol = "h2"

// clientConfig asks c for a configuration and refuses one that would let
// anybody be the server.
func clientConfig(ctx context.Context, c Credentials) (*tls.Config, error) {
	cfg, err := c.Config(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkCommon(cfg); err != nil {
		return nil, err
	}
	switch {
	case len(cfg.Certificates) == 0 && cfg.GetClientCertificate == nil:
		return nil, configError("Certificates", ErrNoCertificate)
	case cfg.VerifyConnection != nil:
		return cfg, nil
	case cfg.InsecureSkipVerify:
		return nil, configError("InsecureSkipVerify", ErrUnverifiedPeer)
	case cfg.ServerName == "":
		return nil, configError("VerifyConnection", ErrUnverifiedPeer)
	case cfg.ClientSessionCache != nil:
		// Only VerifyConnection runs again when a session is resumed.
		return nil, configError("ClientSessionCache", ErrUnverifiedPeer)
	}
	return cfg, nil
}

// serverConfig asks c for a configuration and refuses one that would let in
// clients that show no certificate, or any.
func serverConfig(ctx context.Context, c Credentials, tickets bool) (*tls.Config, error) {
	cfg, err := c.Config(ctx)
	if err != nil {
		return nil, err
	}
	return hardenServer(cfg, tickets)
}

// hardenServer checks cfg, and what it may choose for a client.
func hardenServer(cfg *tls.Config, tickets bool) (*tls.Config, error) {
	if err := checkServer(cfg); err != nil {
		return nil, err
	}
	if tickets && cfg.VerifyConnection == nil {
		return nil, configError("VerifyConnection", ErrUnverifiedPeer)
	}
	choose := cfg.GetConfigForClient
	if tickets && choose == nil {
		return cfg, nil // not a copy: the keys of its tickets are in it
	}
	cfg = cfg.Clone()
	cfg.SessionTicketsDisabled = !tickets
	if choose != nil {
		cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if err != nil || chosen == nil {
				return nil, err
			}
			return hardenServer(chosen, tickets)
		}
	}
	return cfg, nil
}

func checkServer(cfg *tls.Config) error {
	if err := checkCommon(cfg); err != nil {
		return err
	}
	switch {
	case len(cfg.Certificates) == 0 && cfg.GetCertificate == nil && cfg.GetConfigForClient == nil:
		return configError("Certificates", ErrNoCertificate)
	case cfg.ClientAuth == tls.RequireAndVerifyClientCert:
		return nil
	case cfg.ClientAuth != tls.RequireAnyClientCert:
		return configError("ClientAuth", ErrClientCertNotRequired)
	case cfg.VerifyConnection == nil:
		return configError("VerifyConnection", ErrUnverifiedPeer)
	}
	return nil
}

func checkCommon(cfg *tls.Config) error {
	switch {
	case cfg == nil:
		return configError("Config", ErrNoCredentials)
	case cfg.MinVersion < tls.VersionTLS13:
		return configError("MinVersion", ErrTLSVersion)
	case cfg.MaxVersion != 0 && cfg.MaxVersion < tls.VersionTLS13:
		return configError("MaxVersion", ErrTLSVersion)
	case !slices.Equal(cfg.NextProtos, []string{protocol}):
		return configError("NextProtos", ErrALPN)
	}
	return nil
}

// checkState looks at what the handshake came to. A peer may agree to no
// protocol at all, which crypto/tls lets pass.
func checkState(state tls.ConnectionState) error {
	switch {
	case state.Version < tls.VersionTLS13:
		return ErrTLSVersion
	case state.NegotiatedProtocol != protocol:
		return ErrALPN
	case len(state.PeerCertificates) == 0:
		return ErrNoCertificate
	}
	return nil
}
