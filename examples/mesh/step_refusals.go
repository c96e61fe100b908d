package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/examples/internal/gateway"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
)

// An attack is what those who knock at west's gateway present.
type attack struct {
	member    identity.Source // an identity of the mesh
	nobody    identity.Source // nil: no certificate at all
	foreigner identity.Source // of another trust domain, whose roots the mesh does not know
	authority string          // of a service that is not global
}

const foreignTrustDomain = "elsewhere.example"

// newAttack makes the certificates. A failure shows when they are used.
func newAttack(w *world) attack {
	return attack{
		member:    w.member(),
		foreigner: foreigner(),
		authority: net.JoinHostPort("audit."+namespace+".svc.cluster.local", "80"),
	}
}

// member returns the certificate of the caller's service account.
func (w *world) member() identity.Source {
	td := w.authority.TrustDomain()
	id, err := identity.WorkloadID(td, namespace, callerPod)
	if err != nil {
		return identity.NewMemory(nil)
	}
	svid, err := w.authority.Issue(id, 0)
	if err != nil {
		return identity.NewMemory(nil)
	}
	return identity.NewMemory(svid, w.authority.Bundle())
}

func foreigner() identity.Source {
	td := spiffeid.RequireTrustDomainFromString(foreignTrustDomain)
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: td})
	if err != nil {
		return identity.NewMemory(nil)
	}
	source, err := ca.Source(spiffeid.RequireFromSegments(td, "ns", namespace, "sa", callerPod), 0)
	if err != nil {
		return identity.NewMemory(nil)
	}
	return source
}

// dialGateway opens a stream at west's gateway with a single hop.
func (s *story) dialGateway(ctx context.Context, source identity.Source, authority string) (net.Conn, error) {
	w := s.world.clusters[west]
	g, err := w.facts.gateway()
	if err != nil {
		return nil, err
	}
	creds, err := identity.NewClient(identity.Config{
		Source: source,
		Peers:  identity.Peers{TrustDomains: []spiffeid.TrustDomain{s.world.authority.TrustDomain()}},
	})
	if err != nil {
		return nil, err
	}
	transport := &hbone.Transport{DialContext: s.world.underlay.DialContext}
	conn, err := transport.Dial(ctx, hbone.Path{Hops: []hbone.Hop{{Address: g.address.String(), Authority: authority, TLS: creds}}})
	if err != nil {
		transport.Close()
		return nil, err
	}
	return &onlyConn{conn, transport}, nil
}

// onlyConn is the only stream of its transport.
type onlyConn struct {
	*hbone.Conn
	transport *hbone.Transport
}

func (c *onlyConn) Close() error { return errors.Join(c.Conn.Close(), c.transport.Close()) }

// refusals lets in nobody who must not come in.
func (s *story) refusals(ctx context.Context, sec *section) error {
	t := sec.table("WHO", "AT", "WHAT HAPPENS", "COUNTED")

	counted, err := s.knock(ctx, s.attack.nobody)
	t.row("a client without a certificate", "west's gateway", errText(err), counted)
	sec.check("no-certificate", "it gets a TLS alert, and the gateway counts it", refusedByAlert(err, counted))

	counted, err = s.knock(ctx, s.attack.foreigner)
	t.row("a client of trust domain "+foreignTrustDomain, "west's gateway", errText(err), counted)
	sec.check("foreign-trust-domain", "so does one of another trust domain", refusedByAlert(err, counted))

	s.world.events.reset()
	conn, err := s.dialGateway(ctx, s.attack.member, s.attack.authority)
	if err == nil {
		conn.Close()
	}
	counted = len(s.world.events.refusedAtGateway(west))
	t.row("a member, asking for "+s.attack.authority, "west's gateway", errText(err), counted)
	sec.check("not-global", "what is not a global service gets status 404", refusedWith(err, http.StatusNotFound, counted))

	s.world.events.reset()
	const tries = 40
	got := s.intruder.requests(ctx, s.url(), tries)
	for _, c := range s.world.sorted() {
		n := s.denials(c.name)
		t.row("the application "+intruderPod+" in east", c.name+"'s node proxy", firstOf(got), n)
	}
	sec.check("denied", "a workload that the policy does not name is denied by the node proxies of both clusters", s.denied(got))
	return nil
}

