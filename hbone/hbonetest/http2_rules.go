package hbonetest

import (
	"errors"
	"net"
	"strings"

	"golang.org/x/net/http2"
)

var http2Tests = append([]test{
	{rule: "h2-preface", name: "not-http2", role: asServer, run: func(s *script) {
		p := s.newPeer(s.secureClient(s.dialServer()), true)
		p.write([]byte("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n"))
		p.listen()
		p.wantGone(http2.ErrCodeProtocol)
	}},
	{rule: "h2-preface", name: "settings-first", role: asEither, run: func(s *script) {
		p := s.rawPeer()
		p.frame(func(fr *http2.Framer) { _ = fr.WritePing(false, [8]byte{}) })
		p.listen()
		p.wantGone(http2.ErrCodeProtocol)
	}},
	{rule: "h2-errors", name: "connection-closed", role: asEither, run: func(s *script) {
		_, st := s.open()
		st.p.frame(func(fr *http2.Framer) { _ = fr.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7)) })
		if err := st.p.wait(s.opts.timeout(), func() bool { return false }); errors.Is(err, errTooLong) {
			s.errorf("the connection is not closed after a connection error")
		}
	}},
	{rule: "h2-preface", name: "in-pieces", role: asServer, run: func(s *script) {
		conn := s.secureClient(s.dialServer())
		p := s.newPeer(pieces{conn, 1}, true)
		p.start()
		s.more(p)
	}},
	{rule: "h2-settings", name: "advertised", role: asEither, run: func(s *script) {
		p := s.peer()
		p.mu.Lock()
		defer p.mu.Unlock()
		if s.role == asClient {
			if push, ok := p.settings[http2.SettingEnablePush]; !ok || push != 0 {
				s.errorf("the client does not switch push off")
			}
			return
		}
		if n := p.setting(http2.SettingMaxConcurrentStreams, 1<<31); n < 100 {
			s.errorf("the server allows %d streams, want at least 100", n)
		}
		if n := p.setting(http2.SettingMaxHeaderListSize, 1<<31); n < 16<<10 {
			s.errorf("the server takes %d bytes of header, want at least 16 KiB", n)
		}
	}},
	{rule: "h2-settings", name: "acknowledged", role: asEither, run: func(s *script) {
		p := s.peer()
		for range 3 {
			p.mu.Lock()
			before := p.acks
			p.mu.Unlock()
			p.sendSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 50})
			p.await("the acknowledgement of SETTINGS", func() bool { return p.acks > before })
		}
	}},
	{rule: "h2-settings", name: "unknown-ignored", role: asEither, run: func(s *script) {
		a, st := s.open(http2.Setting{ID: 0xf0f0, Val: 1}, http2.Setting{ID: 0x0a0a, Val: 1<<32 - 1})
		st.p.sendSettings(http2.Setting{ID: 0xf0f1, Val: 7})
		s.wantEcho(a, st)
	}},
	{rule: "h2-unknown-frames", name: "ignored", role: asEither, run: func(s *script) {
		a, st := s.open()
		for _, id := range []uint32{0, st.id, st.id + 20} {
			st.p.frame(func(fr *http2.Framer) { _ = fr.WriteRawFrame(0xb7, 0xff, id, []byte("grease")) })
		}
		s.wantEcho(a, st)
	}},
	{rule: "h2-padding", name: "data", role: asEither, run: func(s *script) {
		a, st := s.open()
		for _, padding := range []int{0, 1, 255} {
			st.padded("padded", false, padding)
			a.wantData("padded")
		}
		st.padded("", false, 100)
		st.padded("end", true, 7)
		a.wantData("end")
		a.wantEOF()
	}},
	{rule: "h2-padding", name: "counts", role: asEither, run: func(s *script) {
		a, st := s.open()
		// Twice what the connection's first window is, nearly all of it padding: credit for it must come back.
		for range 2 * initialWindow / 257 {
			if err := st.p.wait(s.opts.timeout(), func() bool { return st.credit > 257 && st.p.credit > 257 }); err != nil {
				s.fatalf("no credit for padding: %v", err)
			}
			st.padded("x", false, 255)
			a.wantData("x")
		}
	}},
	{rule: "h2-padding", name: "headers", role: asEither, run: func(s *script) {
		s.wantHeaders(func(p *peer, id uint32, block []byte) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, PadLength: 200})
		})
	}},
	{rule: "h2-padding", name: "more-than-payload", role: asEither, run: func(s *script) {
		_, st := s.open()
		st.p.frame(func(fr *http2.Framer) {
			_ = fr.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, st.id, []byte{5, 'a', 'b'})
		})
		st.p.wantGone(http2.ErrCodeProtocol)
	}},
	{rule: "h2-continuation", name: "split", role: asEither, run: func(s *script) {
		s.wantHeaders(func(p *peer, id uint32, block []byte) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:1]})
			for len(block) > 3 {
				block = block[1:]
				_ = p.fr.WriteContinuation(id, false, block[:1])
			}
			_ = p.fr.WriteContinuation(id, true, block[1:])
		})
	}},
	{rule: "h2-continuation", name: "interrupted", role: asEither, run: func(s *script) {
		p, id := s.beforeHeaders()
		p.frame(func(fr *http2.Framer) {
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(s.fields())})
			_ = fr.WritePing(false, [8]byte{})
		})
		p.wantGone(http2.ErrCodeProtocol)
	}},
	{rule: "h2-continuation", name: "of-another-stream", role: asEither, run: func(s *script) {
		p, id := s.beforeHeaders()
		p.frame(func(fr *http2.Framer) {
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(s.fields())})
			_ = fr.WriteContinuation(id+2, true, nil)
		})
		p.wantGone(http2.ErrCodeProtocol)
	}},
	{rule: "h2-continuation", name: "without-headers", role: asEither, run: func(s *script) {
		_, st := s.open()
		st.p.frame(func(fr *http2.Framer) { _ = fr.WriteContinuation(st.id, true, nil) })
		st.p.wantGone(http2.ErrCodeProtocol)
	}},
	{rule: "h2-priority", name: "ignored", role: asEither, run: func(s *script) {
		a, st := s.open()
		st.p.frame(func(fr *http2.Framer) {
			_ = fr.WritePriority(st.id, http2.PriorityParam{StreamDep: st.id + 4, Weight: 3})
			_ = fr.WritePriority(st.id+10, http2.PriorityParam{Exclusive: true})
		})
		s.wantEcho(a, st)
	}},
	{rule: "h2-priority", name: "in-headers", role: asEither, run: func(s *script) {
		s.wantHeaders(func(p *peer, id uint32, block []byte) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{
				StreamID: id, BlockFragment: block, EndHeaders: true, Priority: http2.PriorityParam{StreamDep: 0, Weight: 200},
			})
		})
	}},
	{rule: "h2-hpack", name: "dynamic-table", role: asServer, run: func(s *script) {
		p := s.playClient()
		for range 5 { // from the second on, indexed fields
			st := p.connect(s.authority(), "baggage", "k8s.cluster.name=east", "x-long", strings.Repeat("v", 1000))
			a := s.accept()
			st.wantStatus(200)
			s.wantEcho(a, st)
		}
	}},
	{rule: "h2-hpack", name: "broken-block", role: asEither, run: func(s *script) {
		p, id := s.beforeHeaders()
		p.frame(func(fr *http2.Framer) {
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0x7f}, EndHeaders: true})
		})
		p.wantGone(http2.ErrCodeCompression)
	}},
	{rule: "h2-frame-size", name: "respected", role: asEither, run: func(s *script) {
		a, st := s.open() // the peer's limit is the smallest, 16 KiB: its framer checks it
		data := pattern(1, 300<<10)
		s.begin(func() { _, _ = a.Write(data) })
		st.wantData(string(data))
	}},
	{rule: "h2-frame-size", name: "largest", role: asEither, run: func(s *script) {
		a, st := s.open()
		st.p.mu.Lock()
		size := int(min(int64(st.p.setting(http2.SettingMaxFrameSize, minFrameSize)), st.credit, st.p.credit))
		st.p.mu.Unlock()
		data := pattern(2, size)
		st.raw(data, false)
		a.wantData(string(data))
	}},
	{rule: "h2-frame-size", name: "too-large", role: asEither, run: func(s *script) {
		_, st := s.open()
		st.p.mu.Lock()
		size := int(st.p.setting(http2.SettingMaxFrameSize, minFrameSize)) + 1
		st.p.mu.Unlock()
		st.p.frame(func(fr *http2.Framer) { _ = fr.WriteRawFrame(0xb7, 0, 0, make([]byte, size)) })
		st.p.wantGone(http2.ErrCodeFrameSize)
	}},
	{rule: "h2-push", name: "refused", role: asClient, run: func(s *script) {
		_, st := s.open()
		st.p.frame(func(fr *http2.Framer) {
			_ = fr.WritePushPromise(http2.PushPromiseParam{
				StreamID: st.id, PromiseID: 2, EndHeaders: true,
				BlockFragment: st.p.encode([]string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/"}),
			})
		})
		st.p.wantGone(http2.ErrCodeProtocol)
	}},
	{rule: "h2-push", name: "refused", role: asServer, run: func(s *script) {
		_, st := s.open()
		st.p.frame(func(fr *http2.Framer) {
			_ = fr.WritePushPromise(http2.PushPromiseParam{StreamID: st.id, PromiseID: 2, EndHeaders: true})
		})
		st.p.wantGone(http2.ErrCodeProtocol)
	}},
	{rule: "h2-stream-ids", name: "even", role: asServer, run: func(s *script) {
		p := s.playClient()
		p.headers(2, false, s.fields()...)
		p.wantGone(http2.ErrCodeProtocol)
	}},
	{rule: "h2-stream-ids", name: "going-back", role: asServer, run: func(s *script) {
		_, st := s.open()
		p := st.p
		p.mu.Lock()
		p.nextID = 101
		p.mu.Unlock()
		s.more(p)
		p.headers(51, false, s.fields()...)
		p.wantGone(http2.ErrCodeProtocol, http2.ErrCodeStreamClosed)
	}},
	{rule: "h2-stream-ids", name: "opened-by-server", role: asClient, run: func(s *script) {
		_, st := s.open()
		st.p.headers(2, false, ":method", "CONNECT", ":authority", addressAuthority)
		st.p.wantGone(http2.ErrCodeProtocol)
	}},
}, violations()...)

