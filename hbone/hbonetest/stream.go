package hbonetest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// A stream is the peer's end of one CONNECT: what came of it, and what may
// still be sent. The peer's mu guards it.
type stream struct {
	p          *peer
	id         uint32
	authority  string
	keepCredit bool // give no credit by itself

	blocks  []block
	data    bytes.Buffer // received and not yet looked at
	total   int64        // bytes received
	granted int64        // credit that the implementation gave
	ended   bool         // END_STREAM came
	resets  []http2.ErrCode
	window  int64 // what the implementation may still send
	credit  int64 // what we may still send
}

// addStream makes a stream. mu is held.
func (p *peer) addStream(id uint32) *stream {
	st := &stream{p: p, id: id, window: p.initial, credit: int64(p.setting(http2.SettingInitialWindowSize, initialWindow))}
	p.streams[id] = st
	return st
}

func (st *stream) receiveHeaders(f *http2.MetaHeadersFrame) {
	if st.ended {
		st.p.s.errorf("got HEADERS of stream %d after END_STREAM", st.id)
	}
	st.blocks = append(st.blocks, block{f.Fields, f.StreamEnded()})
	st.ended = st.ended || f.StreamEnded()
}

func (st *stream) receiveData(f *http2.DataFrame) {
	switch {
	case st.ended:
		st.p.s.errorf("got DATA of stream %d after END_STREAM", st.id)
	case len(st.blocks) == 0:
		st.p.s.errorf("got DATA of stream %d before HEADERS", st.id)
	}
	if st.window -= int64(f.Length); st.window < 0 {
		st.p.s.errorf("got %d bytes more than the window of stream %d", -st.window, st.id)
	}
	st.data.Write(f.Data())
	st.total += int64(len(f.Data()))
	st.ended = f.StreamEnded()
}

// grantLocked lets the implementation send n bytes more on the stream. mu is
// held.
func (st *stream) grantLocked(n int64) {
	if n > 0 {
		st.window += n
		_ = st.p.fr.WriteWindowUpdate(st.id, uint32(n))
	}
}

func (st *stream) grant(n int64) {
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	st.grantLocked(n)
}

// resume gives back all credit that was kept, and from now on by itself.
func (st *stream) resume() {
	p := st.p
	p.mu.Lock()
	defer p.mu.Unlock()
	st.keepCredit, p.keepCredit = false, false
	p.grantLocked(1<<20 - p.window)
	st.grantLocked(1<<20 - st.window)
}

// field returns a field of header block i, with values joined as HTTP does.
func (st *stream) field(i int, name string) string {
	value := ""
	for _, f := range st.blocks[i].fields {
		if f.Name == name {
			if value != "" {
				value += ", "
			}
			value += f.Value
		}
	}
	return value
}

// over reports whether the stream was reset or its connection has ended. mu is
// held.
func (st *stream) over() bool { return len(st.resets) > 0 || st.p.readErr != nil }

// await waits until cond holds, and fails the test if the stream is reset
// first.
func (st *stream) await(what string, cond func() bool) {
	st.p.await(fmt.Sprintf("%s on stream %d", what, st.id), func() bool { return cond() || len(st.resets) > 0 })
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	if !cond() {
		st.p.s.fatalf("stream %d was reset with %v, want %s", st.id, st.resets, what)
	}
}

// answered returns the status that came, or 0. mu is held.
func (st *stream) answered() int {
	for i := range st.blocks {
		if status, err := strconv.Atoi(st.field(i, ":status")); err == nil && status >= 200 {
			return status
		}
	}
	return 0
}

// wantStatus waits for the answer to a CONNECT.
func (st *stream) wantStatus(want int) {
	st.await("the answer", func() bool { return st.answered() != 0 })
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	if got := st.answered(); got != want {
		st.p.s.fatalf("CONNECT to %s answered with %d, want %d", st.authority, got, want)
	}
}

// verdict waits until a CONNECT was answered or the stream has ended without.
// It returns the status, which is 0 for a reset or a lost connection.
func (st *stream) verdict() int {
	_ = st.p.wait(st.p.s.opts.timeout(), func() bool { return st.answered() != 0 || st.over() })
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	if st.answered() == 0 && !st.over() {
		st.p.s.errorf("CONNECT to %q is not answered", st.authority)
	}
	return st.answered()
}

// wantRefused waits for a CONNECT to come to anything but a stream.
func (st *stream) wantRefused() {
	if status := st.verdict(); status >= 200 && status < 300 {
		st.p.s.errorf("CONNECT to %q answered with %d, want a refusal", st.authority, status)
	}
}

// wantNoAnswer checks that the CONNECT is not answered while quiet lasts.
func (st *stream) wantNoAnswer(why string) {
	st.p.s.quiet()
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	if status := st.answered(); status != 0 {
		st.p.s.errorf("CONNECT answered with %d, though %s", status, why)
	}
}

// answer sends a response.
func (st *stream) answer(status int, end bool, fields ...string) {
	st.p.headers(st.id, end, append([]string{":status", strconv.Itoa(status)}, fields...)...)
}

// write sends data as the implementation's windows allow, and fails if they
// stay closed. It may be called beside the test.
func (st *stream) write(data []byte) error {
	p := st.p
	for len(data) > 0 {
		n := 0
		err := p.wait(p.s.opts.timeout(), func() bool {
			n = int(min(st.credit, p.credit, int64(len(data)), minFrameSize))
			return n > 0 || st.over()
		})
		if err != nil {
			return fmt.Errorf("sending on stream %d, with %d bytes to go: %w", st.id, len(data), err)
		}
		if n <= 0 {
			return fmt.Errorf("stream %d is over, with %d bytes to send", st.id, len(data))
		}
		st.raw(data[:n], false)
		data = data[n:]
	}
	return nil
}

