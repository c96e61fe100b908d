// Package hbonetest holds implementations of HBONE to its specification,
// docs/hbone-spec.md: in any language, by what they send and take on the wire.
//
//	        TestClient                                TestServer
//	client under test --- scripted server    scripted client --- server under test
//	      |                                                            |
//	   Dial()          the suite compares both ends                 Accept()
//
// The other end of every conversation is a scripted peer of the suite's own,
// which shares no code with package hbone. Subtests are named after the rules
// of the specification: "end-half-close/application-first" is a case of the
// rule end-half-close.
//
// # A client
//
// The suite listens, and the client dials through one hop, or two:
//
//	func TestConformance(t *testing.T) {
//		hbonetest.TestClient(t, func(t *testing.T) hbonetest.Client {
//			return hbonetest.Client{Dial: func(ctx context.Context, hops []hbonetest.Hop) (net.Conn, error) {
//				tlsConfig := hops[0].Credentials.ClientTLS()
//				return dialThrough(ctx, hops[0].Address, hops[0].Authority, hops[0].Header, tlsConfig)
//			}}
//		}, hbonetest.Options{})
//	}
//
// # A server
//
// The suite dials, and wants the application's end of each stream. A library
// hands that out by itself. For a proxy, it is what a listener accepts to
// which the proxy connects; the authorities that lead there are named:
//
//	hbonetest.TestServer(t, func(t *testing.T, creds hbonetest.Credentials) hbonetest.Server {
//		application, _ := net.Listen("tcp", "127.0.0.1:0")
//		proxy := startProxy(t, creds.ServerTLS())
//		return hbonetest.Server{
//			Dial:        func(ctx context.Context) (net.Conn, error) { return net.Dial("tcp", proxy.Addr) },
//			Accept:      func(ctx context.Context) (net.Conn, error) { return application.Accept() },
//			Authorities: []string{application.Addr().String()},
//		}
//	}, hbonetest.Options{})
//
// A gateway is such a proxy, too: its application is the port of a backend, and
// what the backend gets are the bytes of the stream.
//
// # An implementation that is not Go, or not ours
//
// Credentials are plain data as well: write the certificate, its key and the
// roots to files, start the program, and connect to its ports. Set
// Options.KnownFailures for what it is known to do wrong, each with a reason:
// the run then fails only for what is new, and for what is no longer wrong.
// Raise Options.Timeout for slow machines. -short leaves out what takes
// minutes of waiting.
//
// # What it does not do
//
// It does not measure, and it does not judge what is not on the wire: how
// tunnels are pooled, or who may reach what. Each test plays only one end, so
// two wrongs of one implementation cannot cancel each other out.
package hbonetest
