package h2

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// A peer is the other end of an engine, played frame by frame. Its methods end the
// test when what comes is not what is wanted. It works in synctest bubbles.
type peer struct {
	t    testing.TB
	conn *memnet.Conn
	fr   *http2.Framer
	out  bytes.Buffer
	enc  *hpack.Encoder
	dec  *hpack.Decoder
	// ignored frame types are skipped by next.
	ignored map[http2.FrameType]bool
}

func newPeer(t testing.TB, conn *memnet.Conn) *peer {
	p := &peer{t: t, conn: conn, fr: http2.NewFramer(conn, conn)}
	p.fr.AllowIllegalWrites = true
	p.fr.SetMaxReadFrameSize(maxMaxFrameSize)
	p.enc = hpack.NewEncoder(&p.out)
	p.dec = hpack.NewDecoder(headerTableSize, nil)
	p.ignored = map[http2.FrameType]bool{http2.FrameWindowUpdate: true}
	t.Cleanup(func() { conn.Close() })
	return p
}

// playClient plays the client of a server. The handshake is done.
func playClient(t testing.TB, cfg Config, handle func(*Stream)) (*peer, *Conn) {
	t.Helper()
	p, c := playRawClient(t, cfg, handle)
	p.write(http2.ClientPreface)
	p.handshake()
	return p, c
}

// playRawClient is playClient without the handshake.
func playRawClient(t testing.TB, cfg Config, handle func(*Stream)) (*peer, *Conn) {
	t.Helper()
	a, b := memnet.Pipe()
	p := newPeer(t, a)
	c, err := NewServer(b, cfg, handle)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return p, c
}

// playServer plays the server of a client. The handshake is done.
func playServer(t testing.TB, cfg Config) (*peer, *Conn) {
	t.Helper()
	p, c := playRawServer(t, cfg)
	p.handshake()
	return p, c
}

func playRawServer(t testing.TB, cfg Config) (*peer, *Conn) {
	t.Helper()
	a, b := memnet.Pipe()
	p := newPeer(t, a)
	c, err := NewClient(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(a, preface); err != nil || string(preface) != http2.ClientPreface {
		t.Fatalf("client preface: %q, %v", preface, err)
	}
	return p, c
}

// handshake exchanges SETTINGS and their acknowledgements.
func (p *peer) handshake(settings ...http2.Setting) {
	p.t.Helper()
	want[*http2.SettingsFrame](p)
	p.fr.WriteSettings(settings...)
	p.fr.WriteSettingsAck()
	p.wantSettingsAck()
}

func (p *peer) wantSettingsAck() {
	p.t.Helper()
	if f := want[*http2.SettingsFrame](p); !f.IsAck() {
		p.t.Fatalf("got %v, want the acknowledgement of SETTINGS", f)
	}
}

// write sends raw bytes.
func (p *peer) write(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, s); err != nil {
		p.t.Logf("write: %v", err)
	}
}

// block encodes header fields, given as names and values.
func (p *peer) block(fields ...string) []byte {
	p.out.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.out.Bytes())
}

// headers sends a HEADERS frame.
func (p *peer) headers(id uint32, endStream bool, fields ...string) {
	p.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: p.block(fields...), EndHeaders: true, EndStream: endStream,
	})
}

// connect sends a CONNECT.
func (p *peer) connect(id uint32, fields ...string) {
	p.headers(id, false, append([]string{":method", "CONNECT", ":authority", "a:1"}, fields...)...)
}

// answer sends a response.
func (p *peer) answer(id uint32, status int, endStream bool) {
	p.headers(id, endStream, ":status", strconv.Itoa(status))
}

// next reads a frame that is not ignored.
func (p *peer) next() (http2.Frame, error) {
	p.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		f, err := p.fr.ReadFrame()
		if err != nil || !p.ignored[f.Header().Type] {
			return f, err
		}
	}
}

// want reads a frame of a type.
func want[F http2.Frame](p *peer) F {
	p.t.Helper()
	f, err := p.next()
	if err != nil {
		p.t.Fatalf("want a %T: %v", *new(F), err)
	}
	got, ok := f.(F)
	if !ok {
		p.t.Fatalf("got %v, want a %T", f, *new(F))
	}
	return got
}

// wantHeaders reads a header block and returns its fields.
func (p *peer) wantHeaders(id uint32, endStream bool) map[string]string {
	p.t.Helper()
	f := want[*http2.HeadersFrame](p)
	if f.StreamID != id || f.StreamEnded() != endStream || !f.HeadersEnded() {
		p.t.Fatalf("got %v, want HEADERS of stream %d, END_STREAM %v", f, id, endStream)
	}
	fields, err := p.dec.DecodeFull(f.HeaderBlockFragment())
	if err != nil {
		p.t.Fatal(err)
	}
	m := make(map[string]string)
	for _, f := range fields {
		m[f.Name] = f.Value
	}
	return m
}

func (p *peer) wantStatus(id uint32, status int, endStream bool) {
	p.t.Helper()
	if got := p.wantHeaders(id, endStream)[":status"]; got != strconv.Itoa(status) {
		p.t.Fatalf("got :status %s, want %d", got, status)
	}
}

func (p *peer) wantData(id uint32, data string, endStream bool) {
	p.t.Helper()
	f := want[*http2.DataFrame](p)
	if f.StreamID != id || string(f.Data()) != data || f.StreamEnded() != endStream {
		p.t.Fatalf("got %v, want %q on stream %d, END_STREAM %v", f, data, id, endStream)
	}
}

func (p *peer) wantReset(id uint32, code http2.ErrCode) {
	p.t.Helper()
	if f := want[*http2.RSTStreamFrame](p); f.StreamID != id || f.ErrCode != code {
		p.t.Fatalf("got %v, want RST_STREAM of %d with %v", f, id, code)
	}
}

func (p *peer) wantGoAway(last uint32, code http2.ErrCode) {
	p.t.Helper()
	if f := want[*http2.GoAwayFrame](p); f.LastStreamID != last || f.ErrCode != code {
		p.t.Fatalf("got %v %s, want GOAWAY with last stream %d and %v", f, f.DebugData(), last, code)
	}
}

// wantConnError reads up to the GOAWAY of a connection error and the end.
func (p *peer) wantConnError(code http2.ErrCode) {
	p.t.Helper()
	for {
		f, err := p.next()
		if err != nil {
			p.t.Fatalf("want a GOAWAY with %v: %v", code, err)
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			if g.ErrCode != code {
				p.t.Fatalf("got GOAWAY with %v (%s), want %v", g.ErrCode, g.DebugData(), code)
			}
			break
		}
	}
	p.wantEnd()
}

// wantEnd reads the end of the connection.
func (p *peer) wantEnd() {
	p.t.Helper()
	if f, err := p.next(); !errors.Is(err, io.EOF) {
		p.t.Fatalf("got %v, %v, want the end of the connection", f, err)
	}
}

// discard reads everything.
func (p *peer) discard() {
	p.conn.SetReadDeadline(time.Time{})
	io.Copy(io.Discard, p.conn)
}

// wantAlive checks that the engine answers, and has said nothing else before.
func (p *peer) wantAlive() {
	p.t.Helper()
	p.fr.WritePing(false, [8]byte{1, 2, 3})
	if f := want[*http2.PingFrame](p); !f.IsAck() || f.Data != [8]byte{1, 2, 3} {
		p.t.Fatalf("got %v, want the answer to a PING", f)
	}
}

// inBubble runs a test in a synctest bubble.
func inBubble(f func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}
