package hbonetest

import (
	"io"
	"time"

	"golang.org/x/net/http2"
)

var limitTests = append([]test{
	{rule: "limit-preface", name: "silent-client-is-dropped", role: asServer, slow: true, run: func(s *script) {
		conn := s.secureClient(s.dialServer())
		s.wantDropped(conn)
	}},
	{rule: "limit-preface", name: "half-a-preface", role: asServer, slow: true, run: func(s *script) {
		conn := s.secureClient(s.dialServer())
		_, _ = io.WriteString(conn, http2.ClientPreface[:10])
		s.wantDropped(conn)
	}},
	{rule: "limit-preface", name: "no-handshake", role: asServer, tls: true, slow: true, run: func(s *script) {
		s.wantDropped(s.dialServer())
	}},
	{rule: "limit-preface", name: "silent-server-is-given-up", role: asClient, slow: true, run: func(s *script) {
		d := s.dialContext(s.ctx, s.hop())
		s.secureServer(s.acceptRaw(), s.credentials(reviewsID, webID))
		timer := time.NewTimer(orDefault(s.opts.Patience, 70*time.Second))
		defer timer.Stop()
		select {
		case <-d.done:
			d.wantError("the server says nothing")
		case <-timer.C:
			s.errorf("Dial waits for a server that says nothing")
		}
	}},
	{rule: "limit-continuation", name: "endless-block", role: asEither, run: func(s *script) {
		p, id := s.beforeHeaders()
		block := p.encodeSafe(s.fields())
		p.frame(func(fr *http2.Framer) {
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block})
		})
		s.flood(p, func(fr *http2.Framer, _ int) { _ = fr.WriteContinuation(id, false, nil) })
	}},
	{rule: "limit-continuation", name: "large-block", role: asEither, run: func(s *script) {
		p, id := s.beforeHeaders()
		block := p.encodeSafe(s.fields())
		p.frame(func(fr *http2.Framer) {
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block})
		})
		junk := make([]byte, minFrameSize) // indexed field 0 is an error at the end, if it is ever reached
		s.flood(p, func(fr *http2.Framer, i int) {
			if i < 4096 { // 64 MiB
				_ = fr.WriteContinuation(id, false, junk)
			}
		})
	}},
}, floods()...)

// floods are frames that are harmless alone, sent without end (RFC 9113
// §10.5).
func floods() []test {
	scripts := []struct {
		name string
		role role
		send func(s *script, st *stream, fr *http2.Framer, i int)
	}{
		{"rapid-reset", asServer, func(s *script, st *stream, fr *http2.Framer, _ int) {
			p := st.p
			id := p.nextID
			p.nextID += 2
			p.addStream(id)
			block := p.encode([]string{":method", "CONNECT", ":authority", s.server.Authorities[0]})
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true})
			_ = fr.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		{"malformed-requests", asServer, func(_ *script, st *stream, fr *http2.Framer, _ int) {
			p := st.p
			id := p.nextID
			p.nextID += 2
			p.addStream(id)
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode([]string{":method", "CONNECT"}), EndHeaders: true})
		}},
		{"settings", asEither, func(_ *script, _ *stream, fr *http2.Framer, _ int) { _ = fr.WriteSettings() }},
		{"settings-changing-the-window", asEither, func(_ *script, _ *stream, fr *http2.Framer, i int) {
			_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(initialWindow + i%2)})
		}},
		{"ping", asEither, func(_ *script, _ *stream, fr *http2.Framer, i int) { _ = fr.WritePing(false, [8]byte{byte(i)}) }},
		{"empty-data", asEither, func(_ *script, st *stream, fr *http2.Framer, _ int) { _ = fr.WriteData(st.id, false, nil) }},
		{"priority", asEither, func(_ *script, st *stream, fr *http2.Framer, i int) {
			_ = fr.WritePriority(st.id, http2.PriorityParam{Weight: uint8(i)})
		}},
		{"window-update", asEither, func(_ *script, _ *stream, fr *http2.Framer, _ int) { _ = fr.WriteWindowUpdate(0, 1) }},
		{"unknown-frames", asEither, func(_ *script, _ *stream, fr *http2.Framer, _ int) { _ = fr.WriteRawFrame(0xb7, 0, 0, nil) }},
		{"interim-answers", asClient, nil}, // of the CONNECT that comes next
	}
	var tests []test
	for _, f := range scripts {
		tests = append(tests, test{rule: "limit-flood", name: f.name, role: f.role, run: func(s *script) {
			if f.send == nil {
				s.floodInterim()
				return
			}
			_, st := s.open()
			s.flood(st.p, func(fr *http2.Framer, i int) { f.send(s, st, fr, i) })
			s.wantServing()
		}})
	}
	return tests
}

func (s *script) floodInterim() {
	s.dialContext(s.ctx, s.hop())
	st := s.playServer().wantConnect()
	block := st.p.encodeSafe([]string{":status", "103"})
	s.flood(st.p, func(fr *http2.Framer, _ int) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: st.id, BlockFragment: block, EndHeaders: true})
	})
}

// flood sends a frame again and again, until the implementation has had
// enough. It may let the peer wait, but must not let it go on.
func (s *script) flood(p *peer, send func(fr *http2.Framer, i int)) {
	const batch = 200
	for i := 0; i < s.opts.flood(); i += batch {
		if p.gone() {
			return
		}
		p.frame(func(fr *http2.Framer) {
			for j := range batch {
				send(fr, i+j)
			}
		})
		p.flush()
	}
	// The last frames may still be on their way.
	if err := p.wait(s.opts.timeout(), func() bool { return len(p.goAways) > 0 }); err == errTooLong { //nolint:errorlint // our own
		s.errorf("nothing stops the flood of %d frames", s.opts.flood())
	}
}

// encodeSafe is encode for tests.
func (p *peer) encodeSafe(fields []string) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.encode(fields)
}

// wantDropped waits for the server to close a connection on which nothing
// happens.
func (s *script) wantDropped(conn io.Reader) {
	over := make(chan struct{})
	s.begin(func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, conn)
	})
	patience := orDefault(s.opts.Patience, 70*time.Second)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
		s.errorf("the server keeps a client that says nothing for %v", patience)
	}
}