// send is write for the test's own goroutine.
func (st *stream) send(data string) {
	if err := st.write([]byte(data)); err != nil {
		st.p.s.fatalf("%v", err)
	}
}

// raw sends a DATA frame whatever the windows are.
func (st *stream) raw(data []byte, end bool) {
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	st.spend(len(data))
	_ = st.p.fr.WriteData(st.id, end, data)
}

// spend takes n bytes from the windows. mu is held.
func (st *stream) spend(n int) {
	st.credit -= int64(n)
	st.p.credit -= int64(n)
}

// padded sends a DATA frame with padding.
func (st *stream) padded(data string, end bool, padding int) {
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	st.spend(len(data) + 1 + padding)
	_ = st.p.fr.WriteDataPadded(st.id, end, []byte(data), make([]byte, padding))
}

// end sends END_STREAM.
func (st *stream) end() { st.raw(nil, true) }

// reset sends RST_STREAM.
func (st *stream) reset(code http2.ErrCode) {
	st.p.frame(func(fr *http2.Framer) { _ = fr.WriteRSTStream(st.id, code) })
}

// wantData waits for exactly want, and takes it.
func (st *stream) wantData(want string) {
	st.await(fmt.Sprintf("%d bytes", len(want)), func() bool { return st.data.Len() >= len(want) || st.ended })
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	if got := st.data.Next(st.data.Len()); string(got) != want {
		st.p.s.fatalf("got %s on stream %d, want %s", brief(got), st.id, brief([]byte(want)))
	}
}

// wantLength waits until n bytes are there, and checks that it stays at that.
func (st *stream) wantLength(n int) {
	st.await(fmt.Sprintf("%d bytes", n), func() bool { return st.data.Len() >= n })
	st.p.s.quiet()
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	if got := st.data.Len(); got != n {
		st.p.s.fatalf("got %d bytes, want %d as the windows allow", got, n)
	}
}

// take waits for END_STREAM and returns all that came before.
func (st *stream) take() []byte {
	st.await("END_STREAM", func() bool { return st.ended })
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	return slices.Clone(st.data.Next(st.data.Len()))
}

// wantEnd waits for END_STREAM with nothing before.
func (st *stream) wantEnd() {
	if got := st.take(); len(got) > 0 {
		st.p.s.errorf("got %s on stream %d, want its end", brief(got), st.id)
	}
}

// wantOpen checks that the implementation has not ended its direction.
func (st *stream) wantOpen() {
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	if st.ended || st.over() {
		st.p.s.errorf("stream %d is over (END_STREAM %v, reset with %v), want it open", st.id, st.ended, st.resets)
	}
}

// wantReset waits for RST_STREAM with one of the codes, or any if none is
// given. If the connection ends instead, that is a failure.
func (st *stream) wantReset(codes ...http2.ErrCode) {
	st.p.await(fmt.Sprintf("RST_STREAM of stream %d", st.id), func() bool { return len(st.resets) > 0 })
	st.p.mu.Lock()
	defer st.p.mu.Unlock()
	if got := st.resets[0]; len(codes) > 0 && !slices.Contains(codes, got) {
		st.p.s.errorf("got RST_STREAM with %v, want %v", got, codes)
	}
}

// wantError waits for a stream error, or for a connection error, which an
// implementation may always make of one (RFC 9113 §5.4.2).
func (st *stream) wantError(codes ...http2.ErrCode) {
	err := st.p.wait(st.p.s.opts.timeout(), func() bool { return len(st.resets) > 0 })
	st.p.mu.Lock()
	reset := st.resets
	st.p.mu.Unlock()
	switch {
	case len(reset) > 0:
		if len(codes) > 0 && !slices.Contains(codes, reset[0]) {
			st.p.s.errorf("got RST_STREAM with %v, want %v", reset[0], codes)
		}
	case err == errTooLong: //nolint:errorlint // our own
		st.p.s.fatalf("nothing ends stream %d", st.id)
	default:
		st.p.wantGoAwayCode(codes)
	}
}

// brief shows data without drowning in it.
func brief(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%q… (%d bytes)", b[:40], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// A streamConn lets a test carry something inside of a stream: an inner
// tunnel.
type streamConn struct {
	*stream
	closed bool // guarded by the peer's mu
}

func (c *streamConn) Read(b []byte) (int, error) {
	n := 0
	err := c.p.wait(4*c.p.s.opts.timeout(), func() bool {
		n, _ = c.data.Read(b)
		return n > 0 || c.ended || c.closed || len(c.resets) > 0
	})
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	switch {
	case n > 0 || len(b) == 0:
		return n, nil
	case err != nil:
		return 0, err
	case c.closed:
		return 0, net.ErrClosed
	case len(c.resets) > 0:
		return 0, fmt.Errorf("%w with %v", syscall.ECONNRESET, c.resets)
	}
	return 0, io.EOF
}

func (c *streamConn) Write(b []byte) (int, error) {
	if err := c.write(b); err != nil {
		return 0, fmt.Errorf("%w: %w", io.ErrClosedPipe, err)
	}
	return len(b), nil
}

func (c *streamConn) Close() error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if !c.closed {
		c.closed = true
		_ = c.p.fr.WriteData(c.id, true, nil)
		c.p.signal()
	}
	return nil
}

func (c *streamConn) LocalAddr() net.Addr              { return c.p.conn.LocalAddr() }
func (c *streamConn) RemoteAddr() net.Addr             { return c.p.conn.RemoteAddr() }
func (c *streamConn) SetDeadline(time.Time) error      { return nil }
func (c *streamConn) SetReadDeadline(time.Time) error  { return nil }
func (c *streamConn) SetWriteDeadline(time.Time) error { return nil }
