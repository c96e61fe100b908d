package hbonetest

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2"
)

var answerTests = append([]test{
	{rule: "answer-200", name: "only-success", role: asClient, run: func(s *script) {
		for _, status := range []int{201, 202, 204, 206, 299, 300, 302, 307, 400, 401, 403, 404, 407, 429, 431, 500, 502, 503, 504, 599, 999} {
			d := s.dial(s.hop())
			st := s.connectOnAny(s.sharedPeer())
			st.answer(status, true)
			d.wantError("the answer is " + strconv.Itoa(status))
		}
	}},
	{rule: "answer-200", name: "with-header", role: asClient, run: func(s *script) {
		d := s.dial(s.hop())
		st := s.playServer().wantConnect()
		st.answer(200, false, "baggage", "k8s.cluster.name=west", "x-eastwest-backend", "pod-1", "server", "istio-envoy", "date", "Thu, 01 Jan 1970 00:00:00 GMT")
		s.wantEcho(d.wantConn(), st)
	}},
	{rule: "answer-interim", name: "skipped", role: asClient, run: func(s *script) {
		d := s.dial(s.hop())
		st := s.playServer().wantConnect()
		for _, status := range []int{100, 102, 103, 199} {
			st.answer(status, false, "link", "</style.css>")
			d.wantPending("the answer is interim")
		}
		st.answer(200, false)
		s.wantEcho(d.wantConn(), st)
	}},
	{rule: "answer-when-connected", name: "not-before", role: asServer, run: func(s *script) {
		if !s.serve().AcceptAnswers {
			s.skip("Accept does not answer the CONNECT")
		}
		st := s.playClient().connect(s.authority())
		st.wantNoAnswer("the application has not accepted")
		a := s.accept()
		st.wantStatus(200)
		s.wantEcho(a, st)
	}},
	{rule: "answer-status", name: "refusals-end-the-stream", role: asServer, run: func(s *script) {
		p := s.playClient()
		st := p.connect("unknown.invalid:80")
		status := st.verdict()
		if status < 400 || status > 599 {
			s.errorf("an unknown authority is answered with %d, want 4xx or 5xx", status)
		}
		st.await("END_STREAM", func() bool { return st.ended })
		p.wantAlive()
		s.more(p)
	}},
	{rule: "answer-status", name: "reason-not-told", role: asServer, run: func(s *script) {
		st := s.playClient().connect("unknown.invalid:80")
		st.verdict()
		if body := st.take(); len(body) > 0 {
			s.errorf("a refusal explains itself: %s", brief(body))
		}
	}},
	{rule: "answer-no-length", name: "not-sent", role: asServer, run: func(s *script) {
		_, st := s.open()
		st.p.mu.Lock()
		defer st.p.mu.Unlock()
		for _, name := range []string{"content-length", "transfer-encoding"} {
			if value := st.field(0, name); value != "" {
				s.errorf("the answer has %s: %q", name, value)
			}
		}
	}},
	{rule: "answer-no-length", name: "ignored", role: asClient, run: func(s *script) {
		d := s.dial(s.hop())
		st := s.playServer().wantConnect()
		st.answer(200, false, "content-length", "0", "content-type", "text/plain")
		s.wantEcho(d.wantConn(), st)
	}},
	{rule: "answer-ended", name: "half-closed-at-once", role: asClient, run: func(s *script) {
		d := s.dial(s.hop())
		st := s.playServer().wantConnect()
		st.answer(200, true)
		a := d.wantConn()
		a.wantEOF()
		a.send("all I know")
		a.closeWrite()
		if got := st.take(); string(got) != "all I know" {
			s.errorf("got %s", brief(got))
		}
	}},
	{rule: "answer-refused-body", name: "dropped", role: asClient, run: func(s *script) {
		a, first := s.open()
		for range 4 { // more than a first window in all: credit for it must come back
			d := s.dial(s.hop())
			st := s.connectOn(first.p)
			st.answer(503, false, "content-type", "text/plain")
			d.wantError("the answer is 503")
			st.raw(pattern(3, min(30_000, int(st.creditNow()))), true)
		}
		first.p.wantAlive()
		s.wantEcho(a, first)
	}},
	{rule: "answer-reset", name: "fails-the-dial", role: asClient, run: func(s *script) {
		a, first := s.open()
		for _, code := range []http2.ErrCode{http2.ErrCodeConnect, http2.ErrCodeCancel, http2.ErrCodeNo, http2.ErrCodeInternal} {
			d := s.dial(s.hop())
			s.connectOn(first.p).reset(code)
			d.wantError("the stream was reset with " + code.String())
		}
		s.wantEcho(a, first)
	}},
	{rule: "answer-reset", name: "refused-stream-is-retried", role: asClient, run: func(s *script) {
		d := s.dial(s.hop())
		p := s.playServer()
		p.wantConnect().reset(http2.ErrCodeRefusedStream)
		st := s.connectOnAny(p)
		st.answer(200, false)
		s.wantEcho(d.wantConn(), st)
	}},
}, malformedAnswers()...)

// malformedAnswers must fail the dial, and may not be taken for a success.
func malformedAnswers() []test {
	answers := []struct {
		name   string
		end    bool
		fields []string
	}{
		{"no-status", false, []string{"baggage", "k=v"}},
		{"two-statuses", false, []string{":status", "200", ":status", "200"}},
		{"status-is-no-number", false, []string{":status", "ok"}},
		{"status-of-two-digits", false, []string{":status", "20"}},
		{"status-of-four-digits", false, []string{":status", "2000"}},
		{"status-with-sign", false, []string{":status", "+200"}},
		{"status-last", false, []string{"baggage", "k=v", ":status", "200"}},
		{"request-fields", false, []string{":status", "200", ":method", "CONNECT"}},
		{"upper-case", false, []string{":status", "200", "Baggage", "k=v"}},
		{"line-break", false, []string{":status", "200", "baggage", "k=v\r\nx: y"}},
		{"connection", false, []string{":status", "200", "connection", "close"}},
		{"interim-with-end", true, []string{":status", "100"}},
	}
	var tests []test
	for _, answer := range answers {
		tests = append(tests, test{rule: "answer-malformed", name: answer.name, role: asClient, run: func(s *script) {
			d := s.dial(s.hop())
			st := s.playServer().wantConnect()
			st.p.headers(st.id, answer.end, answer.fields...)
			d.wantError("the answer is malformed")
		}})
	}
	return append(tests,
		test{rule: "answer-malformed", name: "data-first", role: asClient, run: func(s *script) {
			d := s.dial(s.hop())
			st := s.playServer().wantConnect()
			st.raw([]byte("hello"), false)
			d.wantError("DATA came before the answer")
			st.wantError(http2.ErrCodeProtocol)
		}},
		test{rule: "answer-malformed", name: "header-too-large", role: asClient, run: func(s *script) {
			d := s.dial(s.hop())
			st := s.playServer().wantConnect()
			fields := s.fields("x-bomb", strings.Repeat("v", 4000))
			for range 15_000 {
				fields = append(fields, "x-bomb", strings.Repeat("v", 4000))
			}
			st.p.frame(func(fr *http2.Framer) {
				block := st.p.encode(fields)
				_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: st.id, BlockFragment: block[:minFrameSize]})
				_ = fr.WriteContinuation(st.id, true, block[minFrameSize:])
			})
			d.wantError("the answer's header is too large")
		}},
	)
}

// creditNow is what may be sent on the stream now.
func (st *stream) creditNow() int64 {
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	return max(0, min(st.credit, st.p.credit))
}
