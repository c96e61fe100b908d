package hbonetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

var dataTests = []test{
	{rule: "data-bytes", name: "frames-mean-nothing", role: asEither, run: func(s *script) {
		a, st := s.open()
		var want bytes.Buffer
		for i := range 300 {
			part := pattern(byte(i), i%7)
			want.Write(part)
			if i%5 == 0 {
				st.padded(string(part), false, i%200)
			} else {
				st.raw(part, false) // some are empty
			}
		}
		a.wantData(want.String())
	}},
	{rule: "data-bytes", name: "large-transfer", role: asEither, run: func(s *script) {
		a, st := s.open()
		there, back := pattern(1, s.opts.transfer()), pattern(2, s.opts.transfer())
		s.exchange(a, st, there, back)
	}},
	{rule: "data-bytes", name: "odd-writes", role: asEither, run: func(s *script) {
		a, st := s.open()
		data := pattern(5, 200<<10)
		s.begin(func() {
			for rest, n := data, 1; len(rest) > 0; n = n*3%4099 + 1 {
				m, err := a.Write(rest[:min(n, len(rest))])
				if rest = rest[m:]; err != nil {
					s.errorf("the application's write: %v", err)
					return
				}
			}
			a.closeWrite()
		})
		if got := st.take(); !bytes.Equal(got, data) {
			s.errorf("%s", difference(got, data))
		}
	}},
	{rule: "data-prompt", name: "single-bytes", role: asEither, run: func(s *script) {
		a, st := s.open()
		for range 20 { // none waits for more, or for an answer
			a.send("x")
			st.wantData("x")
			st.send("y")
			a.wantData("y")
		}
	}},
	{rule: "data-prompt", name: "answerer-speaks-first", role: asEither, run: func(s *script) {
		a, st := s.open()
		if s.role == asServer {
			a.send("220 ready")
			st.wantData("220 ready")
		} else {
			st.send("220 ready")
			a.wantData("220 ready")
		}
	}},
	{rule: "data-trailers", name: "end-the-stream", role: asEither, run: func(s *script) {
		a, st := s.open()
		st.send("body")
		st.p.headers(st.id, true, "x-checksum", "0")
		a.wantData("body")
		a.wantEOF()
		a.send("and on")
		st.wantData("and on")
	}},
	{rule: "data-trailers", name: "without-end", role: asEither, run: func(s *script) {
		_, st := s.open()
		st.p.headers(st.id, false, "x-checksum", "0")
		st.wantError(http2.ErrCodeProtocol)
		s.wantServing()
	}},
	{rule: "streams-concurrent", name: "independent", role: asEither, run: func(s *script) {
		p := s.peer()
		var all sync.WaitGroup
		for i := range s.opts.streams() - 1 {
			a, st := s.more(p)
			a.echo()
			all.Go(func() {
				data := pattern(byte(i), 20_000+i)
				s.beginErr(func() error { return st.writeAndEnd(data) })
				got, err := st.collect(len(data))
				if err != nil || !bytes.Equal(got, data) {
					s.errorf("stream %d of many: %s (%v)", i, difference(got, data), err)
				}
			})
		}
		all.Wait()
	}},
	{rule: "streams-concurrent", name: "one-after-the-other", role: asEither, run: func(s *script) {
		p := s.peer()
		for i := range 3 * s.opts.streams() { // each frees its slot
			a, st := s.more(p)
			st.send("ping")
			a.wantData("ping")
			st.end()
			a.wantEOF()
			a.Close()
			st.await("the end", func() bool { return st.ended || len(st.resets) > 0 })
			if i%50 == 0 {
				p.wantAlive()
			}
		}
	}},
	{rule: "conn-deadlines", name: "read", role: asEither, run: func(s *script) {
		a, st := s.open()
		_ = a.SetReadDeadline(time.Now().Add(s.opts.quiet()))
		a.within("read past its deadline", func() {
			if n, err := a.Read(make([]byte, 1)); n > 0 || !isTimeout(err) {
				s.errorf("read past its deadline: %d, %v", n, err)
			}
		})
		_ = a.SetReadDeadline(time.Time{}) // the stream goes on
		s.wantEcho(a, st)
	}},
	{rule: "conn-deadlines", name: "write", role: asEither, run: func(s *script) {
		a, st := s.openStalled()
		_ = a.SetWriteDeadline(time.Now().Add(s.opts.quiet()))
		written := 0
		a.within("write past its deadline", func() {
			n, err := a.Write(make([]byte, 64<<20)) // more than any buffer takes
			if !isTimeout(err) {
				s.errorf("write past its deadline: %d, %v", n, err)
			}
			written = n
		})
		_ = a.SetWriteDeadline(time.Time{})
		st.resume()
		st.await("what was written", func() bool { return st.total >= int64(written) })
		a.send("more")
		st.await("what is written later", func() bool { return st.total >= int64(written)+4 })
	}},
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

// exchange sends there to the application and back from it, at the same time,
// and ends both.
func (s *script) exchange(a *app, st *stream, there, back []byte) {
	s.beginErr(func() error { return st.writeAndEnd(there) })
	s.begin(func() {
		if _, err := a.Write(back); err != nil {
			s.errorf("the application's write: %v", err)
			return
		}
		a.closeWrite()
	})
	got, err := a.readAll()
	if err != nil || !bytes.Equal(got, there) {
		s.errorf("the application got: %s (%v)", difference(got, there), err)
	}
	if got := st.take(); !bytes.Equal(got, back) {
		s.errorf("the peer got: %s", difference(got, back))
	}
}

// beginErr is begin for what may fail.
func (s *script) beginErr(f func() error) {
	s.begin(func() {
		if err := f(); err != nil {
			s.errorf("%v", err)
		}
	})
}

func (st *stream) writeAndEnd(data []byte) error {
	if err := st.write(data); err != nil {
		return err
	}
	st.end()
	return nil
}

// collect is take beside the test, and without an end.
func (st *stream) collect(n int) ([]byte, error) {
	err := st.p.wait(4*st.p.s.opts.timeout(), func() bool { return st.data.Len() >= n || st.ended || st.over() })
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	return bytes.Clone(st.data.Next(st.data.Len())), err
}

// difference says where got departs from want.
func difference(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d of %d is wrong", i, len(want))
		}
	}
	return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
}
