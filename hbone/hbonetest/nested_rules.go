package hbonetest

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/net/http2"
)

const otherAuthority = "ratings.app.svc.cluster.local:80"

var nestedTests = []test{
	{rule: "share-identity", name: "other-peers", role: asClient, tls: true, run: func(s *script) {
		s.wantOwnTunnel(func(hop *Hop) { hop.Credentials = s.credentials(webID, reviewsID, gatewayID) })
	}},
	{rule: "share-identity", name: "other-local-identity", role: asClient, tls: true, run: func(s *script) {
		s.wantOwnTunnel(func(hop *Hop) { hop.Credentials = s.credentials(strangeID, reviewsID) })
	}},
	{rule: "nested-authority", name: "of-each-hop", role: asClient, run: func(s *script) {
		hops := s.twoHops()
		hops[0].Authority, hops[1].Authority = otherAuthority, hostAuthority
		n := s.openNested(hops)
		if n.outer.authority != otherAuthority || n.inner.authority != hostAuthority {
			s.errorf("the CONNECTs are for %s and %s, want %s and %s", n.outer.authority, n.inner.authority, otherAuthority, hostAuthority)
		}
	}},
	{rule: "nested-headers", name: "of-each-hop", role: asClient, run: func(s *script) {
		hops := s.twoHops()
		hops[0].Header, hops[1].Header = http.Header{"Baggage": {"k8s.cluster.name=east"}}, ztunnelHeader()
		n := s.openNested(hops)
		n.outer.wantFields(hops[0].Header, "forwarded", "x-forwarded-network", "traceparent")
		n.inner.wantFields(hops[1].Header)
	}},
	{rule: "nested-order", name: "inner-waits-for-outer", role: asClient, run: func(s *script) {
		d := s.dial(s.twoHops()...)
		outer := s.playServer().wantConnect()
		d.wantPending("the outer CONNECT is not answered")
		outer.p.mu.Lock()
		if outer.total > 0 {
			s.errorf("the inner handshake began before the outer CONNECT was answered")
		}
		outer.p.mu.Unlock()
		outer.answer(200, false)
		inner := s.playInner(&streamConn{stream: outer}, reviewsID)
		d.wantPending("the inner CONNECT is not answered")
		inner.wantConnect().answer(200, false)
		d.wantConn()
	}},
	{rule: "nested-opaque", name: "relay-sees-ciphertext", role: asClient, tls: true, run: func(s *script) {
		n := s.openNested(s.twoHops())
		n.app.send("a secret of the application")
		n.inner.wantData("a secret of the application")
		seen := n.wire.all()
		if len(seen) == 0 || seen[0] != 0x16 { // RFC 8446 §5.1
			s.errorf("the outer stream begins with %s, want a TLS handshake", brief(seen))
		}
		for _, secret := range []string{"a secret of the application", "CONNECT", hostAuthority, http2.ClientPreface} {
			if bytes.Contains(seen, []byte(secret)) {
				s.errorf("the gateway can read %q", secret)
			}
		}
	}},
	{rule: "nested-identity", name: "wrong-gateway", role: asClient, tls: true, run: func(s *script) {
		s.plays = strangeID
		d := s.dial(s.twoHops()...)
		tc := tls.Server(s.acceptRaw(), s.credentials(strangeID, webID).ServerTLS())
		if tc.HandshakeContext(s.step()) == nil {
			if n, _ := tc.Read(make([]byte, 1)); n > 0 {
				s.errorf("the client speaks to a gateway that it should have refused")
			}
		}
		tc.Close()
		d.wantError("the gateway is not who it should be")
	}},
	{rule: "nested-identity", name: "wrong-destination", role: asClient, tls: true, run: func(s *script) {
		s.wantDestinationRefused(strangeID)
	}},
	{rule: "nested-identity", name: "gateway-as-destination", role: asClient, tls: true, run: func(s *script) {
		s.wantDestinationRefused(gatewayID)
	}},
	{rule: "nested-identity", name: "client-shown-to-both", role: asClient, tls: true, run: func(s *script) {
		n := s.openNested(s.twoHops())
		for _, p := range []*peer{n.outer.p, n.inner.p} {
			if certs := p.tlsState().PeerCertificates; len(certs) == 0 || certs[0].URIs[0].String() != webID {
				s.errorf("the client shows %d certificates, want that of %s", len(certs), webID)
			}
		}
	}},
	{rule: "nested-data", name: "large-transfer", role: asClient, run: func(s *script) {
		n := s.openNested(s.twoHops())
		s.exchange(n.app, n.inner, pattern(1, s.opts.transfer()), pattern(2, s.opts.transfer()))
	}},
	{rule: "nested-data", name: "relay-cuts-anywhere", role: asClient, run: func(s *script) {
		s.cut = 7
		n := s.openNested(s.twoHops())
		s.exchange(n.app, n.inner, pattern(1, 30_000), pattern(2, 30_000))
	}},
	{rule: "nested-data", name: "relay-cuts-anywhere", role: asServer, run: func(s *script) {
		p := s.newPeer(s.secureClient(pieces{s.dialServer(), 7}), true)
		p.start()
		a, st := s.more(p)
		s.exchange(a, st, pattern(1, 30_000), pattern(2, 30_000))
	}},
	{rule: "nested-end", name: "half-close", role: asClient, run: func(s *script) {
		n := s.openNested(s.twoHops())
		n.app.send("that is all")
		n.app.closeWrite()
		if got := n.inner.take(); string(got) != "that is all" {
			s.errorf("got %s", brief(got))
		}
		n.outer.wantOpen() // only the inner stream ended
		n.inner.send("but I have more")
		n.app.wantData("but I have more")
	}},
	{rule: "nested-end", name: "inner-abort", role: asClient, run: func(s *script) {
		n := s.openNested(s.twoHops())
		s.wantEcho(n.app, n.inner)
		n.inner.reset(http2.ErrCodeConnect)
		n.app.wantBroken("the inner stream was aborted")
		n.outer.wantOpen()
	}},
	{rule: "nested-end", name: "outer-stream-reset", role: asClient, run: func(s *script) {
		n := s.openNested(s.twoHops())
		s.wantEcho(n.app, n.inner)
		n.outer.reset(http2.ErrCodeConnect)
		n.app.wantBroken("the gateway lost the backend")
	}},
	{rule: "nested-end", name: "outer-stream-ends-early", role: asClient, run: func(s *script) {
		n := s.openNested(s.twoHops())
		s.wantEcho(n.app, n.inner)
		n.outer.end() // a truncation: the inner tunnel said nothing of an end
		n.app.wantBroken("the gateway cut the inner tunnel off")
	}},
	{rule: "nested-end", name: "outer-tunnel-lost", role: asClient, run: func(s *script) {
		n := s.openNested(s.twoHops())
		s.wantEcho(n.app, n.inner)
		n.outer.p.close()
		n.app.wantBroken("the tunnel to the gateway was lost")
	}},
	{rule: "nested-refused", name: "by-gateway", role: asClient, run: func(s *script) {
		d := s.dial(s.twoHops()...)
		s.playServer().wantConnect().answer(503, true)
		d.wantError("the gateway refuses")
	}},
	{rule: "nested-refused", name: "by-destination", role: asClient, run: func(s *script) {
		d := s.dial(s.twoHops()...)
		outer := s.playServer().wantConnect()
		outer.answer(200, false)
		s.playInner(&streamConn{stream: outer}, reviewsID).wantConnect().answer(401, true)
		d.wantError("the destination refuses")
	}},
	{rule: "nested-refused", name: "200-and-then-reset", role: asClient, run: func(s *script) {
		d := s.dial(s.twoHops()...)
		outer := s.playServer().wantConnect()
		outer.answer(200, false) // as Envoy does before it knows of a backend
		outer.reset(http2.ErrCodeConnect)
		d.wantError("the gateway has no backend")
	}},
	{rule: "nested-refused", name: "200-and-then-the-end", role: asClient, run: func(s *script) {
		d := s.dial(s.twoHops()...)
		outer := s.playServer().wantConnect()
		outer.answer(200, false)
		outer.end()
		d.wantError("the gateway has no backend")
	}},
	{rule: "nested-share", name: "not-between-services", role: asClient, run: func(s *script) {
		s.wantOwnInner(func(hops []Hop) { hops[0].Authority, hops[1].Authority = otherAuthority, otherAuthority }, reviewsID)
	}},
	{rule: "nested-share", name: "not-between-accepted-peers", role: asClient, tls: true, run: func(s *script) {
		s.wantOwnInner(func(hops []Hop) { hops[1].Credentials = s.credentials(webID, strangeID) }, strangeID)
	}},
	{rule: "nested-share", name: "not-between-local-identities", role: asClient, tls: true, run: func(s *script) {
		s.wantOwnInner(func(hops []Hop) {
			hops[0].Credentials = s.credentials(strangeID, gatewayID)
			hops[1].Credentials = s.credentials(strangeID, reviewsID)
		}, reviewsID)
	}},
}

