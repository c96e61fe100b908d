package hbonetest

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2"
)

// Authorities that every server should know.
const (
	addressAuthority = "10.1.0.10:8080"
	ipv6Authority    = "[2001:db8::10]:8080"
	hostAuthority    = "reviews.app.svc.cluster.local:80"
)

// serve starts the server under test, with the usual credentials.
func (s *script) serve() *Server {
	if !s.running {
		s.serveAs(s.credentials(reviewsID, webID))
	}
	return &s.server
}

func (s *script) serveAs(creds Credentials) {
	s.server = s.startServer(creds)
	s.running = true
	if s.server.Authorities == nil {
		s.server.Authorities = []string{addressAuthority, ipv6Authority, hostAuthority}
	}
}

// authority is one that leads to the application.
func (s *script) authority() string {
	if s.role == asServer {
		return s.serve().Authorities[0]
	}
	return addressAuthority
}

// dialServer connects to the server under test.
func (s *script) dialServer() net.Conn {
	conn, err := s.serve().Dial(s.step())
	if err != nil {
		s.fatalf("connecting to the server: %v", err)
	}
	s.atEnd(func() { conn.Close() })
	return conn
}

// secureClient does the client's side of a handshake, with the usual
// credentials.
func (s *script) secureClient(conn net.Conn) net.Conn {
	if s.opts.Plaintext {
		return conn
	}
	tc := tls.Client(conn, s.credentials(webID, reviewsID).ClientTLS())
	if err := tc.HandshakeContext(s.step()); err != nil {
		s.fatalf("TLS handshake with the server: %v", err)
	}
	return tc
}

func (s *script) secureServer(conn net.Conn, creds Credentials) net.Conn {
	if s.opts.Plaintext {
		return conn
	}
	tc := tls.Server(conn, creds.ServerTLS())
	if err := tc.HandshakeContext(s.step()); err != nil {
		s.fatalf("TLS handshake with the client: %v", err)
	}
	return tc
}

// playClient connects to the server under test and plays the client.
func (s *script) playClient(settings ...http2.Setting) *peer {
	p := s.newPeer(s.secureClient(s.dialServer()), true)
	p.start(settings...)
	return p
}

// accept waits for the application's end of a stream.
func (s *script) accept() *app {
	conn, err := s.server.Accept(s.step())
	if err != nil {
		s.fatalf("Accept: %v", err)
	}
	return s.newApp(conn)
}

// hop is the usual way for a client: one hop to a server that the test plays.
func (s *script) hop() Hop {
	return Hop{
		Address:     s.listen(),
		Authority:   addressAuthority,
		Credentials: s.credentials(webID, reviewsID),
	}
}

// listen starts to listen for the client under test, once.
func (s *script) listen() string {
	if s.listener != nil {
		return s.listener.Addr().String()
	}
	var err error
	if s.client.Listen != nil {
		s.listener, err = s.client.Listen()
	} else {
		s.listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		s.fatalf("Listen: %v", err)
	}
	s.raw = make(chan net.Conn, 256)
	s.begin(func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.raw <- conn
		}
	})
	s.atEnd(func() { s.listener.Close() })
	return s.listener.Addr().String()
}

// acceptRaw waits for a connection of the client under test.
func (s *script) acceptRaw() net.Conn {
	timer := time.NewTimer(s.opts.timeout())
	defer timer.Stop()
	failed := s.lastDial.failed()
	for {
		select {
		case conn := <-s.raw:
			s.atEnd(func() { conn.Close() })
			return conn
		case <-failed:
			if len(s.raw) == 0 {
				s.fatalf("the client does not connect: Dial: %v", s.lastDial.err)
			}
		case <-timer.C:
			s.fatalf("the client does not connect")
		}
	}
}

// playServer accepts a connection of the client under test and plays the
// server.
func (s *script) playServer(settings ...http2.Setting) *peer {
	creds := s.credentials(orDefault(s.plays, reviewsID), webID, strangeID)
	p := s.newPeer(s.secureServer(s.acceptRaw(), creds), false)
	p.start(settings...)
	return p
}

// open opens a stream on a new tunnel, whichever end the implementation is.
func (s *script) open(settings ...http2.Setting) (*app, *stream) {
	if s.role == asServer {
		p := s.playClient(settings...)
		return s.more(p)
	}
	d := s.dial(s.hop())
	p := s.playServer(settings...)
	st := p.wantConnect()
	st.answer(200, false)
	return d.wantConn(), st
}

// more opens another stream on a tunnel.
func (s *script) more(p *peer) (*app, *stream) {
	if s.role == asServer {
		st := p.connect(s.authority())
		a := s.accept()
		st.wantStatus(200)
		return a, st
	}
	d := s.dial(s.hop())
	st := s.connectOn(p)
	st.answer(200, false)
	return d.wantConn(), st
}

// connectOn waits for the client under test to open a stream on p. A client
// may make another tunnel instead; then there is nothing to be seen.
func (s *script) connectOn(p *peer) *stream {
	var err error
	for wait := time.Duration(0); wait < s.opts.timeout(); wait += s.opts.quiet() {
		if err = p.wait(s.opts.quiet(), func() bool { return len(p.opened) > 0 }); err == nil {
			return p.wantConnect()
		}
		if len(s.raw) > 0 {
			s.skip("the client does not share tunnels")
		}
	}
	s.fatalf("the client does not open another stream: %v", err)
	return nil
}

// peer plays one end of a new tunnel, without a stream if the implementation
// is a server.
func (s *script) peer(settings ...http2.Setting) *peer {
	if s.role == asServer {
		return s.playClient(settings...)
	}
	_, st := s.open(settings...)
	return st.p
}

// wantServing checks that the server under test serves others after a flood. It
// may still have that to get rid of: refuse for a moment, as one does whose
// backlog is full, and hand the application streams that are over.
func (s *script) wantServing() {
	if s.role != asServer {
		return
	}
	s.serve()
	s.begin(func() { s.replyToAll("still there?", "yes") })
	var st *stream
	for end := time.Now().Add(s.opts.timeout()); ; s.quiet() {
		st = s.playClient().connect(s.authority())
		if st.verdict() != http.StatusServiceUnavailable || time.Now().After(end) {
			break
		}
	}
	st.wantStatus(200)
	st.send("still there?")
	st.wantData("yes")
}

// replyToAll plays an application that replies to each stream that says want.
func (s *script) replyToAll(want, reply string) {
	for {
		conn, err := s.server.Accept(s.ctx)
		if err != nil {
			return
		}
		s.begin(func() {
			defer conn.Close()
			defer context.AfterFunc(s.ctx, func() { conn.Close() })()
			got := make([]byte, len(want))
			if _, err := io.ReadFull(conn, got); err == nil && string(got) == want {
				_, _ = io.WriteString(conn, reply)
			}
		})
	}
}

// sharedPeer is the peer of the tunnel that the client under test uses now: the
// first, unless it made another one.
func (s *script) sharedPeer() *peer {
	if s.shared == nil || len(s.raw) > 0 {
		s.shared = s.playServer()
	}
	return s.shared
}

// connectOnAny waits for the client under test to open a stream, on p or on a
// tunnel that it makes for it.
func (s *script) connectOnAny(p *peer) *stream {
	for wait := time.Duration(0); wait < s.opts.timeout(); wait += s.opts.quiet() {
		if p.wait(s.opts.quiet(), func() bool { return len(p.opened) > 0 }) == nil {
			return p.wantConnect()
		}
		if len(s.raw) > 0 {
			p = s.playServer()
			s.shared = p
		}
	}
	s.fatalf("the client does not open a stream")
	return nil
}
