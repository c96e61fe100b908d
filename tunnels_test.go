package eastwest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// These tests hold hbone and identity together, which know nothing of each
// other: what certificates do to tunnels of one and of two hops.

const service = "reviews.app.svc.cluster.local:80"

var meshDomain = spiffeid.RequireTrustDomainFromString("cluster.local")

// A party is a workload of the mesh, with what it knows of revocations.
type party struct {
	id     spiffeid.ID
	source *identity.Memory
	crls   *identity.CRLs
}

func newParty(t *testing.T, ca *identity.CA, account string, ttl time.Duration) *party {
	t.Helper()
	id := spiffeid.RequireFromSegments(meshDomain, "ns", "app", "sa", account)
	source, err := ca.Source(id, ttl)
	if err != nil {
		t.Fatal(err)
	}
	crls, err := identity.OpenCRLs(identity.CRLConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return &party{id, source, crls}
}

func (p *party) config(peers ...*party) identity.Config {
	cfg := identity.Config{Source: p.source, Revocations: p.crls}
	for _, peer := range peers {
		cfg.Peers.IDs = append(cfg.Peers.IDs, peer.id)
	}
	return cfg
}

func (p *party) accepting(t *testing.T, peers ...*party) *identity.Credentials {
	t.Helper()
	c, err := identity.NewServer(p.config(peers...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *party) dialing(t *testing.T, peers ...*party) *identity.Credentials {
	t.Helper()
	c, err := identity.NewClient(p.config(peers...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// renew gives a party a new certificate.
func (p *party) renew(t *testing.T, ca *identity.CA, ttl time.Duration) {
	t.Helper()
	svid, err := ca.Issue(p.id, ttl)
	if err != nil {
		t.Fatal(err)
	}
	p.source.SetSVID(svid)
}

// A tunnelMesh is a pod behind a gateway, and clients of both.
type tunnelMesh struct {
	ca           *identity.CA
	gateway, pod *party
	network      memnet.Network

	mu      sync.Mutex
	refused map[string][]*hbone.RefusedError // by the server that refused or cut
}

// newTunnelMesh serves until the test's context ends. Call it in a bubble.
func newTunnelMesh(t *testing.T, ttl time.Duration, clients ...string) (*tunnelMesh, map[string]*party) {
	t.Helper()
	ca, err := identity.NewCA(identity.CAConfig{TrustDomain: meshDomain})
	if err != nil {
		t.Fatal(err)
	}
	m := &tunnelMesh{ca: ca, gateway: newParty(t, ca, "gateway", ttl), pod: newParty(t, ca, "reviews", ttl), refused: map[string][]*hbone.RefusedError{}}
	parties := map[string]*party{"gateway": m.gateway, "pod": m.pod}
	var accepted []*party
	for _, name := range clients {
		parties[name] = newParty(t, ca, name, ttl)
		accepted = append(accepted, parties[name])
	}
	host := m.network.Host("gateway")
	m.serve(t, "gateway", m.gateway.accepting(t, accepted...), func(ctx context.Context, r *hbone.Request) {
		backend, err := host.Dial(ctx, "tcp", "pod:15008")
		if err != nil {
			_ = r.Reject(http.StatusServiceUnavailable)
			return
		}
		relay(ctx, r, backend)
	})
	m.serve(t, "pod", m.pod.accepting(t, accepted...), func(_ context.Context, r *hbone.Request) {
		conn, err := r.Accept(nil)
		if err != nil {
			return
		}
		defer conn.Close()
		bounce(conn)
	})
	return m, parties
}

// bounce sends back what comes, byte by byte: io.Copy has a large buffer, of
// which ten thousand are too many.
func bounce(conn net.Conn) {
	b := make([]byte, 1)
	for {
		if _, err := conn.Read(b); err != nil {
			return
		}
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

func relay(ctx context.Context, r *hbone.Request, backend net.Conn) {
	conn, err := r.Accept(nil)
	if err != nil {
		backend.Close()
		return
	}
	_, _ = hbone.Relay(ctx, conn, backend)
}

func (m *tunnelMesh) serve(t *testing.T, name string, creds hbone.Credentials, handle func(context.Context, *hbone.Request)) {
	t.Helper()
	l, err := m.network.Listen(name + ":15008")
	if err != nil {
		t.Fatal(err)
	}
	server := &hbone.Server{
		TLS:        creds,
		Handler:    func(r *hbone.Request) { handle(t.Context(), r) },
		MaxStreams: 100_000,
		Refused: func(e *hbone.RefusedError) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.refused[name] = append(m.refused[name], e)
		},
	}
	go func() { _ = server.Serve(t.Context(), l) }()
	t.Cleanup(func() { _ = server.Close() })
}

// cuts returns the errors of tunnels that a server ended by itself.
func (m *tunnelMesh) cuts(server string) []*hbone.RefusedError {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refused[server]
}

// through is a client's path to the pod, by the gateway.
func (m *tunnelMesh) through(t *testing.T, client *party) hbone.Path {
	return hbone.Path{Hops: []hbone.Hop{
		{Address: "gateway:15008", Authority: service, TLS: client.dialing(t, m.gateway)},
		{Authority: service, TLS: client.dialing(t, m.pod)},
	}}
}

func (m *tunnelMesh) transport(t *testing.T, client string) *hbone.Transport {
	tr := &hbone.Transport{DialContext: m.network.Host(client).Dial}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// echo sends a byte and waits for it to come back.
func echo(conn net.Conn) error {
	if _, err := conn.Write([]byte{1}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// TestRevocationNamesTheHop revokes the certificate of one party while
// connections through two hops are open. Those that rely on it end at once, and
// say at which hop; others do not notice.
func TestRevocationNamesTheHop(t *testing.T) {
	for name, tc := range map[string]struct {
		revoked string // whose certificate
		known   string // who knows
		hop     int    // that the client's errors name
	}{
		"gateway, by the client": {"gateway", "client", 0},
		"pod, by the client":     {"pod", "client", 1},
		"client, by the gateway": {"client", "gateway", 0},
		"client, by the pod":     {"client", "pod", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, parties := newTunnelMesh(t, time.Hour, "client", "bystander")
				dial := func(who string) (net.Conn, *hbone.Transport) {
					tr := m.transport(t, who)
					conn, err := tr.Dial(t.Context(), m.through(t, parties[who]))
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { conn.Close() })
					if err := echo(conn); err != nil {
						t.Fatal(err)
					}
					return conn, tr
				}
				conn, tr := dial("client")
				other, _ := dial("bystander")
				svid, err := parties[tc.revoked].source.GetX509SVID()
				if err != nil {
					t.Fatal(err)
				}
				parties[tc.known].crls.Revoke(svid.Certificates[0])

				_, err = conn.Read(make([]byte, 1))
				var hop *hbone.HopError
				if !errors.As(err, &hop) || hop.Hop != tc.hop || hop.Phase != hbone.PhaseStream {
					t.Errorf("the open connection ended with %v, want a HopError of hop %d", err, tc.hop)
				}
				synctest.Wait()
				if tc.known == "client" {
					if !errors.Is(err, hbone.ErrRevoked) {
						t.Errorf("the open connection ended with %v, want ErrRevoked", err)
					}
				} else if cuts := m.cuts(tc.known); len(cuts) != 1 || !errors.Is(cuts[0], hbone.ErrRevoked) || cuts[0].Phase != hbone.PhaseStream {
					t.Errorf("the %s says %v, want ErrRevoked once", tc.known, cuts)
				}
				if err := echo(other); err != nil {
					t.Errorf("another client's connection broke: %v", err)
				}

				_, err = tr.Dial(t.Context(), m.through(t, parties["client"]))
				if !errors.As(err, &hop) || hop.Hop != tc.hop {
					t.Errorf("a new connection: %v, want a HopError of hop %d", err, tc.hop)
				}
				if refused := (*identity.PeerError)(nil); tc.known == "client" && (!errors.As(err, &refused) || refused.Check != identity.CheckRevoked) {
					t.Errorf("a new connection: %v, want the check of revocations", err)
				}
			})
		})
	}
}