// twoHops is the way through a gateway.
func (s *script) twoHops() []Hop {
	s.plays = orDefault(s.plays, gatewayID)
	return []Hop{
		{Address: s.listen(), Authority: hostAuthority, Credentials: s.credentials(webID, gatewayID)},
		{Authority: hostAuthority, Credentials: s.credentials(webID, reviewsID)},
	}
}

// A nested is a stream within a stream, of which the test plays gateway and
// destination.
type nested struct {
	app          *app
	outer, inner *stream
	wire         *recorder // what the gateway can see
}

func (s *script) openNested(hops []Hop) nested {
	return s.finishNested(s.dial(hops...), reviewsID)
}

// finishNested plays both servers of a dial, the destination as id.
func (s *script) finishNested(d *dial, id string) nested {
	n := nested{outer: s.connectOnAny(s.sharedPeer())}
	n.outer.answer(200, false)
	n.wire = &recorder{Conn: &streamConn{stream: n.outer}}
	var carrier net.Conn = n.wire
	if s.cut > 0 {
		carrier = pieces{carrier, s.cut}
	}
	n.inner = s.playInner(carrier, id).wantConnect()
	n.inner.answer(200, false)
	n.app = d.wantConn()
	return n
}

// playInner plays the server at the end of an inner tunnel.
func (s *script) playInner(carrier net.Conn, id string) *peer {
	p := s.newPeer(s.secureServer(carrier, s.credentials(id, webID, strangeID)), false)
	p.start()
	return p
}

