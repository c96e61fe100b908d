package hbonetest

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/internal/testca"
)

var tlsTests = []test{
	{rule: "tls-version", name: "no-tls12", role: asClient, tls: true, run: func(s *script) {
		s.wantServerRefused(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })
	}},
	{rule: "tls-version", name: "no-tls12", role: asServer, tls: true, run: func(s *script) {
		s.wantClientRefused(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })
	}},
	{rule: "tls-groups", name: "post-quantum-only", role: asEither, tls: true, run: func(s *script) {
		s.wantHandshake(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768} })
	}},
	{rule: "tls-groups", name: "classic-only", role: asEither, tls: true, run: func(s *script) {
		s.wantHandshake(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256} })
	}},
	{rule: "tls-alpn", name: "h2-offered", role: asClient, tls: true, run: func(s *script) {
		s.wantHello(func(hello *tls.ClientHelloInfo) {
			if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != "h2" {
				s.errorf("the client offers ALPN %q, want h2 alone", hello.SupportedProtos)
			}
		})
	}},
	{rule: "tls-alpn", name: "none-agreed", role: asClient, tls: true, run: func(s *script) {
		s.wantServerRefused(func(c *tls.Config) { c.NextProtos = nil })
	}},
	{rule: "tls-alpn", name: "none-offered", role: asServer, tls: true, run: func(s *script) {
		s.wantClientRefused(func(c *tls.Config) { c.NextProtos = nil })
	}},
	{rule: "tls-alpn", name: "other-offered", role: asServer, tls: true, run: func(s *script) {
		s.wantClientRefused(func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} })
	}},
	{rule: "tls-alpn", name: "h2-among-others", role: asServer, tls: true, run: func(s *script) {
		s.wantHandshake(func(c *tls.Config) { c.NextProtos = []string{"istio", "h2", "http/1.1"} })
	}},
	{rule: "tls-sni", name: "not-sent", role: asClient, tls: true, run: func(s *script) {
		s.wantHello(func(hello *tls.ClientHelloInfo) {
			if hello.ServerName != "" {
				s.errorf("the client sends the server name %q", hello.ServerName)
			}
		})
	}},
	{rule: "tls-sni", name: "ignored", role: asServer, tls: true, run: func(s *script) {
		s.wantHandshake(func(c *tls.Config) { c.ServerName = "no-such-name.example" })
	}},
	{rule: "tls-client-certificate", name: "shown", role: asClient, tls: true, run: func(s *script) {
		_, st := s.open()
		certs := st.p.tlsState().PeerCertificates
		if len(certs) == 0 || len(certs[0].URIs) != 1 || certs[0].URIs[0].String() != webID {
			s.errorf("the client shows %d certificates, want that of %s", len(certs), webID)
		}
	}},
	{rule: "tls-client-certificate", name: "required", role: asServer, tls: true, run: func(s *script) {
		s.wantClientRefused(func(c *tls.Config) { c.Certificates = nil })
	}},
	{rule: "tls-chain", name: "intermediates", role: asEither, tls: true, run: func(s *script) {
		below := s.ca.Intermediate().Intermediate()
		s.wantHandshake(func(c *tls.Config) { c.Certificates = []tls.Certificate{below.Issue(s.peerID())} })
	}},
	{rule: "tls-chain", name: "own-intermediates", role: asEither, tls: true, run: func(s *script) {
		s.ca = s.ca.Intermediate() // the implementation's certificate, too, is below it
		s.wantHandshake(func(*tls.Config) {})
	}},
	{rule: "tls-chain", name: "another-root", role: asEither, tls: true, run: func(s *script) {
		s.wantRefused(testca.New("cluster.local").Issue(s.peerID()))
	}},
	{rule: "tls-chain", name: "self-signed", role: asEither, tls: true, run: func(s *script) {
		other := testca.New("cluster.local").Intermediate()
		s.wantRefused(other.Issue(s.peerID()))
	}},
	{rule: "tls-chain", name: "expired", role: asEither, tls: true, run: func(s *script) {
		s.wantRefused(s.ca.Expired(s.peerID()))
	}},
	{rule: "tls-chain", name: "not-yet-valid", role: asEither, tls: true, run: func(s *script) {
		s.wantRefused(s.ca.IssueLeaf(testca.Leaf{ID: s.peerID(), NotBefore: time.Now().Add(time.Hour)}))
	}},
	{rule: "tls-usage", name: "wrong", role: asEither, tls: true, run: func(s *script) {
		usage := x509.ExtKeyUsageServerAuth // of a client
		if s.role == asClient {
			usage = x509.ExtKeyUsageClientAuth // of a server
		}
		s.wantRefused(s.ca.IssueLeaf(testca.Leaf{ID: s.peerID(), Usages: []x509.ExtKeyUsage{usage}}))
	}},
	{rule: "tls-identity", name: "other-workload", role: asEither, tls: true, run: func(s *script) {
		s.wantRefused(s.ca.Issue(strangeID))
	}},
	{rule: "tls-identity", name: "longer-name", role: asEither, tls: true, run: func(s *script) {
		s.wantRefused(s.ca.Issue(s.peerID() + "-canary")) // not a prefix match
	}},
	{rule: "tls-identity", name: "other-trust-domain", role: asEither, tls: true, run: func(s *script) {
		s.wantRefused(s.ca.Issue("spiffe://other.mesh/ns/app/sa/" + s.peerID()[len("spiffe://cluster.local/ns/app/sa/"):]))
	}},
	{rule: "tls-identity", name: "none", role: asEither, tls: true, run: func(s *script) {
		s.wantRefused(s.ca.IssueLeaf(testca.Leaf{}))
	}},
	{rule: "tls-identity", name: "no-host-names", role: asClient, tls: true, run: func(s *script) {
		// The server's certificate has no name but a SPIFFE ID, and its address none at all.
		s.wantHandshake(func(*tls.Config) {})
	}},
	{rule: "tls-only", name: "no-plaintext-server", role: asClient, tls: true, run: func(s *script) {
		d := s.dial(s.hop())
		raw := s.acceptRaw()
		first := make([]byte, 1)
		if _, err := io.ReadFull(raw, first); err != nil || first[0] != 0x16 { // RFC 8446 §5.1: a handshake
			s.errorf("the client begins with %#x, %v; want a TLS record", first, err)
		}
		p := s.newPeer(raw, true) // only to write frames: there is no TLS
		p.frame(func(fr *http2.Framer) { _ = fr.WriteSettings() })
		p.flush()
		p.close()
		d.wantError("the server speaks no TLS")
	}},
	{rule: "tls-only", name: "no-plaintext-client", role: asServer, tls: true, run: func(s *script) {
		conn := s.dialServer()
		_, _ = io.WriteString(conn, http2.ClientPreface)
		_, _ = conn.Write(make([]byte, 9+64)) // a SETTINGS frame, and enough for a TLS record
		s.wantSilence(conn)
		s.wantServing()
	}},
}

