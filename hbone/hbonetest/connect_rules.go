package hbonetest

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"golang.org/x/net/http2"
)

var connectTests = append([]test{
	{rule: "connect-form", name: "sent", role: asClient, run: func(s *script) {
		_, st := s.open()
		st.p.mu.Lock()
		defer st.p.mu.Unlock()
		if st.blocks[0].end {
			s.errorf("the CONNECT ends its stream")
		}
		want := map[string]string{":method": "CONNECT", ":authority": addressAuthority}
		for _, f := range st.blocks[0].fields {
			if value, ok := want[f.Name]; ok && value == f.Value {
				delete(want, f.Name)
			} else if f.IsPseudo() {
				s.errorf("the CONNECT has %s: %q", f.Name, f.Value)
			}
		}
		if len(want) > 0 {
			s.errorf("the CONNECT lacks %v", want)
		}
	}},
	{rule: "connect-method", name: "others-refused", role: asServer, run: func(s *script) {
		p := s.playClient()
		for _, method := range []string{"GET", "POST", "OPTIONS", "PRI"} {
			st := p.newStream()
			p.headers(st.id, true, ":method", method, ":scheme", "https", ":authority", s.authority(), ":path", "/")
			st.wantRefused()
		}
		s.more(p)
	}},
	{rule: "connect-method", name: "no-extended-connect", role: asServer, run: func(s *script) {
		p := s.playClient()
		st := p.newStream()
		p.headers(st.id, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", s.authority(), ":path", "/")
		st.wantRefused()
		s.wantServing()
	}},
	{rule: "connect-authority", name: "sent-unchanged", role: asClient, run: func(s *script) {
		for _, authority := range []string{
			addressAuthority, ipv6Authority, hostAuthority, "[::1]:1", "[::ffff:10.1.0.10]:8080", "Reviews.App.svc.cluster.local:65535", "*.example.com:443", "xn--bcher-kva.example:80",
		} {
			hop := s.hop()
			hop.Authority = authority
			s.reach(hop, func(st *stream) {
				if st.authority != authority {
					s.errorf("the CONNECT is for %q, want %q", st.authority, authority)
				}
			})
		}
	}},
	{rule: "connect-authority", name: "all-forms", role: asServer, run: func(s *script) {
		p := s.playClient()
		for _, authority := range s.serve().Authorities {
			st := p.connect(authority)
			a := s.accept()
			st.wantStatus(200)
			s.wantEcho(a, st)
		}
	}},
	{rule: "connect-authority-malformed", name: "refused", role: asServer, run: func(s *script) {
		p := s.playClient()
		host := "reviews.app.svc.cluster.local"
		for _, authority := range []string{
			host, host + ":", ":80", ":", "10.1.0.10", "2001:db8::10:8080", "[2001:db8::10]", "[2001:db8::10", host + ":http", host + ":-1", host + ":65536", host + ":0",
			host + ":80:80", "user@" + host + ":80", host + ":80/", "https://" + host + ":80", " " + host + ":80", host + " :80", strings.Repeat("a", 4000) + ":80",
		} {
			if status := p.connect(authority).verdict(); status != 400 && status != 0 { // or a reset
				s.errorf("CONNECT to %q answered with %d, want 400", authority, status)
			}
		}
		s.wantServing()
	}},
	{rule: "connect-authority-malformed", name: "not-sent", role: asClient, run: func(s *script) {
		s.listen()
		hop := s.hop()
		hop.Authority = "reviews.app.svc.cluster.local:80\r\nx: y"
		d := s.dial(hop)
		s.begin(func() { // if it gets as far as that
			for {
				select {
				case raw := <-s.raw:
					raw.Close()
				case <-s.ctx.Done():
					return
				}
			}
		})
		d.wantError("the authority is none")
	}},
	{rule: "connect-authority-unknown", name: "refused", role: asServer, run: func(s *script) {
		p := s.playClient()
		for _, authority := range []string{
			"unknown.invalid:80", "unknown.app.svc.cluster.local:80", "192.0.2.1:80", "127.0.0.1:1", "[2001:db8::ffff]:80", "localhost:1",
		} {
			p.connect(authority).wantRefused()
		}
		s.more(p)
	}},
	{rule: "connect-headers", name: "sent", role: asClient, run: func(s *script) {
		hop := s.hop()
		hop.Header = ztunnelHeader()
		s.reach(hop, func(st *stream) {
			for name := range hop.Header {
				if got, want := st.field(0, strings.ToLower(name)), hop.Header.Get(name); got != want {
					s.errorf("the CONNECT has %s: %q, want %q", name, got, want)
				}
			}
		})
	}},
	{rule: "connect-headers", name: "ztunnel", role: asServer, run: func(s *script) { s.wantHeaderTaken(ztunnelHeader()) }},
	{rule: "connect-headers", name: "envoy", role: asServer, run: func(s *script) { s.wantHeaderTaken(envoyHeader()) }},
	{rule: "connect-headers", name: "unknown-ignored", role: asServer, run: func(s *script) {
		s.wantHeaderTaken(http.Header{"X-Unheard-Of": {"1", "2"}, "Cookie": {"a=b"}, "User-Agent": {"test"}, "Te": {"trailers"}})
	}},
	{rule: "connect-headers", name: "nonsense-in-known-ones", role: asServer, run: func(s *script) {
		s.wantHeaderTaken(http.Header{
			"Baggage": {",,=,a,b=,=c,a=b=c; ,", strings.Repeat("k=v,", 500)}, "Forwarded": {`for="`, `;;host=;by`}, "Traceparent": {"00-zz"}, "X-Forwarded-Network": {""},
		})
	}},
	{rule: "connect-header-size", name: "16-KiB", role: asServer, run: func(s *script) {
		h := http.Header{}
		for _, name := range []string{"A", "B", "C", "D", "E"} {
			h.Set("X-Large-"+name, strings.Repeat("v", 3<<10))
		}
		s.wantHeaderTaken(h)
	}},
	{rule: "connect-header-size", name: "too-large", role: asServer, run: func(s *script) {
		p := s.playClient()
		st := p.newStream()
		fields := s.fields("x-bomb", strings.Repeat("v", 4000)) // enters the dynamic table; then a byte each
		for range 15_000 {
			fields = append(fields, "x-bomb", strings.Repeat("v", 4000))
		}
		p.frame(func(fr *http2.Framer) {
			block := p.encode(fields)
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: st.id, BlockFragment: block[:minFrameSize], EndHeaders: len(block) <= minFrameSize})
			_ = fr.WriteContinuation(st.id, true, block[minFrameSize:])
		})
		st.wantRefused()
		s.wantServing()
	}},
	{rule: "connect-no-early-data", name: "client-waits", role: asClient, run: func(s *script) {
		d := s.dial(s.hop())
		st := s.playServer().wantConnect()
		d.wantPending("the CONNECT is not answered")
		st.p.mu.Lock()
		if st.total > 0 || st.ended {
			s.errorf("the client sends %d bytes before the answer (END_STREAM %v)", st.total, st.ended)
		}
		st.p.mu.Unlock()
		st.answer(200, false)
		s.wantEcho(d.wantConn(), st)
	}},
	{rule: "connect-no-early-data", name: "server-keeps-it", role: asServer, run: func(s *script) {
		p := s.playClient()
		st := p.connect(s.authority())
		st.send("early")
		a := s.accept()
		st.wantStatus(200)
		a.wantData("early")
		s.wantEcho(a, st)
	}},
	{rule: "connect-no-early-data", name: "dropped-if-refused", role: asServer, run: func(s *script) {
		p := s.playClient()
		st := p.connect("unknown.invalid:80")
		st.raw([]byte("early"), false)
		st.wantRefused()
		st.raw([]byte("late"), true)
		p.wantAlive()
		s.more(p)
	}},
	{rule: "connect-ended", name: "half-closed-at-once", role: asServer, run: func(s *script) {
		p := s.playClient()
		st := p.newStream()
		st.authority = s.authority()
		p.headers(st.id, true, s.fields()...) // a client with nothing to say
		a := s.accept()
		st.wantStatus(200)
		a.wantEOF()
		a.send("all I know")
		a.closeWrite()
		if got := st.take(); string(got) != "all I know" {
			s.errorf("got %s", brief(got))
		}
	}},
	{rule: "connect-cancelled", name: "by-context", role: asClient, run: func(s *script) {
		a, first := s.open()
		ctx, cancel := context.WithCancel(s.ctx)
		s.atEnd(cancel)
		d := s.dialContext(ctx, s.hop())
		st := s.connectOn(first.p)
		cancel()
		d.wantError("its context ended")
		if !errors.Is(d.err, context.Canceled) {
			s.errorf("Dial: %v, want context.Canceled", d.err)
		}
		st.wantReset(http2.ErrCodeCancel)
		s.wantEcho(a, first)
	}},
	{rule: "connect-cancelled", name: "by-reset", role: asServer, run: func(s *script) {
		p := s.playClient()
		for range 20 {
			st := p.connect(s.authority())
			st.reset(http2.ErrCodeCancel)
		}
		p.wantAlive()
	}},
}, malformedRequests()...)

