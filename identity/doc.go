// Package identity says who we are on a hop and whom we accept there, with
// SPIFFE identities and mutual TLS 1.3.
//
//	 files, memory, SPIFFE Workload API, Istio's CA
//	                   |
//	                Source            our certificate, and a bundle of
//	                   |              roots for each trust domain
//	  Peers ---> Credentials
//	(whom we          |
//	 accept)     *tls.Config          per hop; certificates are fetched
//	                   |              from the source at each handshake
//	             tls.Conn  --->  PeerID(conn.ConnectionState())
//
// A Source is anything that implements go-spiffe's x509svid.Source and
// x509bundle.Source: a Memory, a Files, an istioca client, or go-spiffe's
// workloadapi.X509Source. NewClient and NewServer combine it with Peers into
// Credentials. Whatever the source, the configuration that comes out
//
//   - speaks TLS 1.3 only, offers the ALPN protocol h2, sends and needs no SNI;
//   - presents a certificate, and requires one of the peer, on both sides;
//   - verifies the peer in VerifyConnection, which resumed sessions go through
//     too: exactly one SPIFFE ID, in the accepted set, in a certificate for its
//     role, with a chain to a root of the trust domain of that very ID. A root
//     of one trust domain cannot vouch for another (federation by construction);
//   - prefers the hybrid post-quantum key exchange X25519MLKEM768, and with
//     Config.RequirePQ accepts nothing else.
//
// There is no option that skips a check, and the zero Peers accept nobody.
//
// # Other meshes, other names
//
// Config.Bundles has the roots of other trust domains, such as those that the
// package identity/federation fetches from SPIFFE bundle endpoints: clusters
// with different roots and different trust domains are one mesh then. Aliases
// are further names of a trust domain, for a mesh that changes its own.
//
// # Lifetime
//
// A new certificate in the source is used from the next handshake on and breaks
// no connection. Credentials.Retire tells the owner of a connection until when
// it may take new work (the earlier end of the two certificates) and when it
// must end at once (a certificate of the peer's chain was revoked).
//
// CRLs are certificate revocation lists, out of watched files, and count for
// the issuer that signed them. Config.Revocations has them asked at handshakes,
// and on open connections whenever they change. Our own certificate is not
// presented any more once it is revoked: Credentials.Config and handshakes fail
// with a LocalError, until the source has another one. A certificate about which they
// know nothing is good, unless CRLConfig.RequireCurrent is set.
//
// # A CA
//
// A CA issues certificates: in memory for tests and demonstrations, or out of a
// directory in the layout of Istio's secret cacerts (OpenCA), for a control
// plane. The package identity/istioca serves it by Istio's protocol.
//
// # FIPS 140
//
// The package works with GODEBUG=fips140=only, in which all of its tests are
// run.
//
// # What it does not do
//
// It does not authorize: see the package identity/authz. It does not fetch
// certificates from a CA: see identity/istioca. It fetches no revocation lists,
// and asks no OCSP responders. DNS names in certificates are ignored. What
// another implementation of a source owes to its users is in
// identity/identitytest.
package identity
