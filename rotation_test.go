package eastwest_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
	"github.com/eastwest-mesh/eastwest/identity/istioca"
	"github.com/eastwest-mesh/eastwest/internal/fipstest"
)

// TestFIPS runs the tests of tunnels.
func TestFIPS(t *testing.T) { fipstest.Run(t, "Revocation|Rotation|Expired|CAIsAway", "") }

// directly is a client's path to the pod itself.
func (m *tunnelMesh) directly(t *testing.T, client *party) hbone.Path {
	return hbone.Path{Hops: []hbone.Hop{{Address: "pod:15008", Authority: service, TLS: client.dialing(t, m.pod)}}}
}

// TestRotationBreaksNoStream has 10,000 streams open while all certificates are
// renewed, and then while the old ones expire.
func TestRotationBreaksNoStream(t *testing.T) {
	streams := 10_000
	if testing.Short() {
		streams = 1000
	}
	synctest.Test(t, func(t *testing.T) {
		m, parties := newTunnelMesh(t, time.Hour, "client")
		client := parties["client"]
		tr := m.transport(t, "client")
		path := m.directly(t, client)
		open := make([]*hbone.Conn, streams)
		for i := range open {
			conn, err := tr.Dial(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			open[i] = conn
		}
		all := func(when string) {
			t.Helper()
			for i, conn := range open {
				if err := echo(conn); err != nil {
					t.Fatalf("%s, stream %d: %v", when, i, err)
				}
			}
		}
		all("before")
		time.Sleep(30 * time.Minute)
		client.renew(t, m.ca, time.Hour)
		m.pod.renew(t, m.ca, time.Hour)
		all("after the rotation")
		time.Sleep(31 * time.Minute)
		all("after the end of the old certificates")
		fresh, err := tr.Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer fresh.Close()
		if err := echo(fresh); err != nil || fresh.Hops()[0].Reused {
			t.Errorf("a new stream is in an old tunnel: %t, %v", fresh.Hops()[0].Reused, err)
		}
	})
}

// TestExpiredTunnelTakesNoStream lets the certificate of one end of a hop run
// out, while the other's goes on.
func TestExpiredTunnelTakesNoStream(t *testing.T) {
	for _, expires := range []string{"client", "gateway", "pod"} {
		t.Run(expires, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, parties := newTunnelMesh(t, 10*time.Hour, "client")
				parties[expires].renew(t, m.ca, time.Hour)
				tr := m.transport(t, "client")
				path := m.through(t, parties["client"])
				dial := func() *hbone.Conn {
					t.Helper()
					conn, err := tr.Dial(t.Context(), path)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { conn.Close() })
					if err := echo(conn); err != nil {
						t.Error(err)
					}
					return conn
				}
				// Which hops get another tunnel: those that the certificate is of,
				// and what is inside of them.
				affected := map[string][]bool{"client": {true, true}, "gateway": {true, true}, "pod": {false, true}}[expires]
				tr.MaxTunnelAge = -1
				first := dial()
				time.Sleep(time.Hour - time.Minute)
				parties[expires].renew(t, m.ca, 10*time.Hour)
				second := dial()
				time.Sleep(2 * time.Minute)
				third := dial()
				for hop := range affected {
					was, then, is := first.Hops()[hop].Tunnel, second.Hops()[hop].Tunnel, third.Hops()[hop].Tunnel
					if then != was {
						t.Errorf("hop %d: before the end another tunnel is used", hop)
					}
					if (is != was) != affected[hop] {
						t.Errorf("hop %d: after the end another tunnel is used: %t, want %t", hop, is != was, affected[hop])
					}
				}
				if err := echo(first); err != nil {
					t.Errorf("a stream that was open: %v", err)
				}
			})
		})
	}
}

// anybody is an Authenticator for a network where nobody else is.
type anybody spiffeid.ID

func (a anybody) Authenticate(context.Context) (istioca.Caller, error) {
	return istioca.Caller{ID: spiffeid.ID(a)}, nil
}

// serveCA serves the mesh's CA to one party, at ca:15012.
func (m *tunnelMesh) serveCA(t *testing.T, id spiffeid.ID) {
	t.Helper()
	ca, err := istioca.NewServer(istioca.ServerConfig{CA: m.ca, Authenticator: anybody(id)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := m.network.Listen("ca:15012")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	ca.Register(server)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
}

// caSource is a source whose certificates live for an hour.
func (m *tunnelMesh) caSource(t *testing.T, id spiffeid.ID) *istioca.Source {
	t.Helper()
	host := m.network.Host("client")
	conn, err := grpc.NewClient("passthrough:///ca:15012", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return host.Dial(ctx, "tcp", address) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client, err := istioca.NewClient(istioca.ClientConfig{Conn: conn, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	source := client.Source(id)
	t.Cleanup(func() { _ = source.Close() })
	if err := source.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return source
}

// TestCAIsAwayTooLong has a CA that is out of reach for longer than the
// certificate of a client lives: that is used until its end, then the client is
// told why it cannot connect, and when the CA is back nobody has to do anything.
func TestCAIsAwayTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, parties := newTunnelMesh(t, 100*time.Hour, "client")
		id := parties["client"].id
		m.serveCA(t, id)
		creds, err := identity.NewClient(identity.Config{
			Source: m.caSource(t, id),
			Peers:  identity.Peers{IDs: []spiffeid.ID{m.pod.id}},
		})
		if err != nil {
			t.Fatal(err)
		}
		tr := m.transport(t, "client")
		dial := func() (*hbone.Conn, error) {
			conn, err := tr.Dial(t.Context(), hbone.Path{Hops: []hbone.Hop{{Address: "pod:15008", Authority: service, TLS: creds}}})
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() { conn.Close() })
			return conn, echo(conn)
		}
		first, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		m.network.Cut("client", "ca")
		time.Sleep(59 * time.Minute)
		if _, err := dial(); err != nil {
			t.Errorf("while the certificate is valid: %v", err)
		}
		time.Sleep(2 * time.Minute)
		_, err = dial()
		var hop *hbone.HopError
		var local *identity.LocalError
		var away *istioca.UnavailableError
		if !errors.As(err, &hop) || !errors.As(err, &local) || !errors.As(err, &away) || hop.Hop != 0 || away.ID != id || away.Expired.IsZero() {
			t.Errorf("with an expired certificate: %v; want hop 0, whose certificate expired, and why there is no other", err)
		}
		if err := echo(first); err != nil {
			t.Errorf("a stream that was open: %v", err)
		}
		m.network.Heal("client", "ca")
		time.Sleep(5 * time.Minute)
		if _, err := dial(); err != nil {
			t.Errorf("with the CA back: %v", err)
		}
	})
}