// violations are frames that break the rules of a connection (RFC 9113 §6).
func violations() []test {
	idle := func(st *stream) uint32 { return st.id + 20 }
	scripts := []struct {
		rule, name string
		codes      []http2.ErrCode
		send       func(fr *http2.Framer, st *stream)
	}{
		{"h2-settings", "window-too-large", []http2.ErrCode{http2.ErrCodeFlowControl}, func(fr *http2.Framer, _ *stream) {
			_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		}},
		{"h2-settings", "frame-size-too-small", []http2.ErrCode{http2.ErrCodeProtocol}, func(fr *http2.Framer, _ *stream) {
			_ = fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 100})
		}},
		{"h2-settings", "push-neither-0-nor-1", []http2.ErrCode{http2.ErrCodeProtocol}, func(fr *http2.Framer, _ *stream) {
			_ = fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2})
		}},
		{"h2-settings", "odd-length", []http2.ErrCode{http2.ErrCodeFrameSize}, func(fr *http2.Framer, _ *stream) {
			_ = fr.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 7))
		}},
		{"h2-settings", "ack-with-payload", []http2.ErrCode{http2.ErrCodeFrameSize}, func(fr *http2.Framer, _ *stream) {
			_ = fr.WriteRawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, make([]byte, 6))
		}},
		{"h2-settings", "on-a-stream", []http2.ErrCode{http2.ErrCodeProtocol}, func(fr *http2.Framer, st *stream) {
			_ = fr.WriteRawFrame(http2.FrameSettings, 0, st.id, nil)
		}},
		{"h2-malformed", "short-ping", []http2.ErrCode{http2.ErrCodeFrameSize}, func(fr *http2.Framer, _ *stream) {
			_ = fr.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7))
		}},
		{"h2-malformed", "short-goaway", []http2.ErrCode{http2.ErrCodeFrameSize}, func(fr *http2.Framer, _ *stream) {
			_ = fr.WriteRawFrame(http2.FrameGoAway, 0, 0, make([]byte, 7))
		}},
		{"h2-malformed", "short-window-update", []http2.ErrCode{http2.ErrCodeFrameSize}, func(fr *http2.Framer, st *stream) {
			_ = fr.WriteRawFrame(http2.FrameWindowUpdate, 0, st.id, make([]byte, 3))
		}},
		{"h2-malformed", "short-reset", []http2.ErrCode{http2.ErrCodeFrameSize}, func(fr *http2.Framer, st *stream) {
			_ = fr.WriteRawFrame(http2.FrameRSTStream, 0, st.id, make([]byte, 3))
		}},
		{"h2-malformed", "data-without-stream", []http2.ErrCode{http2.ErrCodeProtocol}, func(fr *http2.Framer, _ *stream) {
			_ = fr.WriteRawFrame(http2.FrameData, 0, 0, []byte("x"))
		}},
		{"h2-malformed", "headers-without-stream", []http2.ErrCode{http2.ErrCodeProtocol}, func(fr *http2.Framer, _ *stream) {
			_ = fr.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 0, []byte{0x88})
		}},
		{"h2-malformed", "reset-without-stream", []http2.ErrCode{http2.ErrCodeProtocol}, func(fr *http2.Framer, _ *stream) {
			_ = fr.WriteRawFrame(http2.FrameRSTStream, 0, 0, make([]byte, 4))
		}},
		{"h2-malformed", "ping-on-a-stream", []http2.ErrCode{http2.ErrCodeProtocol}, func(fr *http2.Framer, st *stream) {
			_ = fr.WriteRawFrame(http2.FramePing, 0, st.id, make([]byte, 8))
		}},
		{"h2-malformed", "goaway-on-a-stream", []http2.ErrCode{http2.ErrCodeProtocol}, func(fr *http2.Framer, st *stream) {
			_ = fr.WriteRawFrame(http2.FrameGoAway, 0, st.id, make([]byte, 8))
		}},
		{"h2-idle-streams", "data", []http2.ErrCode{http2.ErrCodeProtocol}, func(fr *http2.Framer, st *stream) {
			_ = fr.WriteData(idle(st), false, []byte("x"))
		}},
		{"h2-idle-streams", "reset", []http2.ErrCode{http2.ErrCodeProtocol}, func(fr *http2.Framer, st *stream) {
			_ = fr.WriteRSTStream(idle(st), http2.ErrCodeCancel)
		}},
		{"h2-idle-streams", "window-update", []http2.ErrCode{http2.ErrCodeProtocol}, func(fr *http2.Framer, st *stream) {
			_ = fr.WriteWindowUpdate(idle(st), 1)
		}},
	}
	var tests []test
	for _, v := range scripts {
		tests = append(tests, test{rule: v.rule, name: v.name, role: asEither, run: func(s *script) {
			_, st := s.open()
			st.p.frame(func(fr *http2.Framer) { v.send(fr, st) })
			st.p.wantGone(v.codes...)
			s.wantServing()
		}})
	}
	return tests
}

