package hbonetest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// readLoop notes what the implementation sends, until the connection ends.
func (p *peer) readLoop() {
	for {
		f, err := p.fr.ReadFrame()
		p.mu.Lock()
		if se := (http2.StreamError{}); errors.As(err, &se) {
			p.s.errorf("got a malformed frame on stream %d: %v", se.StreamID, err)
		} else if err != nil {
			if !isEnd(err) {
				p.s.errorf("got what is no HTTP/2: %v", err)
			}
			p.readErr = err
			p.signal()
			p.mu.Unlock()
			return
		} else {
			p.receive(f)
		}
		p.frames++
		p.signal()
		p.mu.Unlock()
	}
}

// isEnd reports whether err is the end of a connection, and not what the
// framer thinks of its frames.
func isEnd(err error) bool {
	if errors.As(err, new(net.Error)) {
		return true
	}
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// receive notes a frame. mu is held.
func (p *peer) receive(f http2.Frame) {
	if _, ok := f.(*http2.SettingsFrame); p.frames == 0 && !ok { // RFC 9113 §3.4
		p.s.errorf("the first frame is %v, not SETTINGS", f.Header())
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		p.receiveSettings(f)
	case *http2.PingFrame:
		p.receivePing(f)
	case *http2.GoAwayFrame:
		p.goAways = append(p.goAways, goAway{f.LastStreamID, f.ErrCode, string(f.DebugData())})
	case *http2.WindowUpdateFrame:
		p.receiveCredit(f)
	case *http2.MetaHeadersFrame:
		p.receiveHeaders(f)
	case *http2.DataFrame:
		p.receiveData(f)
	case *http2.RSTStreamFrame:
		p.receiveReset(f)
	case *http2.PushPromiseFrame:
		p.s.errorf("got PUSH_PROMISE")
	}
}

func (p *peer) receiveSettings(f *http2.SettingsFrame) {
	if f.IsAck() {
		p.acks++
		if len(p.lowering) > 0 {
			p.changeInitial(p.lowering[0])
			p.lowering = p.lowering[1:]
		}
		return
	}
	_ = f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			p.s.errorf("got an invalid setting %v: %v", s, err)
		}
		if s.ID == http2.SettingInitialWindowSize {
			change := int64(s.Val) - int64(p.setting(s.ID, initialWindow))
			for _, st := range p.streams {
				st.credit += change
			}
		}
		p.settings[s.ID] = s.Val
		return nil
	})
	if !p.silent {
		_ = p.fr.WriteSettingsAck()
	}
}

// setting returns the implementation's, or what holds without. mu is held.
func (p *peer) setting(id http2.SettingID, fallback uint32) uint32 {
	if v, ok := p.settings[id]; ok {
		return v
	}
	return fallback
}

func (p *peer) receivePing(f *http2.PingFrame) {
	switch {
	case f.IsAck():
		p.pongs[f.Data]++
	default:
		if p.silent {
			p.unanswered = append(p.unanswered, f.Data)
		} else {
			_ = p.fr.WritePing(true, f.Data)
		}
	}
}

func (p *peer) receiveCredit(f *http2.WindowUpdateFrame) {
	if f.StreamID == 0 {
		p.credit += int64(f.Increment)
		return
	}
	if st := p.known(f); st != nil {
		st.credit += int64(f.Increment)
		st.granted += int64(f.Increment)
	}
}

// known returns the stream of a frame, which must have been opened.
func (p *peer) known(f http2.Frame) *stream {
	h := f.Header()
	st := p.streams[h.StreamID]
	if st == nil {
		p.s.errorf("got %v of a stream that nobody opened", h)
	}
	return st
}

func (p *peer) receiveHeaders(f *http2.MetaHeadersFrame) {
	st := p.streams[f.StreamID]
	switch {
	case st != nil:
		st.receiveHeaders(f)
	case p.client || f.StreamID%2 == 0:
		p.s.errorf("got %v, which opens a stream that is not its to open", f.Header())
	default:
		if f.StreamID < p.nextID { // RFC 9113 §5.1.1
			p.s.errorf("got a new stream %d, want at least %d", f.StreamID, p.nextID)
		}
		p.nextID = f.StreamID + 2
		st = p.addStream(f.StreamID)
		st.receiveHeaders(f)
		st.authority = st.field(0, ":authority")
		p.opened = append(p.opened, st)
	}
}

// receiveData takes a DATA frame from its windows, which it must keep to (RFC
// 9113 §6.9), and returns the credit unless the stream is to be stalled.
func (p *peer) receiveData(f *http2.DataFrame) {
	n := int64(f.Length)
	if p.window -= n; p.window < 0 {
		p.s.errorf("got %d bytes more than the connection's window", -p.window)
	}
	if st := p.known(f); st != nil {
		st.receiveData(f)
		if st.keepCredit || p.keepCredit {
			return
		}
		if !st.ended {
			st.grantLocked(n)
		}
	}
	p.grantLocked(n)
}

// grantLocked lets the implementation send n bytes more. mu is held.
func (p *peer) grantLocked(n int64) {
	if n > 0 {
		p.window += n
		_ = p.fr.WriteWindowUpdate(0, uint32(n))
	}
}

// grant is grantLocked for tests.
func (p *peer) grant(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.grantLocked(n)
}

func (p *peer) receiveReset(f *http2.RSTStreamFrame) {
	if st := p.known(f); st != nil {
		st.resets = append(st.resets, f.ErrCode)
	}
}

// A goAway is a GOAWAY that came (RFC 9113 §6.8).
type goAway struct {
	last  uint32
	code  http2.ErrCode
	debug string
}

func (g goAway) String() string {
	return fmt.Sprintf("GOAWAY with last stream %d, %v %q", g.last, g.code, g.debug)
}

// A block is a header block that came.
type block struct {
	fields []hpack.HeaderField
	end    bool
}
