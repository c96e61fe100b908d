package hbonetest

import (
	"golang.org/x/net/http2"
)

var flowTests = []test{
	{rule: "flow-respected", name: "zero-window", role: asEither, run: func(s *script) {
		a, st := s.openWindow(0)
		s.writeBeside(a, pattern(1, 5000))
		st.wantLength(0)
		for _, n := range []int{1, 10, 1000} {
			st.grant(int64(n))
			st.wantLength(n)
			st.discard()
		}
		st.grant(5000 - 1011)
		st.wantLength(5000 - 1011)
	}},
	{rule: "flow-respected", name: "stream-window", role: asEither, run: func(s *script) {
		a, st := s.openWindow(10_000)
		s.writeBeside(a, pattern(1, 30_000))
		st.wantLength(10_000)
		st.grant(15_000)
		st.wantLength(25_000)
		st.grant(5_000)
		st.wantLength(30_000)
	}},
	{rule: "flow-respected", name: "connection-window", role: asEither, run: func(s *script) {
		a, st := s.openWindow(1 << 20)
		s.writeBeside(a, pattern(1, 100_000))
		st.wantLength(initialWindow)
		st.p.grant(1000)
		st.wantLength(initialWindow + 1000)
		st.p.grant(1 << 20)
		st.wantLength(100_000)
	}},
	{rule: "flow-respected", name: "window-of-one-byte", role: asEither, run: func(s *script) {
		a, st := s.openWindow(1)
		data := pattern(9, 200)
		s.writeBeside(a, data)
		for i := range data {
			st.await("a byte", func() bool { return st.data.Len() == i+1 })
			st.grant(1)
		}
		st.wantData(string(data))
	}},
	{rule: "flow-settings", name: "window-grows", role: asEither, run: func(s *script) {
		a, st := s.openWindow(100)
		s.writeBeside(a, pattern(1, 5000))
		st.wantLength(100)
		st.p.sendSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1100})
		st.wantLength(1100)
	}},
	{rule: "flow-settings", name: "window-shrinks-below-zero", role: asEither, run: func(s *script) {
		a, st := s.openWindow(1000)
		s.writeBeside(a, pattern(1, 5000))
		st.wantLength(1000)
		st.p.sendSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 400})
		st.p.await("the acknowledgement", func() bool { return st.p.acks >= 2 })
		st.grant(600) // it was 600 below zero
		st.wantLength(1000)
		st.grant(50)
		st.wantLength(1050)
	}},
	{rule: "flow-settings", name: "new-streams-get-the-new-window", role: asEither, run: func(s *script) {
		_, first := s.openWindow(1000)
		first.p.sendSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 50})
		first.p.await("the acknowledgement", func() bool { return first.p.acks >= 2 })
		a, st := s.more(first.p)
		s.writeBeside(a, pattern(1, 500))
		st.wantLength(50)
	}},
	{rule: "flow-credit", name: "returned", role: asEither, run: func(s *script) {
		a, st := s.open()
		st.p.mu.Lock()
		first := max(st.credit, st.p.credit)
		st.p.mu.Unlock()
		size := int(min(3*first, 32<<20)) // needs credit for stream and connection, unless the windows are huge
		data := pattern(4, size)
		s.beginErr(func() error { return st.writeAndEnd(data) })
		if got, err := a.readAll(); err != nil || string(got) != string(data) {
			s.errorf("the application got: %s (%v)", difference(got, data), err)
		}
	}},
	{rule: "flow-credit", name: "not-for-what-is-unread", role: asEither, run: func(s *script) {
		_, st := s.open()
		if st.fill() {
			s.errorf("the implementation takes %d bytes that the application does not read", fillBound)
		}
	}},
	{rule: "flow-credit", name: "returned-for-closed-streams", role: asEither, run: func(s *script) {
		a, first := s.open()
		p := first.p
		for range 6 {
			b, st := s.more(p)
			n := min(int(st.creditNow()), 40_000)
			for sent := 0; sent < n; sent += 10_000 {
				st.raw(make([]byte, 10_000), false)
			}
			p.wantAlive()
			b.Close() // with all of that unread
			st.reset(http2.ErrCodeCancel)
		}
		s.wantEcho(a, first)
	}},
	{rule: "flow-isolation", name: "stalled-reader", role: asEither, run: func(s *script) {
		_, stalled := s.open()
		a, st := s.more(stalled.p)
		stalled.fill()
		s.wantEcho(a, st)
	}},
	{rule: "flow-isolation", name: "stalled-receiver", role: asEither, run: func(s *script) {
		_, first := s.openWindow(2000)
		first.p.grant(1 << 20)
		stalled, stream := s.more(first.p)
		s.writeBeside(stalled, pattern(1, 500_000))
		stream.wantLength(2000)
		a, st := s.more(first.p)
		s.wantEcho(a, st)
	}},
	{rule: "flow-violation", name: "stream-window-exceeded", role: asEither, run: func(s *script) {
		_, st := s.open()
		if st.fill() {
			s.skip("the implementation reads faster than a window can be exceeded")
		}
		st.raw(make([]byte, minFrameSize), false)
		st.wantError(http2.ErrCodeFlowControl)
	}},
	{rule: "flow-violation", name: "increment-of-zero-on-a-stream", role: asEither, run: func(s *script) {
		_, st := s.open()
		st.p.frame(func(fr *http2.Framer) { _ = fr.WriteRawFrame(http2.FrameWindowUpdate, 0, st.id, make([]byte, 4)) })
		st.wantError(http2.ErrCodeProtocol)
	}},
	{rule: "flow-violation", name: "increment-of-zero", role: asEither, run: func(s *script) {
		_, st := s.open()
		st.p.frame(func(fr *http2.Framer) { _ = fr.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4)) })
		st.p.wantGone(http2.ErrCodeProtocol)
	}},
	{rule: "flow-violation", name: "window-overflows-on-a-stream", role: asEither, run: func(s *script) {
		_, st := s.open()
		st.p.frame(func(fr *http2.Framer) { _ = fr.WriteWindowUpdate(st.id, 1<<31-1) })
		st.wantError(http2.ErrCodeFlowControl)
	}},
	{rule: "flow-violation", name: "window-overflows", role: asEither, run: func(s *script) {
		_, st := s.open()
		st.p.frame(func(fr *http2.Framer) { _ = fr.WriteWindowUpdate(0, 1<<31-1) })
		st.p.wantGone(http2.ErrCodeFlowControl)
	}},
	{rule: "flow-violation", name: "window-overflows-by-settings", role: asEither, run: func(s *script) {
		_, st := s.open()
		st.p.frame(func(fr *http2.Framer) {
			_ = fr.WriteWindowUpdate(st.id, 1<<30)
			_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		})
		st.p.wantGone(http2.ErrCodeFlowControl)
	}},
}

