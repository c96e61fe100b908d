package hbonetest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	initialWindow = 65535 // RFC 9113 §6.9.2
	minFrameSize  = 16384 // RFC 9113 §4.2
)

// A peer is one end of an HTTP/2 connection that a test plays, frame by frame.
// It knows the protocol only as far as it must to keep a conversation up: it
// answers SETTINGS and PING and returns credit, unless told not to, and it
// notes everything that the implementation sends. What that may not send at
// all fails the test.
//
// One goroutine reads and one writes, so that neither end can block the other.
type peer struct {
	s      *script
	conn   net.Conn
	client bool // the peer plays the client
	fr     *http2.Framer
	enc    *hpack.Encoder
	block  bytes.Buffer
	ended  sync.WaitGroup

	// How the peer behaves. Set before start, or with mu held.
	silent     bool // answers neither SETTINGS nor PING
	keepCredit bool // gives no credit by itself

	mu         sync.Mutex
	changed    chan struct{} // closed when anything below changes
	out        []byte        // to be written
	writing    bool
	writeErr   error
	readErr    error
	settings   map[http2.SettingID]uint32 // the implementation's
	frames     int                        // received
	pongs      map[[8]byte]int
	unanswered [][8]byte // PINGs that came while the peer was silent
	acks       int       // of our SETTINGS
	goAways    []goAway
	streams    map[uint32]*stream
	opened     []*stream // by the implementation, not yet claimed
	nextID     uint32    // of the peer's own streams
	window     int64     // what the implementation may still send
	credit     int64     // what the peer may still send
	initial    int64     // window of new streams of the implementation
	lowering   []int64   // changes of it that hold once they are acknowledged; 0 is none
}

// newPeer begins a conversation over conn, which is ready for HTTP/2.
func (s *script) newPeer(conn net.Conn, client bool) *peer {
	p := &peer{
		s:          s,
		conn:       conn,
		client:     client,
		changed:    make(chan struct{}),
		settings:   map[http2.SettingID]uint32{},
		pongs:      map[[8]byte]int{},
		streams:    map[uint32]*stream{},
		nextID:     1,
		window:     initialWindow,
		credit:     initialWindow,
		initial:    initialWindow,
		keepCredit: s.keepCredit,
	}
	p.fr = http2.NewFramer(writerFunc(p.queue), conn)
	p.fr.AllowIllegalWrites = true
	p.fr.SetMaxReadFrameSize(minFrameSize)
	p.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(&p.block)
	s.atEnd(p.close)
	return p
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// start exchanges prefaces (RFC 9113 §3.4).
func (p *peer) start(settings ...http2.Setting) {
	if p.client {
		p.write([]byte(http2.ClientPreface))
	} else {
		p.readPreface()
	}
	p.sendSettings(settings...) // before anything is acknowledged
	p.ended.Go(p.readLoop)
	p.await("SETTINGS", func() bool { return p.settings != nil && p.gotSettings() })
	if !p.silent {
		p.await("the acknowledgement of SETTINGS", func() bool { return p.acks > 0 })
	}
}

// listen reads from now on. A server's peer wants the preface first.
func (p *peer) listen() {
	if !p.client {
		p.readPreface()
	}
	p.ended.Go(p.readLoop)
}

func (p *peer) readPreface() {
	preface := make([]byte, len(http2.ClientPreface))
	_ = p.conn.SetReadDeadline(time.Now().Add(p.s.opts.timeout()))
	if _, err := io.ReadFull(p.conn, preface); err != nil || string(preface) != http2.ClientPreface {
		p.s.fatalf("the client's preface is %q (%v)", preface, err)
	}
	_ = p.conn.SetReadDeadline(time.Time{})
}

func (p *peer) gotSettings() bool { return p.frames > 0 }

func (p *peer) close() {
	p.conn.Close()
	p.mu.Lock()
	if p.writeErr == nil {
		p.writeErr = net.ErrClosed
	}
	p.signal()
	p.mu.Unlock()
	p.ended.Wait()
}

// signal lets waiters look again. mu is held.
func (p *peer) signal() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// await waits until cond, which is called with mu held, and fails the test if
// that takes too long or the connection ends first.
func (p *peer) await(what string, cond func() bool) {
	if err := p.wait(p.s.opts.timeout(), cond); err != nil {
		p.s.fatalf("waiting for %s: %v", what, err)
	}
}

// wait is await for goroutines that may not end the test.
func (p *peer) wait(limit time.Duration, cond func() bool) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !cond() {
		if p.readErr != nil {
			return p.end()
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
			p.mu.Lock()
		case <-timer.C:
			p.mu.Lock()
			return errTooLong
		}
	}
	return nil
}

var errTooLong = errors.New("not within the time limit")

// end says why the connection has ended. mu is held.
func (p *peer) end() error {
	if g := p.goAway(); g != nil {
		return fmt.Errorf("the connection ended: %w, after %v", p.readErr, g)
	}
	return fmt.Errorf("the connection ended: %w", p.readErr)
}

// queue takes what the framer writes.
func (p *peer) queue(b []byte) (int, error) {
	p.out = append(p.out, b...)
	if !p.writing && p.writeErr == nil {
		p.writing = true
		p.ended.Go(p.writeLoop)
	}
	return len(b), nil
}

