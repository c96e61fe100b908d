package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// BenchmarkVerify measures the checks of one handshake, by the number of
// accepted identities.
func BenchmarkVerify(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			ca := newTestCA(b, east)
			peers := onlyID(bob)
			for i := range n - 1 {
				peers.IDs = append(peers.IDs, spiffeid.RequireFromSegments(east, "ns", "app", "sa", fmt.Sprint(i)))
			}
			client := mustClient(b, Config{Source: newTestSource(b, ca, alice), Peers: peers})
			svid, err := newTestSource(b, ca, bob).GetX509SVID()
			if err != nil {
				b.Fatal(err)
			}
			state := tls.ConnectionState{PeerCertificates: svid.Certificates}
			b.ReportAllocs()
			for b.Loop() {
				if err := client.Verify(state); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHandshake compares a mutual handshake with one of bare crypto/tls
// with the same keys, which verifies chains and no identities.
func BenchmarkHandshake(b *testing.B) {
	ca := newTestCA(b, east)
	clientSrc, serverSrc := newTestSource(b, ca, alice), newTestSource(b, ca, bob)
	run := func(b *testing.B, client, server *tls.Config) {
		b.ReportAllocs()
		for b.Loop() {
			if c, s := connect(client, server); c.err != nil || s.err != nil {
				b.Fatal(c.err, s.err)
			}
		}
	}
	b.Run("eastwest", func(b *testing.B) {
		run(b, configOf(b, mustClient(b, Config{Source: clientSrc, Peers: onlyID(bob)})), configOf(b, mustServer(b, Config{Source: serverSrc, Peers: onlyID(alice)})))
	})
	b.Run("bare", func(b *testing.B) {
		roots := x509.NewCertPool()
		roots.AddCert(certOf(ca))
		server := bareConfig(b, serverSrc, roots)
		server.VerifyConnection = nil // crypto/tls verifies by itself here
		run(b, bareConfig(b, clientSrc, roots), server)
	})
}

func bareConfig(b *testing.B, src *Memory, roots *x509.CertPool) *tls.Config {
	svid, err := src.GetX509SVID()
	if err != nil {
		b.Fatal(err)
	}
	leaf := svid.Certificates[0]
	return &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: svid.PrivateKey, Leaf: leaf}},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              roots,
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"h2"},
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // the name cannot match; the chain is verified below
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		},
	}
}
