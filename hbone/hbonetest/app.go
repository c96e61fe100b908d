package hbonetest

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// An app is the application's end of a stream of the implementation.
type app struct {
	net.Conn
	s *script
}

func (s *script) newApp(nc net.Conn) *app {
	s.atEnd(func() { s.begin(func() { nc.Close() }) }) // it may block until the peer is closed
	return &app{nc, s}
}

// within runs f, and fails the test if it takes too long: there are
// implementations whose deadlines do not work.
func (a *app) within(what string, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	timer := time.NewTimer(2 * a.s.opts.timeout())
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		a.s.fatalf("the application's %s does not return", what)
	}
}

func (a *app) send(data string) {
	a.within("write", func() {
		if _, err := io.WriteString(a.Conn, data); err != nil {
			a.s.errorf("the application's write: %v", err)
		}
	})
}

// wantData reads exactly want.
func (a *app) wantData(want string) {
	got := make([]byte, len(want))
	a.within("read", func() {
		if n, err := io.ReadFull(a.Conn, got); err != nil || string(got) != want {
			a.s.errorf("the application got %s, %v; want %s", brief(got[:n]), err, brief([]byte(want)))
		}
	})
}

// readAll reads to the end. Each read is a step: what all of them take depends
// on how much there is, and on the machine.
func (a *app) readAll() (data []byte, err error) {
	for part := make([]byte, 64<<10); err == nil; {
		n := 0
		a.within("read", func() { n, err = a.Read(part) })
		data = append(data, part[:n]...)
	}
	if err == io.EOF { //nolint:errorlint // as it is for io.ReadAll
		err = nil
	}
	return data, err
}

// wantEOF reads a clean end, with nothing before it.
func (a *app) wantEOF() {
	if data, err := a.readAll(); err != nil || len(data) > 0 {
		a.s.errorf("the application got %s, %v; want a clean end", brief(data), err)
	}
}

// wantBroken reads an end that is not clean.
func (a *app) wantBroken(why string) {
	if _, err := a.readAll(); err == nil {
		a.s.errorf("the application got a clean end, though %s", why)
	}
}

// wantWriteError writes until that fails.
func (a *app) wantWriteError(why string) {
	a.within("write", func() {
		for range 1000 {
			if _, err := a.Write(make([]byte, 4096)); err != nil {
				return
			}
			a.s.pause(time.Millisecond)
		}
		a.s.errorf("the application can write, though %s", why)
	})
}

// closeWrite ends the application's direction.
func (a *app) closeWrite() {
	c, ok := a.Conn.(interface{ CloseWrite() error })
	if !ok {
		a.s.fatalf("the application's conn, a %T, has no CloseWrite: it cannot end one direction alone", a.Conn)
	}
	if err := c.CloseWrite(); err != nil {
		a.s.errorf("CloseWrite: %v", err)
	}
}

// abort ends the stream as an application does that crashes: its socket is
// reset.
func (a *app) abort() {
	switch c := a.Conn.(type) {
	case interface{ Abort(cause error) }:
		c.Abort(errors.New("aborted by the test"))
	case interface{ SetLinger(sec int) error }: // such as *net.TCPConn
		_ = c.SetLinger(0)
		a.Close()
	default:
		a.s.skip("the application's conn has neither Abort nor SetLinger")
	}
}

// echo sends back what comes until the peer ends, in the background.
func (a *app) echo() {
	a.s.begin(func() {
		if _, err := io.Copy(a.Conn, onlyReader{a.Conn}); err == nil {
			if c, ok := a.Conn.(interface{ CloseWrite() error }); ok {
				_ = c.CloseWrite()
			}
		}
	})
}

type onlyReader struct{ io.Reader }

// A dial is a Dial of the client under test, under way.
type dial struct {
	s      *script
	done   chan struct{}
	broken chan struct{} // closed if it failed
	conn   net.Conn
	err    error
}

// failed is closed when the dial has failed. There may be no dial.
func (d *dial) failed() <-chan struct{} {
	if d == nil {
		return nil
	}
	return d.broken
}

// dial begins to dial, with the limit of a step.
func (s *script) dial(hops ...Hop) *dial { return s.dialContext(s.step(), hops...) }

func (s *script) dialContext(ctx context.Context, hops ...Hop) *dial {
	d := &dial{s: s, done: make(chan struct{}), broken: make(chan struct{})}
	s.lastDial = d
	s.push(&s.waits, func() { // last, after the goroutine
		select {
		case <-d.done:
			if d.conn != nil {
				s.begin(func() { d.conn.Close() })
			}
		default: // it never returned, which is noted
		}
	})
	s.begin(func() {
		defer close(d.done)
		if d.conn, d.err = s.client.Dial(ctx, hops); d.err != nil {
			d.conn = nil
			close(d.broken)
		}
	})
	return d
}

// wait waits for the end of the dial.
func (d *dial) wait() {
	timer := time.NewTimer(2 * d.s.opts.timeout())
	defer timer.Stop()
	select {
	case <-d.done:
	case <-timer.C:
		d.s.fatalf("Dial does not return")
	}
}

func (d *dial) wantConn() *app {
	d.wait()
	if d.err != nil {
		d.s.fatalf("Dial: %v", d.err)
	}
	return d.s.newApp(d.conn)
}

func (d *dial) wantError(why string) {
	d.wait()
	if d.err == nil {
		d.s.fatalf("Dial succeeded, though %s", why)
	}
}

// wantPending checks that the dial is not over.
func (d *dial) wantPending(why string) {
	d.s.quiet()
	select {
	case <-d.done:
		d.s.fatalf("Dial returned (error %v), though %s", d.err, why)
	default:
	}
}