func (p *peer) writeLoop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.out) > 0 && p.writeErr == nil {
		b := p.out
		p.out = nil
		p.mu.Unlock()
		_, err := p.conn.Write(b)
		p.mu.Lock()
		if err != nil && p.writeErr == nil {
			p.writeErr = err
		}
	}
	p.writing = false
	p.signal()
}

// frame sends a frame: f writes it.
func (p *peer) frame(f func(fr *http2.Framer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p.fr)
}

// write sends raw bytes.
func (p *peer) write(b []byte) { p.frame(func(*http2.Framer) { _, _ = p.queue(b) }) }

// flush waits until all is written, and reports whether it could be.
func (p *peer) flush() bool {
	err := p.wait(p.s.opts.timeout(), func() bool { return len(p.out) == 0 && !p.writing || p.writeErr != nil })
	p.mu.Lock()
	defer p.mu.Unlock()
	return err == nil && p.writeErr == nil
}

// sendSettings sends SETTINGS. An initial window takes effect when it must: at
// once if it grows, with the acknowledgement if it shrinks.
func (p *peer) sendSettings(settings ...http2.Setting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lower int64
	for _, s := range settings {
		if s.ID != http2.SettingInitialWindowSize {
			continue
		}
		if change := int64(s.Val) - p.initial; change > 0 {
			p.changeInitial(change)
		} else {
			lower = change
		}
	}
	p.lowering = append(p.lowering, lower)
	_ = p.fr.WriteSettings(settings...)
}

// changeInitial changes all windows by the difference (RFC 9113 §6.9.2). mu is
// held.
func (p *peer) changeInitial(change int64) {
	p.initial += change
	for _, s := range p.streams {
		s.window += change
	}
}

// ping sends a PING and waits for its answer.
func (p *peer) ping() {
	data := [8]byte{'h', 'b', 'o', 'n', 'e'}
	p.mu.Lock()
	before := p.pongs[data]
	_ = p.fr.WritePing(false, data)
	p.mu.Unlock()
	p.await("the answer to a PING", func() bool { return p.pongs[data] > before })
}

// wantAlive checks that the tunnel was not ended by what came before.
func (p *peer) wantAlive() {
	p.ping()
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.goAway(); g != nil {
		p.s.errorf("got %v, want the tunnel to go on", g)
	}
}

// goAway returns the last GOAWAY, or nil. mu is held.
func (p *peer) goAway() *goAway {
	if len(p.goAways) == 0 {
		return nil
	}
	return &p.goAways[len(p.goAways)-1]
}

// wantGone waits for the implementation to end the connection: by closing it,
// or by a GOAWAY with an error, after which it may linger. If codes are given,
// a GOAWAY must have one of them; there need not be one, as it may be lost when
// a socket is closed.
func (p *peer) wantGone(codes ...http2.ErrCode) {
	err := p.wait(p.s.opts.timeout(), func() bool {
		g := p.goAway()
		return g != nil && g.code != http2.ErrCodeNo
	})
	if errors.Is(err, errTooLong) {
		p.s.fatalf("the connection goes on, want its end")
	}
	p.wantGoAwayCode(codes)
}

func (p *peer) wantGoAwayCode(codes []http2.ErrCode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.goAway(); g != nil && len(codes) > 0 && !slices.Contains(codes, g.code) {
		p.s.errorf("got %v, want %v", g, codes)
	}
}

// gone reports whether the connection has ended, or is about to with an error.
func (p *peer) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.goAway()
	return p.readErr != nil || p.writeErr != nil || g != nil && g.code != http2.ErrCodeNo
}

// encode encodes header fields, given as names and values. mu is held.
func (p *peer) encode(fields []string) []byte {
	p.block.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.block.Bytes())
}

// headers sends a header block in one frame.
func (p *peer) headers(id uint32, end bool, fields ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: p.encode(fields), EndStream: end, EndHeaders: true,
	})
}

// newStream opens a stream without sending anything.
func (p *peer) newStream() *stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.addStream(p.nextID)
	p.nextID += 2
	return st
}

// connect sends a CONNECT. Its answer is not awaited.
func (p *peer) connect(authority string, fields ...string) *stream {
	st := p.newStream()
	st.authority = authority
	p.headers(st.id, false, append([]string{":method", "CONNECT", ":authority", authority}, fields...)...)
	return st
}

// wantConnect waits for the implementation to open a stream.
func (p *peer) wantConnect() *stream {
	var st *stream
	p.await("a CONNECT", func() bool {
		if len(p.opened) == 0 {
			return false
		}
		st, p.opened = p.opened[0], p.opened[1:]
		return true
	})
	return st
}

// wantNoConnect checks that the implementation opened no stream.
func (p *peer) wantNoConnect(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.opened) > 0 {
		p.s.errorf("got a CONNECT to %s, though %s", p.opened[0].authority, why)
	}
}

// tlsState returns the state of the connection, if it has TLS.
func (p *peer) tlsState() tls.ConnectionState {
	if c, ok := p.conn.(*tls.Conn); ok {
		return c.ConnectionState()
	}
	return tls.ConnectionState{}
}
