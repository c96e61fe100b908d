// Package hbone makes and accepts HBONE tunnels, as Istio's ambient mesh uses
// them: HTTP/2 CONNECT over mutual TLS. What comes out are net.Conns.
//
// A tunnel is one HTTP/2 connection. A stream is one CONNECT in it. A hop is
// one HBONE server on the way, and a path is a list of hops. One hop is plain
// HBONE; two are double HBONE, through the gateway of another network; nothing
// here knows a maximum.
//
//	                       outer tunnel
//	application -- Transport ============ gateway ------ Server -- application
//	                        ------------------------------
//	                          inner tunnel, in a stream
//
// The client's side is a [Transport]:
//
//	t := &hbone.Transport{}
//	conn, err := t.Dial(ctx, hbone.Path{Hops: []hbone.Hop{
//		{Address: "192.0.2.7:15008", Authority: "reviews.app.svc.cluster.local:80", TLS: toGateway},
//		{Authority: "reviews.app.svc.cluster.local:80", TLS: toReviews},
//	}})
//
// It keeps tunnels and shares them, on every hop: a dial over tunnels that are
// there takes one round trip and no handshake. [Transport.Warm] makes them
// before they are needed. [Transport.Dialer] fits http.Transport and gRPC.
//
// The server's side is a [Server], whose Handler accepts or rejects each
// CONNECT, or a [Listener], which is a net.Listener of accepted streams. A
// nested server is Server.ServeConn on an accepted stream. [Relay] joins two
// connections and keeps the difference between an end and an abort.
//
// # Spread
//
// A gateway pins one backend to each stream that it forwards, and all streams
// of an inner tunnel share that one. So a Transport keeps up to Path.Spread inner
// tunnels, over as many outer streams, learns which [Backend] each reached, and
// balances new streams over them. It makes them in the background as dials
// come, drops what leads to a backend that it has, and replaces them by age.
// Where the gateway names the backend, a tunnel that is dropped has cost a CONNECT and no handshake. Where the
// backend's own answer or its certificate tells, it has cost a handshake and carried one stream; there are at most
// eight in a minute. Where nothing does, chance decides, and each tunnel costs one handshake.
//
// # Identity
//
// There is no way to dial or accept without [Credentials] that verify the
// peer, and no fallback to plain text. Tunnels are shared only between dials
// with the same local identity and the same accepted peers, on every hop. When
// the Credentials say so, a tunnel takes no new streams (a certificate
// expired) or ends at once (it was revoked). Package identity makes
// Credentials from SPIFFE sources.
//
// # Errors
//
// A [ConfigError] means that nothing was sent. A [HopError] names the hop and
// the [Phase] in which it failed, whether the peer decided so, and whether
// another try makes sense. Errors unwrap to what the standard library has:
// net.ErrClosed, os.ErrDeadlineExceeded, context.Canceled, syscall.ECONNRESET.
//
// # The protocol
//
// docs/hbone-spec.md specifies it, and package hbonetest holds implementations
// to that.
//
// # What it does not do
//
// It does not choose hops, endpoints or headers: it dials the path that it is
// given. It does not authorize: a Handler does, by the Request's TLS state. It
// carries streams only, no datagrams and no HTTP requests besides CONNECT, and
// sends no data before the CONNECT was answered.
package hbone