// malformedRequests must come to a stream error, whatever else is right about
// them (RFC 9113 §8.1.1, §8.5).
func malformedRequests() []test {
	requests := []struct {
		name   string
		fields []string
	}{
		{"no-authority", []string{":method", "CONNECT"}},
		{"empty-authority", []string{":method", "CONNECT", ":authority", ""}},
		{"no-method", []string{":authority", addressAuthority}},
		{"scheme", []string{":method", "CONNECT", ":authority", addressAuthority, ":scheme", "https"}},
		{"path", []string{":method", "CONNECT", ":authority", addressAuthority, ":path", "/"}},
		{"two-authorities", []string{":method", "CONNECT", ":authority", addressAuthority, ":authority", hostAuthority}},
		{"two-methods", []string{":method", "CONNECT", ":method", "CONNECT", ":authority", addressAuthority}},
		{"status", []string{":method", "CONNECT", ":authority", addressAuthority, ":status", "200"}},
		{"unknown-pseudo-header", []string{":method", "CONNECT", ":authority", addressAuthority, ":hop", "1"}},
		{"pseudo-header-last", []string{":method", "CONNECT", "baggage", "k=v", ":authority", addressAuthority}},
		{"upper-case", []string{":method", "CONNECT", ":authority", addressAuthority, "Baggage", "k=v"}},
		{"connection", []string{":method", "CONNECT", ":authority", addressAuthority, "connection", "keep-alive"}},
		{"transfer-encoding", []string{":method", "CONNECT", ":authority", addressAuthority, "transfer-encoding", "chunked"}},
		{"te", []string{":method", "CONNECT", ":authority", addressAuthority, "te", "gzip"}},
		{"space-in-name", []string{":method", "CONNECT", ":authority", addressAuthority, "x y", "z"}},
		{"line-break-in-value", []string{":method", "CONNECT", ":authority", addressAuthority, "baggage", "k=v\r\nx: y"}},
		{"nul-in-value", []string{":method", "CONNECT", ":authority", addressAuthority, "baggage", "k=\x00"}},
		{"line-break-in-authority", []string{":method", "CONNECT", ":authority", addressAuthority + "\r\nx: y"}},
	}
	var tests []test
	for _, r := range requests {
		tests = append(tests, test{rule: "connect-malformed", name: r.name, role: asServer, run: func(s *script) {
			p := s.playClient()
			fields := r.fields
			for i, f := range fields { // so that only one thing is wrong
				if f == addressAuthority {
					fields[i] = s.authority()
				}
			}
			st := p.newStream()
			p.headers(st.id, false, fields...)
			st.wantRefused()
			s.wantServing()
		}})
	}
	return tests
}

