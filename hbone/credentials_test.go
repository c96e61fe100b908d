package hbone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// fixed are credentials with one configuration.
type fixed struct{ cfg *tls.Config }

func (f fixed) Config(context.Context) (*tls.Config, error) { return f.cfg, nil }
func (f fixed) Key() string                                 { return "fixed" }
func (f fixed) Retire(tls.ConnectionState) (time.Time, <-chan struct{}) {
	return time.Time{}, nil
}

func TestClientConfig(t *testing.T) {
	ca := testca.New("cluster.local")
	tests := []struct {
		name   string
		change func(*tls.Config)
		field  string
		want   error
	}{
		{"good", func(*tls.Config) {}, "", nil},
		{"certificate chosen later", func(c *tls.Config) {
			c.Certificates = nil
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return nil, nil }
		}, "", nil},
		{"by name", func(c *tls.Config) {
			c.InsecureSkipVerify, c.VerifyConnection = false, nil
			c.ServerName, c.RootCAs = "gateway.example", x509.NewCertPool()
		}, "", nil},
		{"no verification", func(c *tls.Config) { c.VerifyConnection = nil }, "tls.Config.InsecureSkipVerify", ErrUnverifiedPeer},
		{"verification that resumption skips", func(c *tls.Config) {
			c.VerifyConnection = nil
			c.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return nil }
		}, "tls.Config.InsecureSkipVerify", ErrUnverifiedPeer},
		{"nobody named", func(c *tls.Config) {
			c.InsecureSkipVerify, c.VerifyConnection = false, nil
		}, "tls.Config.VerifyConnection", ErrUnverifiedPeer},
		{"resumption without VerifyConnection", func(c *tls.Config) {
			c.InsecureSkipVerify, c.VerifyConnection = false, nil
			c.ServerName = "gateway.example"
			c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		}, "tls.Config.ClientSessionCache", ErrUnverifiedPeer},
		{"no certificate", func(c *tls.Config) { c.Certificates = nil }, "tls.Config.Certificates", ErrNoCertificate},
		{"TLS 1.2", func(c *tls.Config) { c.MinVersion = tls.VersionTLS12 }, "tls.Config.MinVersion", ErrTLSVersion},
		{"no lowest version", func(c *tls.Config) { c.MinVersion = 0 }, "tls.Config.MinVersion", ErrTLSVersion},
		{"TLS 1.2 at most", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "tls.Config.MaxVersion", ErrTLSVersion},
		{"no ALPN", func(c *tls.Config) { c.NextProtos = nil }, "tls.Config.NextProtos", ErrALPN},
		{"other ALPN", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, "tls.Config.NextProtos", ErrALPN},
		{"ALPN with a choice", func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, "tls.Config.NextProtos", ErrALPN},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := ca.ClientConfig(ca.Issue("/web"), "/api")
			tt.change(cfg)
			_, err := clientConfig(context.Background(), fixed{cfg})
			wantConfigError(t, err, tt.field, tt.want)
		})
	}
	_, err := clientConfig(context.Background(), fixed{})
	wantConfigError(t, err, "tls.Config.Config", ErrNoCredentials)
}

