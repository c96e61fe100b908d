package hbonetest

import (
	"time"

	"golang.org/x/net/http2"
)

var lifetimeTests = []test{
	{rule: "goaway-received", name: "open-streams-go-on", role: asEither, run: func(s *script) {
		a, st := s.open()
		last := st.id
		if s.role == asServer {
			last = 0 // of streams that a server opened
		}
		st.p.sendGoAway(last, http2.ErrCodeNo)
		s.wantEcho(a, st)
		st.send("bye")
		st.end()
		a.wantData("bye")
		a.wantEOF()
		a.send("bye")
		a.closeWrite()
		if got := st.take(); string(got) != "bye" {
			s.errorf("got %s", brief(got))
		}
	}},
	{rule: "goaway-received", name: "tunnel-ends-with-its-last-stream", role: asEither, run: func(s *script) {
		a, st := s.open()
		last := st.id
		if s.role == asServer {
			last = 0
		}
		st.p.sendGoAway(last, http2.ErrCodeNo)
		st.end()
		a.wantEOF()
		a.Close()
		st.p.wantGone(http2.ErrCodeNo)
	}},
	{rule: "goaway-received", name: "new-streams-go-elsewhere", role: asClient, run: func(s *script) {
		a, st := s.open()
		st.p.sendGoAway(st.id, http2.ErrCodeNo)
		st.p.ping()
		d := s.dial(s.hop())
		second := s.playServer()
		next := second.wantConnect()
		next.answer(200, false)
		s.wantEcho(d.wantConn(), next)
		s.wantEcho(a, st)
		st.p.wantNoConnect("it was told to go away")
	}},
	{rule: "goaway-received", name: "in-two-steps", role: asClient, run: func(s *script) {
		a, st := s.open()
		st.p.sendGoAway(1<<31-1, http2.ErrCodeNo) // RFC 9113 §6.8
		st.p.ping()
		st.p.sendGoAway(st.id, http2.ErrCodeNo)
		s.wantEcho(a, st)
	}},
	{rule: "goaway-race", name: "retried-elsewhere", role: asClient, run: func(s *script) {
		a, first := s.open()
		d := s.dial(s.hop())
		st := s.connectOn(first.p)
		first.p.sendGoAway(st.id-2, http2.ErrCodeNo) // it was on its way
		second := s.playServer()
		again := second.wantConnect()
		if again.authority != st.authority {
			s.errorf("retried with authority %q, was %q", again.authority, st.authority)
		}
		again.answer(200, false)
		s.wantEcho(d.wantConn(), again)
		s.wantEcho(a, first)
	}},
	{rule: "goaway-race", name: "with-an-error", role: asClient, run: func(s *script) {
		_, first := s.open()
		d := s.dial(s.hop())
		s.connectOn(first.p)
		first.p.sendGoAway(first.id, http2.ErrCodeEnhanceYourCalm)
		second := s.playServer()
		again := second.wantConnect()
		again.answer(200, false)
		s.wantEcho(d.wantConn(), again)
	}},
	{rule: "goaway-sent", name: "on-drain", role: asServer, run: func(s *script) {
		a, st := s.open()
		drained := s.drain()
		st.p.await("GOAWAY", func() bool { return len(st.p.goAways) > 0 })
		st.p.await("a last GOAWAY", func() bool { return st.p.goAway().last <= st.id })
		st.p.mu.Lock()
		if g := st.p.goAway(); g.code != http2.ErrCodeNo || g.last < st.id {
			s.errorf("got %v, though stream %d is open", g, st.id)
		}
		st.p.mu.Unlock()
		s.wantEcho(a, st)
		st.end()
		a.wantEOF()
		a.Close()
		st.p.wantGone(http2.ErrCodeNo)
		drained()
	}},
	{rule: "goaway-sent", name: "racing-streams-are-served", role: asServer, run: func(s *script) {
		a, st := s.open()
		st.p.mu.Lock()
		st.p.silent = true // the drain cannot know how far we are
		st.p.mu.Unlock()
		drained := s.drain()
		st.p.await("GOAWAY", func() bool { return len(st.p.goAways) > 0 })
		b, racing := s.more(st.p)
		s.wantEcho(b, racing)
		st.p.mu.Lock()
		st.p.silent = false
		st.p.mu.Unlock()
		st.p.answerPings()
		for _, x := range []*app{a, b} {
			x.Close()
		}
		for _, x := range []*stream{st, racing} {
			x.reset(http2.ErrCodeCancel)
		}
		st.p.wantGone(http2.ErrCodeNo)
		drained()
	}},
	{rule: "goaway-sent", name: "idle-tunnels-end", role: asServer, run: func(s *script) {
		p := s.playClient()
		drained := s.drain()
		p.wantGone(http2.ErrCodeNo)
		drained()
	}},
	{rule: "ping-answered", name: "at-once", role: asEither, run: func(s *script) {
		p := s.peer()
		for range 20 {
			p.ping()
		}
	}},
	{rule: "ping-answered", name: "with-closed-windows", role: asEither, run: func(s *script) {
		a, st := s.openWindow(100)
		s.writeBeside(a, pattern(1, 1<<20))
		st.wantLength(100)
		st.p.ping()
	}},
	{rule: "ping-answered", name: "with-unread-data", role: asEither, run: func(s *script) {
		_, st := s.open()
		st.fill()
		st.p.ping()
	}},
	{rule: "ping-cadence", name: "every-ten-seconds", role: asEither, slow: true, run: func(s *script) {
		p := s.peer() // without streams, on a server
		for range 6 {
			s.pause(10 * time.Second)
			p.ping()
		}
		p.wantAlive()
	}},
	{rule: "keepalive", name: "silent-peer-is-given-up", role: asEither, slow: true, run: func(s *script) {
		a, st := s.open()
		s.wantEcho(a, st)
		st.p.mu.Lock()
		st.p.silent = true
		st.p.mu.Unlock()
		began := time.Now()
		patience := orDefault(s.opts.Patience, 70*time.Second)
		if err := st.p.wait(patience, st.p.hasEnded); err != nil {
			s.fatalf("a peer that answers no PING is kept for more than %v", time.Since(began))
		}
		a.wantBroken("the peer is gone")
	}},
	{rule: "keepalive", name: "quiet-peer-is-kept", role: asEither, slow: true, run: func(s *script) {
		a, st := s.open()
		s.pause(65 * time.Second) // it answers PINGs, and sends no data
		s.wantEcho(a, st)
	}},
	{rule: "max-streams", name: "beyond-are-refused", role: asServer, run: func(s *script) {
		p := s.playClient()
		p.mu.Lock()
		limit := p.setting(http2.SettingMaxConcurrentStreams, 1<<31-1)
		p.mu.Unlock()
		if limit > 1000 {
			s.skip("the server allows more streams than the suite opens")
		}
		var apps []*app
		var streams []*stream
		for range limit {
			a, st := s.more(p)
			apps, streams = append(apps, a), append(streams, st)
		}
		p.connect(s.authority()).wantError(http2.ErrCodeRefusedStream, http2.ErrCodeProtocol)
		if p.gone() {
			return // a client that goes beyond the limit may be cut off
		}
		s.wantEcho(apps[0], streams[0])
		streams[0].end()
		apps[0].wantEOF()
		apps[0].Close()
		streams[0].await("its end", func() bool { return streams[0].ended })
		p.wantAlive()
		s.more(p) // the slot is free again
	}},
	{rule: "max-streams", name: "respected", role: asClient, run: func(s *script) {
		_, first := s.open(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
		first.p.wantAlive()
		d := s.dial(s.hop())
		s.quiet()
		first.p.wantNoConnect("only one stream is allowed")
		if len(s.raw) > 0 { // it makes another tunnel
			st := s.playServer().wantConnect()
			st.answer(200, false)
			s.wantEcho(d.wantConn(), st)
			return
		}
		first.reset(http2.ErrCodeConnect) // or it waits
		st := s.connectOnAny(first.p)
		st.answer(200, false)
		s.wantEcho(d.wantConn(), st)
	}},
	{rule: "max-streams", name: "none-allowed", role: asClient, run: func(s *script) {
		a, first := s.open()
		first.p.sendSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
		first.p.await("the acknowledgement", func() bool { return first.p.acks >= 2 })
		s.dial(s.hop())
		s.quiet()
		first.p.wantNoConnect("no stream is allowed")
		s.wantEcho(a, first)
	}},
}

func (p *peer) sendGoAway(last uint32, code http2.ErrCode) {
	p.frame(func(fr *http2.Framer) { _ = fr.WriteGoAway(last, code, []byte("draining")) })
}

// hasEnded reports whether the connection has ended, or is about to. mu is held.
func (p *peer) hasEnded() bool { return p.readErr != nil || len(p.goAways) > 0 }

// answerPings answers the PINGs that came while the peer was silent.
func (p *peer) answerPings() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, data := range p.unanswered {
		_ = p.fr.WritePing(true, data)
	}
	p.unanswered = nil
}

// drain begins to drain the server under test. The returned function waits for
// that.
func (s *script) drain() (wait func()) {
	if s.server.Drain == nil {
		s.skip("the server cannot be drained by the suite")
	}
	return s.begin(func() {
		if err := s.server.Drain(s.ctx); err != nil && s.ctx.Err() == nil {
			s.errorf("Drain: %v", err)
		}
	})
}