// reach lets the client under test open a stream over a tunnel of its own
// choice, and looks at it.
func (s *script) reach(hop Hop, look func(*stream)) {
	d := s.dial(hop)
	p := s.sharedPeer()
	st := s.connectOnAny(p)
	st.answer(200, false)
	a := d.wantConn()
	st.p.mu.Lock()
	look(st)
	st.p.mu.Unlock()
	s.wantEcho(a, st)
}

// wantHeaderTaken sends a CONNECT with h, which must be accepted, and handed
// on unchanged if the application can see it.
func (s *script) wantHeaderTaken(h http.Header) {
	p := s.playClient()
	var fields []string
	for name, values := range h {
		for _, v := range values {
			fields = append(fields, strings.ToLower(name), v)
		}
	}
	st := p.newStream()
	st.authority = s.authority()
	p.frame(func(fr *http2.Framer) {
		block := p.encode(s.fields(fields...))
		first := block[:min(len(block), minFrameSize)]
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: st.id, BlockFragment: first, EndHeaders: len(first) == len(block)})
		if rest := block[len(first):]; len(rest) > 0 {
			_ = fr.WriteContinuation(st.id, true, rest)
		}
	})
	a := s.accept()
	st.wantStatus(200)
	s.wantEcho(a, st)
	seen, ok := a.Conn.(interface{ Header() http.Header })
	if !ok {
		return
	}
	for name, values := range h {
		if got := seen.Header().Values(name); strings.Join(got, "\n") != strings.Join(values, "\n") {
			s.errorf("the server got %s: %q, want %q", name, got, values)
		}
	}
}

// ztunnelHeader is what ztunnel sends with the CONNECT of a connection that
// comes from another network.
func ztunnelHeader() http.Header {
	return http.Header{
		"Baggage":             {"k8s.cluster.name=east,k8s.namespace.name=app,k8s.deployment.name=web,service.name=web,service.version=v1,cloud.region=eu,cloud.availability_zone=eu-1"},
		"Forwarded":           {`for="[2001:db8::20]:41234";host=reviews.app.svc.cluster.local`},
		"Traceparent":         {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"},
		"X-Forwarded-Network": {"east-network"},
	}
}

// envoyHeader is what Istio's Envoys send.
func envoyHeader() http.Header {
	return http.Header{
		"Baggage":             {"k8s.cluster.name=east"},
		"X-Istio-Source":      {"waypoint"},
		"X-Forwarded-Network": {"east-network"},
		"X-Request-Id":        {"7f4a6c2e-9a55-4c9f-8f4c-6b0e3c1d2a10"},
	}
}