// wantDestinationRefused lets a gateway lead the client under test to id.
func (s *script) wantDestinationRefused(id string) {
	d := s.dial(s.twoHops()...)
	outer := s.playServer().wantConnect()
	outer.answer(200, false)
	tc := tls.Server(&streamConn{stream: outer}, s.credentials(id, webID).ServerTLS())
	if tc.HandshakeContext(s.step()) == nil {
		if n, _ := tc.Read(make([]byte, 1)); n > 0 {
			s.errorf("the client speaks to a destination that it should have refused")
		}
	}
	tc.Close()
	d.wantError("the destination is not who it should be")
}

// wantOwnTunnel dials twice, the second time with a change that makes a tunnel
// of its own necessary.
func (s *script) wantOwnTunnel(change func(*Hop)) {
	_, st := s.open()
	hop := s.hop()
	change(&hop)
	d := s.dial(hop)
	next := s.playServer().wantConnect()
	next.answer(200, false)
	s.wantEcho(d.wantConn(), next)
	st.p.wantNoConnect("the tunnel is not for this one")
}

// wantOwnInner is wantOwnTunnel for inner tunnels.
func (s *script) wantOwnInner(change func([]Hop), id string) {
	first := s.openNested(s.twoHops())
	hops := s.twoHops()
	change(hops)
	second := s.finishNested(s.dial(hops...), id)
	if second.outer.authority != hops[0].Authority {
		s.errorf("the inner tunnel leads to %s, want %s", second.outer.authority, hops[0].Authority)
	}
	s.wantEcho(second.app, second.inner)
	first.inner.p.wantNoConnect("the inner tunnel is not for this one")
}

// wantFields checks that a CONNECT has the fields of h, and none of those that
// are not for this hop.
func (st *stream) wantFields(h http.Header, without ...string) {
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	for name := range h {
		if got, want := st.field(0, strings.ToLower(name)), h.Get(name); got != want {
			st.p.s.errorf("the CONNECT to %s has %s: %q, want %q", st.authority, name, got, want)
		}
	}
	for _, name := range without {
		if got := st.field(0, name); got != "" {
			st.p.s.errorf("the CONNECT to %s has %s: %q, which is not for this hop", st.authority, name, got)
		}
	}
}

// A recorder keeps what is read.
type recorder struct {
	net.Conn
	mu   sync.Mutex
	seen []byte
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, b[:n]...)
	return n, err
}

func (r *recorder) all() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.seen)
}