// peerID is who the peer should be.
func (s *script) peerID() string {
	if s.role == asServer {
		return webID
	}
	return reviewsID
}

// wantHandshake changes the peer's end of the handshake, which must work.
func (s *script) wantHandshake(change func(*tls.Config)) {
	if s.role == asServer {
		cfg := s.credentials(webID, reviewsID).ClientTLS()
		change(cfg)
		s.serve()
		tc := tls.Client(s.dialServer(), cfg)
		if err := tc.HandshakeContext(s.step()); err != nil {
			s.fatalf("TLS handshake with the server: %v", err)
		}
		p := s.newPeer(tc, true)
		p.start()
		s.more(p)
		return
	}
	cfg := s.credentials(reviewsID, webID).ServerTLS()
	change(cfg)
	d := s.dial(s.hop())
	tc := tls.Server(s.acceptRaw(), cfg)
	if err := tc.HandshakeContext(s.step()); err != nil {
		s.fatalf("TLS handshake with the client: %v", err)
	}
	p := s.newPeer(tc, false)
	p.start()
	p.wantConnect().answer(200, false)
	d.wantConn()
}

// wantRefused shows the implementation a certificate that it must refuse.
func (s *script) wantRefused(cert tls.Certificate) {
	change := func(c *tls.Config) { c.Certificates = []tls.Certificate{cert} }
	if s.role == asServer {
		s.wantClientRefused(change)
	} else {
		s.wantServerRefused(change)
	}
}

// wantClientRefused plays a client that the server must not let in: a CONNECT
// comes to nothing. In TLS 1.3 a client learns only from its first read that it
// was refused.
func (s *script) wantClientRefused(change func(*tls.Config)) {
	s.serve()
	cfg := s.credentials(webID, reviewsID).ClientTLS()
	change(cfg)
	tc := tls.Client(s.dialServer(), cfg)
	if tc.HandshakeContext(s.step()) != nil {
		s.wantServing()
		return
	}
	p := s.newPeer(tc, true)
	p.silent = true
	p.write([]byte(http2.ClientPreface))
	p.listen()
	p.sendSettings()
	st := p.connect(s.authority())
	if status := st.verdict(); status != 0 {
		s.errorf("the server answers the CONNECT of a client that it should have refused, with %d", status)
	}
	s.wantServing()
}

// wantServerRefused plays a server that the client must not use: it may not
// even send it a CONNECT, which names what it wants.
func (s *script) wantServerRefused(change func(*tls.Config)) {
	cfg := s.credentials(reviewsID, webID).ServerTLS()
	change(cfg)
	d := s.dial(s.hop())
	tc := tls.Server(s.acceptRaw(), cfg)
	if tc.HandshakeContext(s.step()) == nil {
		_ = tc.SetReadDeadline(time.Now().Add(s.opts.timeout())) // a client may leave the connection alone
		sent, _ := io.ReadAll(io.LimitReader(tc, 1<<16))
		if len(sent) > 0 {
			s.errorf("the client sends %s to a server that it should have refused", brief(sent))
		}
	}
	tc.Close()
	d.wantError("the server is not who it should be")
}

// wantHello looks at the ClientHello of the client under test.
func (s *script) wantHello(look func(*tls.ClientHelloInfo)) {
	s.wantHandshake(func(c *tls.Config) {
		inner := c.Clone()
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			look(hello)
			return inner, nil
		}
	})
}

// wantSilence reads from a connection whose server must not speak HTTP/2 with
// it. A TLS alert is fine.
func (s *script) wantSilence(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(s.opts.timeout()))
	answer, err := io.ReadAll(conn)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // a conn's own
		s.errorf("the server keeps a client that speaks no TLS")
	}
	if len(answer) > 0 && answer[0] != 0x15 { // RFC 8446 §5.1: an alert
		s.errorf("the server answers plain text with %s", brief(answer))
	}
}