// knock makes a TLS connection to west's gateway. With TLS 1.3 a client learns
// only from its first read that it was refused.
func (s *story) knock(ctx context.Context, source identity.Source) (counted int, refusal error) {
	s.world.events.reset()
	g, err := s.world.clusters[west].facts.gateway()
	if err != nil {
		return 0, err
	}
	cfg, err := s.tlsConfig(source)
	if err != nil {
		return 0, err
	}
	ctx, cancel := aWhile(ctx)
	defer cancel()
	raw, err := s.world.underlay.DialContext(ctx, "tcp", g.address.String())
	if err != nil {
		return 0, err
	}
	conn := tls.Client(raw, cfg)
	defer conn.Close()
	if err = conn.HandshakeContext(ctx); err == nil {
		// Whoever is let in hears the gateway's SETTINGS.
		deadline, _ := ctx.Deadline()
		conn.SetReadDeadline(deadline)
		_, err = conn.Read(make([]byte, 1))
	}
	// The gateway may tell us before it counts.
	_ = s.world.await(ctx, "the gateway to count", func() bool {
		return err == nil || s.refusedConnections() > 0
	})
	return s.refusedConnections(), err
}

// tlsConfig presents what the source has. It does not verify the gateway: those
// who knock here do not care whom they meet.
func (s *story) tlsConfig(source identity.Source) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, InsecureSkipVerify: true}
	if source == nil {
		return cfg, nil
	}
	svid, err := source.GetX509SVID()
	if err != nil {
		return nil, err
	}
	cert := tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}
	for _, c := range svid.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	// Whatever authorities the gateway names, this is what it gets.
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return cfg, nil
}

// refusedConnections are those that west's gateway did not let in at all.
func (s *story) refusedConnections() int {
	n := 0
	for _, c := range s.world.events.refusedAtGateway(west) {
		if c.Status == 0 && isPeerRefusal(c) {
			n++
		}
	}
	return n
}

// isPeerRefusal tells a client that was refused from one that just went away.
func isPeerRefusal(c gateway.Connection) bool {
	var refused *hbone.RefusedError
	return errors.As(c.Err, &refused)
}

func refusedByAlert(err error, counted int) error {
	// crypto/tls says so of alerts that the peer sent.
	var alert *net.OpError
	switch {
	case err == nil:
		return errors.New("it was let in")
	case !errors.As(err, &alert) || alert.Op != "remote error":
		return fmt.Errorf("no TLS alert, but: %w", err)
	case counted == 0:
		return errors.New("the gateway did not count it")
	}
	return nil
}

func refusedWith(err error, status, counted int) error {
	var got *hbone.StatusError
	switch {
	case err == nil:
		return errors.New("it was let in")
	case !errors.As(err, &got):
		return fmt.Errorf("no status, but: %w", err)
	case got.Status != status:
		return fmt.Errorf("status %d, not %s", got.Status, strconv.Itoa(status))
	case counted == 0:
		return errors.New("the gateway did not count it")
	}
	return nil
}

// denials counts what the node proxy of a cluster refused by policy.
func (s *story) denials(cluster string) int {
	n := 0
	for _, c := range s.world.events.refusedInbound(cluster) {
		if c.Status == http.StatusUnauthorized {
			n++
		}
	}
	return n
}

func (s *story) denied(got tally) error {
	var wrong problems
	if n := got.answered(); n > 0 {
		wrong.add("%d requests were answered", n)
	}
	for _, c := range s.world.sorted() {
		if s.denials(c.name) == 0 {
			wrong.add("the node proxy of %s denied nothing", c.name)
		}
	}
	return wrong.err()
}
