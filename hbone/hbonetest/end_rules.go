package hbonetest

import (
	"bytes"
	"strings"

	"golang.org/x/net/http2"
)

var endTests = []test{
	{rule: "end-half-close", name: "application-first", role: asEither, run: func(s *script) {
		a, st := s.open()
		a.send("that is all")
		a.closeWrite()
		if got := st.take(); string(got) != "that is all" {
			s.errorf("got %s", brief(got))
		}
		s.quiet()
		st.send("but I have more") // long after
		a.wantData("but I have more")
		st.end()
		a.wantEOF()
		st.wantNoReset()
	}},
	{rule: "end-half-close", name: "peer-first", role: asEither, run: func(s *script) {
		a, st := s.open()
		st.send("that is all")
		st.end()
		a.wantData("that is all")
		a.wantEOF()
		s.quiet()
		st.wantOpen()
		data := pattern(1, 200_000) // needs credit after the end of the other direction
		s.begin(func() {
			_, _ = a.Write(data)
			a.closeWrite()
		})
		if got := st.take(); !bytes.Equal(got, data) {
			s.errorf("%s", difference(got, data))
		}
		st.wantNoReset()
	}},
	{rule: "end-half-close", name: "on-last-data", role: asEither, run: func(s *script) {
		a, st := s.open()
		st.raw([]byte("data and end in one frame"), true)
		a.wantData("data and end in one frame")
		a.wantEOF()
		a.send("yes")
		st.wantData("yes")
	}},
	{rule: "end-half-close", name: "both-at-once", role: asEither, run: func(s *script) {
		a, st := s.open()
		a.send("bye")
		a.closeWrite()
		st.send("bye")
		st.end()
		if got := st.take(); string(got) != "bye" {
			s.errorf("got %s", brief(got))
		}
		a.wantData("bye")
		a.wantEOF()
		st.p.wantAlive()
		st.wantNoReset()
	}},
	{rule: "end-half-close", name: "with-closed-windows", role: asEither, run: func(s *script) {
		a, st := s.openWindow(0) // END_STREAM needs no window
		a.closeWrite()
		st.wantEnd()
	}},
	{rule: "end-close", name: "delivers-what-was-written", role: asEither, run: func(s *script) {
		a, st := s.open()
		data := pattern(1, 30_000)
		a.send(string(data))
		a.Close()
		if got := st.take(); !bytes.Equal(got, data) {
			s.errorf("%s", difference(got, data))
		}
	}},
	{rule: "end-close", name: "stops-a-peer-that-sends", role: asEither, run: func(s *script) {
		a, st := s.open()
		a.Close()
		st.await("END_STREAM", func() bool { return st.ended })
		for range 200 { // a peer that goes on is told to stop
			if st.isOver() {
				break
			}
			if st.creditNow() > 100 {
				st.raw([]byte("are you there?"), false)
			}
			s.pause(s.opts.quiet() / 20)
		}
		st.wantReset()
		st.p.wantAlive()
	}},
	{rule: "end-abort", name: "by-application", role: asEither, run: func(s *script) {
		a, st := s.open()
		s.wantEcho(a, st)
		a.abort()
		st.wantAborted(http2.ErrCodeConnect, http2.ErrCodeInternal, http2.ErrCodeStreamClosed, http2.ErrCodeProtocol)
	}},
	{rule: "end-abort", name: "connect-error", role: asEither, run: func(s *script) {
		a, st := s.open()
		s.wantEcho(a, st)
		a.abort()
		st.wantReset(http2.ErrCodeConnect)
	}},
	{rule: "end-abort", name: "while-data-is-under-way", role: asEither, run: func(s *script) {
		a, st := s.openWindow(1000)
		s.writeBeside(a, pattern(1, 1<<20))
		st.wantLength(1000)
		a.abort()
		st.resume() // a proxy that waits for a window does not read, and does not know yet
		st.wantAborted()
	}},
	{rule: "end-abort-received", name: "is-no-clean-end", role: asEither, run: func(s *script) {
		p := s.peer()
		for _, code := range []http2.ErrCode{http2.ErrCodeConnect, http2.ErrCodeInternal, http2.ErrCodeProtocol} {
			a, st := s.more(p)
			s.wantEcho(a, st)
			st.reset(code)
			a.wantBroken("the peer aborted with " + code.String())
		}
	}},
	{rule: "end-abort-received", name: "ends-writing", role: asEither, run: func(s *script) {
		a, st := s.open()
		s.wantEcho(a, st)
		st.reset(http2.ErrCodeConnect)
		a.wantWriteError("the peer aborted")
	}},
	{rule: "end-abort-received", name: "after-half-close", role: asEither, run: func(s *script) {
		a, st := s.open()
		s.wantEcho(a, st)
		a.closeWrite()
		st.wantEnd()
		st.send("and then")
		a.wantData("and then")
		st.reset(http2.ErrCodeConnect)
		a.wantBroken("the peer aborted")
	}},
	{rule: "end-abort-received", name: "leaves-others-alone", role: asEither, run: func(s *script) {
		a, st := s.open()
		_, other := s.more(st.p)
		other.reset(http2.ErrCodeConnect)
		s.wantEcho(a, st)
	}},
	{rule: "end-reset-after-end", name: "keeps-what-came", role: asEither, run: func(s *script) {
		a, st := s.open()
		data := pattern(3, min(60_000, int(st.creditNow())))
		st.send(string(data))
		st.end()
		st.reset(http2.ErrCodeNo) // as a server that needs no more input
		st.p.wantAlive()
		if got, err := a.readAll(); err != nil || !bytes.Equal(got, data) {
			s.errorf("the application got: %s (%v)", difference(got, data), err)
		}
		a.wantWriteError("the peer takes no more")
	}},
	{rule: "end-late-frames", name: "ignored", role: asEither, run: func(s *script) {
		other, first := s.open()
		p := first.p
		a, st := s.more(p)
		a.abort()
		st.wantReset()
		p.frame(func(fr *http2.Framer) { // they may have been on their way
			_ = fr.WriteWindowUpdate(st.id, 100)
			_ = fr.WriteData(st.id, false, []byte("late"))
			_ = fr.WriteData(st.id, true, []byte("later"))
			_ = fr.WriteRSTStream(st.id, http2.ErrCodeCancel)
		})
		p.mu.Lock()
		p.credit -= 9
		p.mu.Unlock()
		p.wantAlive()
		s.wantEcho(other, first)
	}},
	{rule: "end-late-frames", name: "updates-after-both-ends", role: asEither, run: func(s *script) {
		a, st := s.open()
		a.closeWrite()
		st.end()
		st.wantEnd()
		a.wantEOF()
		st.p.frame(func(fr *http2.Framer) {
			_ = fr.WriteWindowUpdate(st.id, 100)
			_ = fr.WriteRSTStream(st.id, http2.ErrCodeNo)
		})
		st.p.wantAlive()
	}},
	{rule: "end-after-end", name: "data", role: asEither, run: func(s *script) {
		_, st := s.open()
		st.send("end")
		st.end()
		st.raw([]byte("and yet"), false)
		st.wantError(http2.ErrCodeStreamClosed)
		s.wantServing()
	}},
	{rule: "end-tunnel-lost", name: "is-no-clean-end", role: asEither, run: func(s *script) {
		a, st := s.open()
		s.wantEcho(a, st)
		st.p.close()
		a.wantBroken("the tunnel was lost")
	}},
	{rule: "end-tunnel-lost", name: "mid-frame", role: asEither, run: func(s *script) {
		a, st := s.open()
		st.p.write([]byte{0, 0, 100, byte(http2.FrameData), 0, 0, 0, 0, byte(st.id), 'h', 'a', 'l', 'f'})
		st.p.flush()
		st.p.close()
		got, err := a.readAll()
		if err == nil || !strings.HasPrefix("half", string(got)) {
			s.errorf("the application got %s, %v; want an error", brief(got), err)
		}
	}},
}

// wantAborted waits for an abort of the stream, which leaves the tunnel alone.
func (st *stream) wantAborted(codes ...http2.ErrCode) {
	st.wantReset(codes...)
	st.p.mu.Lock()
	if st.ended {
		st.p.s.errorf("an abort looks like a clean end")
	}
	st.p.mu.Unlock()
	st.p.wantAlive()
}

// wantNoReset checks that the implementation ended the stream in good order.
func (st *stream) wantNoReset() {
	st.p.ping()
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	for _, code := range st.resets {
		if code != http2.ErrCodeNo {
			st.p.s.errorf("got RST_STREAM with %v after both directions have ended", code)
		}
	}
}