// rawPeer is one end of a connection on which nothing was sent, but a client's
// preface.
func (s *script) rawPeer() *peer {
	if s.role == asServer {
		p := s.newPeer(s.secureClient(s.dialServer()), true)
		p.write([]byte(http2.ClientPreface))
		return p
	}
	s.dial(s.hop())
	return s.newPeer(s.secureServer(s.acceptRaw(), s.credentials(reviewsID, webID)), false)
}

// fields are those of the header block that a peer sends first: a request, or
// a response.
func (s *script) fields(more ...string) []string {
	if s.role == asServer {
		return append([]string{":method", "CONNECT", ":authority", s.authority()}, more...)
	}
	return append([]string{":status", "200"}, more...)
}

// beforeHeaders is a conversation in which the peer's header block comes next.
func (s *script) beforeHeaders() (*peer, uint32) {
	if s.role == asServer {
		p := s.playClient()
		return p, p.newStream().id
	}
	s.dial(s.hop())
	p := s.playServer()
	return p, p.wantConnect().id
}

// wantHeaders sends a header block in an unusual form, which must be
// understood.
func (s *script) wantHeaders(send func(p *peer, id uint32, block []byte)) {
	if s.role == asServer {
		p := s.playClient()
		st := p.newStream()
		st.authority = s.authority()
		p.frame(func(*http2.Framer) { send(p, st.id, p.encode(s.fields("baggage", "k=v"))) })
		a := s.accept()
		st.wantStatus(200)
		s.wantEcho(a, st)
		return
	}
	d := s.dial(s.hop())
	p := s.playServer()
	st := p.wantConnect()
	p.frame(func(*http2.Framer) { send(p, st.id, p.encode(s.fields("baggage", "k=v"))) })
	s.wantEcho(d.wantConn(), st)
}

// wantEcho checks that a stream works, both ways.
func (s *script) wantEcho(a *app, st *stream) {
	st.send("ping")
	a.wantData("ping")
	a.send("pong")
	st.wantData("pong")
}

// pieces writes and reads at most n bytes at a time.
type pieces struct {
	net.Conn
	n int
}

func (c pieces) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = c.Conn.Write(b[n:min(n+c.n, len(b))])
		n += m
	}
	return n, err
}

func (c pieces) Read(b []byte) (int, error) { return c.Conn.Read(b[:min(c.n, len(b))]) }

// pattern makes n bytes that differ for each seed and repeat at no round
// number.
func pattern(seed byte, n int) []byte {
	b := make([]byte, n)
	x := uint32(seed) + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}
