package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// expecting is Peers of n identities, bob among them.
func expecting(n int) Peers {
	peers := onlyID(bob)
	for i := range n - 1 {
		peers.IDs = append(peers.IDs, spiffeid.RequireFromSegments(east, "ns", "app", "sa", fmt.Sprint(i)))
	}
	return peers
}

// BenchmarkVerify measures the checks of one handshake, by the number of
// accepted identities, and with revocation lists of 10,000 certificates.
func BenchmarkVerify(b *testing.B) {
	ca := newTestCA(b, east)
	svid, err := newTestSource(b, ca, bob).GetX509SVID()
	if err != nil {
		b.Fatal(err)
	}
	state := tls.ConnectionState{PeerCertificates: svid.Certificates}
	verify := func(b *testing.B, cfg Config) {
		cfg.Source = newTestSource(b, ca, alice)
		client := mustClient(b, cfg)
		b.ReportAllocs()
		for b.Loop() {
			if err := client.Verify(state); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, n := range []int{1, 10, 1000} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) { verify(b, Config{Peers: expecting(n)}) })
	}
	b.Run("revocations=10000", func(b *testing.B) {
		crls := mustCRLs(b, CRLConfig{})
		template := &x509.RevocationList{}
		for range 10_000 {
			template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: newSerial(), RevocationTime: time.Now()})
		}
		list, err := ca.SignCRL(template)
		if err != nil {
			b.Fatal(err)
		}
		if err := crls.Set(list); err != nil {
			b.Fatal(err)
		}
		verify(b, Config{Peers: expecting(1), Revocations: crls})
	})
	b.Run("signatures", func(b *testing.B) { // what x509 takes of it
		b.ReportAllocs()
		roots := pool(ca.Bundle().X509Authorities())
		for b.Loop() {
			if _, err := svid.Certificates[0].Verify(x509.VerifyOptions{Roots: roots}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRetire measures what a connection costs after its handshake, with
// revocations.
func BenchmarkRetire(b *testing.B) {
	ca := newTestCA(b, east)
	svid, err := newTestSource(b, ca, bob).GetX509SVID()
	if err != nil {
		b.Fatal(err)
	}
	state := tls.ConnectionState{PeerCertificates: svid.Certificates}
	client := mustClient(b, Config{Source: newTestSource(b, ca, alice), Peers: expecting(1), Revocations: mustCRLs(b, CRLConfig{})})
	if err := client.Verify(state); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		client.Retire(state)
	}
}

// BenchmarkHandshake compares a mutual handshake with one of bare crypto/tls
// with the same keys, which verifies chains and no identities. The two take
// turns, so that what else the machine does meets both: the metric of-bare is
// how many of ours are made in the time of one of theirs.
func BenchmarkHandshake(b *testing.B) {
	ca := newTestCA(b, east)
	clientSrc, serverSrc := newTestSource(b, ca, alice), newTestSource(b, ca, bob)
	roots := pool(ca.Bundle().X509Authorities())
	bareClient, bareServer := bareConfig(b, clientSrc, roots), bareConfig(b, serverSrc, roots)
	bareServer.VerifyConnection = nil // crypto/tls verifies by itself here
	once := func(b *testing.B, client, server *tls.Config) time.Duration {
		start := time.Now()
		if c, s := connect(client, server); c.err != nil || s.err != nil {
			b.Fatal(c.err, s.err)
		}
		return time.Since(start)
	}
	for _, n := range []int{1, 10, 1000} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			creds := mustClient(b, Config{Source: clientSrc, Peers: expecting(n)})
			server := configOf(b, mustServer(b, Config{Source: serverSrc, Peers: onlyID(alice)}))
			var ours, bare time.Duration
			for b.Loop() {
				bare += once(b, bareClient, bareServer)
				ours += once(b, configOf(b, creds), server)
			}
			b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/ours")
			b.ReportMetric(float64(bare.Nanoseconds())/float64(b.N), "ns/bare")
			b.ReportMetric(float64(bare)/float64(ours), "of-bare")
		})
	}
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