func TestServerConfig(t *testing.T) {
	ca := testca.New("cluster.local")
	tests := []struct {
		name    string
		tickets bool
		change  func(*tls.Config)
		field   string
		want    error
	}{
		{"good", false, func(*tls.Config) {}, "", nil},
		{"verified by crypto/tls", false, func(c *tls.Config) {
			c.ClientAuth, c.VerifyConnection, c.ClientCAs = tls.RequireAndVerifyClientCert, nil, ca.Pool()
		}, "", nil},
		{"tickets", true, func(*tls.Config) {}, "", nil},
		{"tickets without VerifyConnection", true, func(c *tls.Config) {
			c.ClientAuth, c.VerifyConnection, c.ClientCAs = tls.RequireAndVerifyClientCert, nil, ca.Pool()
		}, "tls.Config.VerifyConnection", ErrUnverifiedPeer},
		{"no client certificate", false, func(c *tls.Config) { c.ClientAuth = tls.NoClientCert }, "tls.Config.ClientAuth", ErrClientCertNotRequired},
		{"client certificate asked for", false, func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert }, "tls.Config.ClientAuth", ErrClientCertNotRequired},
		{"client certificate verified if given", false, func(c *tls.Config) { c.ClientAuth = tls.VerifyClientCertIfGiven }, "tls.Config.ClientAuth", ErrClientCertNotRequired},
		{"any client certificate", false, func(c *tls.Config) { c.VerifyConnection = nil }, "tls.Config.VerifyConnection", ErrUnverifiedPeer},
		{"no certificate", false, func(c *tls.Config) { c.Certificates = nil }, "tls.Config.Certificates", ErrNoCertificate},
		{"TLS 1.2", false, func(c *tls.Config) { c.MinVersion = tls.VersionTLS12 }, "tls.Config.MinVersion", ErrTLSVersion},
		{"no ALPN", false, func(c *tls.Config) { c.NextProtos = nil }, "tls.Config.NextProtos", ErrALPN},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := ca.ServerConfig(ca.Issue("/api"), "/web")
			tt.change(cfg)
			got, err := serverConfig(context.Background(), fixed{cfg}, tt.tickets)
			wantConfigError(t, err, tt.field, tt.want)
			if err == nil && got.SessionTicketsDisabled == tt.tickets {
				t.Errorf("SessionTicketsDisabled = %v with tickets %v", got.SessionTicketsDisabled, tt.tickets)
			}
			if cfg.SessionTicketsDisabled {
				t.Error("the caller's configuration was changed")
			}
		})
	}
}

// A configuration chosen per client must hold to the same rules.
func TestServerConfigChosenPerClient(t *testing.T) {
	ca := testca.New("cluster.local")
	cfg := ca.ServerConfig(ca.Issue("/api"), "/web")
	lax := cfg.Clone()
	lax.ClientAuth = tls.NoClientCert
	chosen := lax
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen, nil }
	got, err := serverConfig(context.Background(), fixed{cfg}, false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = got.GetConfigForClient(nil)
	wantConfigError(t, err, "tls.Config.ClientAuth", ErrClientCertNotRequired)

	chosen = ca.ServerConfig(ca.Issue("/api"), "/web")
	strict, err := got.GetConfigForClient(nil)
	if err != nil || !strict.SessionTicketsDisabled {
		t.Errorf("strict configuration: %v, SessionTicketsDisabled %v", err, strict.SessionTicketsDisabled)
	}
	chosen = nil
	if same, err := got.GetConfigForClient(nil); same != nil || err != nil {
		t.Errorf("no choice: %v, %v", same, err)
	}
}

func TestCheckState(t *testing.T) {
	peer := []*x509.Certificate{new(x509.Certificate)}
	good := tls.ConnectionState{Version: tls.VersionTLS13, NegotiatedProtocol: "h2", PeerCertificates: peer}
	tests := []struct {
		name   string
		change func(*tls.ConnectionState)
		want   error
	}{
		{"good", func(*tls.ConnectionState) {}, nil},
		{"TLS 1.2", func(s *tls.ConnectionState) { s.Version = tls.VersionTLS12 }, ErrTLSVersion},
		{"no protocol agreed", func(s *tls.ConnectionState) { s.NegotiatedProtocol = "" }, ErrALPN},
		{"no certificate", func(s *tls.ConnectionState) { s.PeerCertificates = nil }, ErrNoCertificate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			state := good
			tt.change(&state)
			if err := checkState(state); !errors.Is(err, tt.want) {
				t.Errorf("checkState = %v, want %v", err, tt.want)
			}
		})
	}
}

func wantConfigError(t *testing.T, err error, field string, want error) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Fatalf("error = %v, want none", err)
		}
		return
	}
	var config *ConfigError
	if !errors.As(err, &config) {
		t.Fatalf("error = %v, want a *ConfigError", err)
	}
	if config.Field != field || !errors.Is(err, want) {
		t.Errorf("error %q about %s; want %q about %s", err, config.Field, want, field)
	}
}