// openWindow opens a stream whose peer has a window of n bytes and gives no
// credit by itself.
func (s *script) openWindow(n uint32) (*app, *stream) {
	s.keepCredit = true
	return s.open(http2.Setting{ID: http2.SettingInitialWindowSize, Val: n})
}

// openStalled opens a stream whose peer takes what its first window allows.
func (s *script) openStalled() (*app, *stream) { return s.openWindow(initialWindow) }

// writeBeside writes in the background; whatever the test does not let through
// ends with it.
func (s *script) writeBeside(a *app, data []byte) {
	s.begin(func() { _, _ = a.Write(data) })
}

// fillBound is more than anybody should take that nobody reads.
const fillBound = 64 << 20

// fill sends as much as the implementation allows while the application does
// not read. It reports whether there seems to be no end to that.
func (st *stream) fill() (endless bool) {
	p := st.p
	for sent := 0; sent < fillBound; {
		n := 0
		allowed := func() bool {
			n = int(min(st.credit, p.credit, minFrameSize))
			return n > 0
		}
		err := p.wait(p.s.opts.quiet(), allowed)
		if err == errTooLong { //nolint:errorlint // our own
			// It may only be slow. When it has answered this, it has seen all that was sent, and
			// then how we answer what it may ask itself before it grants more.
			p.ping()
			p.ping()
			err = p.wait(p.s.opts.quiet(), allowed)
		}
		if err != nil {
			return false // no more credit
		}
		st.raw(make([]byte, n), false)
		sent += n
	}
	return true
}

// discard drops what was received.
func (st *stream) discard() {
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	st.data.Reset()
}

func (st *stream) isOver() bool {
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	return st.over()
}
