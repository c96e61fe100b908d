package h2

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// echo accepts a stream and sends back what comes.
func echo(s *Stream) {
	s.Accept(nil)
	io.Copy(struct{ io.Writer }{s}, s)
	s.CloseWrite()
}

func TestServerConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := playClient(t, Config{}, func(s *Stream) {
			if s.Authority() != "a:1" || s.RequestHeader().Get("Baggage") != "k=v" {
				t.Errorf("authority %q, header %v", s.Authority(), s.RequestHeader())
			}
			s.Accept(http.Header{"X-Backend": {"b1"}})
			io.Copy(s, s)
			s.CloseWrite()
		})
		p.connect(1, "baggage", "k=v")
		if h := p.wantHeaders(1, false); h[":status"] != "200" || h["x-backend"] != "b1" {
			t.Errorf("response %v", h)
		}
		p.fr.WriteData(1, false, []byte("hello"))
		p.wantData(1, "hello", false)
		p.fr.WriteDataPadded(1, true, []byte("world"), make([]byte, 100))
		p.wantData(1, "world", false)
		p.wantData(1, "", true)
		p.wantAlive()
	})
}

func TestClientConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playServer(t, Config{})
		go func() {
			h := p.wantHeaders(1, false)
			if len(h) != 3 || h[":method"] != "CONNECT" || h[":authority"] != "a:1" || h["baggage"] != "k=v" {
				t.Errorf("request %v", h)
			}
			p.headers(1, false, ":status", "103", "link", "x")
			p.headers(1, false, ":status", "200", "baggage", "k=w")
			p.fr.WriteData(1, false, []byte("hello"))
			p.wantData(1, "hi", false)
			p.wantData(1, "", true)
			p.headers(1, true, "trailer", "discarded")
		}()
		s, err := c.Open(t.Context(), "a:1", http.Header{"Baggage": {"k=v"}})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.ResponseHeader().Get("Baggage"); got != "k=w" {
			t.Errorf("response baggage %q", got)
		}
		s.Write([]byte("hi"))
		s.CloseWrite()
		if b, err := io.ReadAll(s); string(b) != "hello" || err != nil {
			t.Errorf("read %q, %v", b, err)
		}
		if n := c.Streams(); n != 0 {
			t.Errorf("%d streams open after both ends", n)
		}
	})
}

// A violation is something that a peer must not do, after the handshake and, on
// a server, a CONNECT on stream 1.
type violation struct {
	name   string
	script func(p *peer)
	conn   http2.ErrCode // of the GOAWAY
	stream http2.ErrCode // of the RST_STREAM, if the connection goes on
	id     uint32        // of the stream that is reset; 0: 1
}

func connBlock(p *peer) []byte { return p.block(":method", "CONNECT", ":authority", "a:1") }

var serverViolations = []violation{
	{name: "DATA without stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteData(0, false, nil) }},
	{name: "DATA on idle stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteData(5, false, []byte("x")) }},
	{name: "DATA on server's stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteData(2, false, []byte("x")) }},
	{name: "DATA after END_STREAM", stream: http2.ErrCodeStreamClosed, script: func(p *peer) {
		p.fr.WriteData(1, true, nil)
		p.fr.WriteData(1, false, []byte("x"))
	}},
	{name: "DATA all padding and more", conn: http2.ErrCodeProtocol, script: func(p *peer) {
		p.fr.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{4, 0, 0, 0})
	}},
	{name: "padded DATA without pad length", conn: http2.ErrCodeFrameSize, script: func(p *peer) {
		p.fr.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, nil)
	}},
	{name: "frame too large", conn: http2.ErrCodeFrameSize, script: func(p *peer) {
		p.fr.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 20000))
	}},
	{name: "stream window exceeded", stream: http2.ErrCodeFlowControl, script: func(p *peer) {
		for range 5 {
			p.fr.WriteData(1, false, make([]byte, 16384))
		}
	}},
	{name: "HEADERS without stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.connect(0) }},
	{name: "HEADERS on even stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.connect(2) }},
	{name: "HEADERS on closed stream", conn: http2.ErrCodeStreamClosed, script: func(p *peer) {
		p.fr.WriteRSTStream(1, http2.ErrCodeCancel)
		p.connect(1)
	}},
	{name: "stream id goes down", conn: http2.ErrCodeStreamClosed, script: func(p *peer) {
		p.connect(7)
		p.connect(5)
	}},
	{name: "trailers without END_STREAM", stream: http2.ErrCodeProtocol, script: func(p *peer) { p.headers(1, false, "x", "y") }},
	{name: "trailers with pseudo-header", stream: http2.ErrCodeProtocol, script: func(p *peer) { p.headers(1, true, ":status", "200") }},
	{name: "HEADERS after END_STREAM", stream: http2.ErrCodeStreamClosed, script: func(p *peer) {
		p.fr.WriteData(1, true, nil)
		p.headers(1, true, "x", "y")
	}},
	{name: "HPACK garbage", conn: http2.ErrCodeCompression, script: func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndHeaders: true, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff}})
	}},
	{name: "HPACK truncated", conn: http2.ErrCodeCompression, script: func(p *peer) {
		b := connBlock(p)
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndHeaders: true, BlockFragment: append(b, 0x40)})
	}},
	{name: "CONTINUATION without HEADERS", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteContinuation(1, true, connBlock(p)) }},
	{name: "CONTINUATION of another stream", conn: http2.ErrCodeProtocol, script: func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: connBlock(p)})
		p.fr.WriteContinuation(5, true, nil)
	}},
	{name: "PING within a header block", conn: http2.ErrCodeProtocol, script: func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: connBlock(p)})
		p.fr.WritePing(false, [8]byte{})
	}},
	{name: "CONNECT with :path", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.headers(3, false, ":method", "CONNECT", ":authority", "a:1", ":path", "/") }},
	{name: "CONNECT with :scheme", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.headers(3, false, ":method", "CONNECT", ":authority", "a:1", ":scheme", "https") }},
	{name: "CONNECT without :authority", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.headers(3, false, ":method", "CONNECT") }},
	{name: "extended CONNECT", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) {
		p.headers(3, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", "a:1")
	}},
	{name: "no :method", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.headers(3, false, ":authority", "a:1") }},
	{name: "request with :status", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.connect3(":status", "200") }},
	{name: "unknown pseudo-header", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.connect3(":x", "y") }},
	{name: "repeated pseudo-header", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.connect3(":authority", "b:1") }},
	{name: "pseudo-header after field", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.headers(3, false, ":method", "CONNECT", "x", "y", ":authority", "a:1") }},
	{name: "GET without :path", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.headers(3, true, ":method", "GET", ":scheme", "https", ":authority", "a") }},
	{name: "upper-case name", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.connect3("Baggage", "x") }},
	{name: "name with space", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.connect3("a b", "x") }},
	{name: "empty name", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.connect3("", "x") }},
	{name: "value with newline", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.connect3("x", "a\r\nb") }},
	{name: "value in spaces", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.connect3("x", " a") }},
	{name: "connection header", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.connect3("connection", "close") }},
	{name: "transfer-encoding", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.connect3("transfer-encoding", "chunked") }},
	{name: "te other than trailers", stream: http2.ErrCodeProtocol, id: 3, script: func(p *peer) { p.connect3("te", "gzip") }},
	{name: "RST_STREAM without stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteRSTStream(0, 0) }},
	{name: "RST_STREAM on idle stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteRSTStream(9, 0) }},
	{name: "RST_STREAM of 3 bytes", conn: http2.ErrCodeFrameSize, script: func(p *peer) { p.fr.WriteRawFrame(http2.FrameRSTStream, 0, 1, make([]byte, 3)) }},
	{name: "PRIORITY of 4 bytes", stream: http2.ErrCodeFrameSize, script: func(p *peer) { p.fr.WriteRawFrame(http2.FramePriority, 0, 1, make([]byte, 4)) }},
	{name: "PRIORITY without stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteRawFrame(http2.FramePriority, 0, 0, make([]byte, 5)) }},
	{name: "SETTINGS on a stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteRawFrame(http2.FrameSettings, 0, 1, nil) }},
	{name: "SETTINGS of 5 bytes", conn: http2.ErrCodeFrameSize, script: func(p *peer) { p.fr.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5)) }},
	{name: "SETTINGS ack with payload", conn: http2.ErrCodeFrameSize, script: func(p *peer) {
		p.fr.WriteRawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, make([]byte, 6))
	}},
	{name: "initial window too large", conn: http2.ErrCodeFlowControl, script: func(p *peer) {
		p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
	}},
	{name: "initial window overflows a stream", conn: http2.ErrCodeFlowControl, script: func(p *peer) {
		p.fr.WriteWindowUpdate(1, maxWindow-initialWindow)
		p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: initialWindow + 1})
	}},
	{name: "max frame size too small", conn: http2.ErrCodeProtocol, script: func(p *peer) {
		p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16383})
	}},
	{name: "enable push 2", conn: http2.ErrCodeProtocol, script: func(p *peer) {
		p.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2})
	}},
	{name: "PUSH_PROMISE", conn: http2.ErrCodeProtocol, script: func(p *peer) {
		p.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: connBlock(p), EndHeaders: true})
	}},
	{name: "PING on a stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteRawFrame(http2.FramePing, 0, 1, make([]byte, 8)) }},
	{name: "PING of 7 bytes", conn: http2.ErrCodeFrameSize, script: func(p *peer) { p.fr.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7)) }},
	{name: "GOAWAY on a stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteRawFrame(http2.FrameGoAway, 0, 1, make([]byte, 8)) }},
	{name: "GOAWAY of 7 bytes", conn: http2.ErrCodeFrameSize, script: func(p *peer) { p.fr.WriteRawFrame(http2.FrameGoAway, 0, 0, make([]byte, 7)) }},
	{name: "GOAWAY raises the last stream", conn: http2.ErrCodeProtocol, script: func(p *peer) {
		p.fr.WriteGoAway(0, 0, nil)
		p.fr.WriteGoAway(2, 0, nil)
	}},
	{name: "WINDOW_UPDATE of 3 bytes", conn: http2.ErrCodeFrameSize, script: func(p *peer) { p.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, 1, make([]byte, 3)) }},
	{name: "WINDOW_UPDATE of 0 on a stream", stream: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteWindowUpdate(1, 0) }},
	{name: "WINDOW_UPDATE of 0", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteWindowUpdate(0, 0) }},
	{name: "WINDOW_UPDATE on idle stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteWindowUpdate(9, 1) }},
	{name: "WINDOW_UPDATE overflows a stream", stream: http2.ErrCodeFlowControl, script: func(p *peer) { p.fr.WriteWindowUpdate(1, maxWindow) }},
	{name: "WINDOW_UPDATE overflows the connection", conn: http2.ErrCodeFlowControl, script: func(p *peer) { p.fr.WriteWindowUpdate(0, maxWindow) }},
}

func (p *peer) connect3(fields ...string) { p.connect(3, fields...) }

func TestServerRefusesViolations(t *testing.T) {
	for _, v := range serverViolations {
		t.Run(v.name, inBubble(func(t *testing.T) {
			cfg := Config{StreamWindow: initialWindow, MaxFrameSize: minMaxFrameSize}
			p, c := playClient(t, cfg, func(s *Stream) {
				if s.Accept(nil) == nil {
					<-s.Context().Done()
				}
			})
			p.connect(1)
			p.wantStatus(1, 200, false)
			p.ignored[http2.FrameHeaders] = true // of stream 3
			v.run(p, c)
		}))
	}
}

func (v *violation) run(p *peer, c *Conn) {
	p.t.Helper()
	v.script(p)
	if v.conn != 0 {
		p.wantConnError(v.conn)
		var ce *ConnError
		if err := c.Err(); !errors.As(err, &ce) || ce.Code != v.conn || ce.Remote {
			p.t.Errorf("Err() = %v", err)
		}
		return
	}
	p.wantReset(max(v.id, 1), v.stream)
	p.wantAlive()
}

var clientViolations = []violation{
	{name: "DATA before the answer", stream: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteData(1, false, []byte("x")) }},
	{name: "DATA on idle stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.fr.WriteData(3, false, []byte("x")) }},
	{name: "HEADERS on idle stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.answer(3, 200, false) }},
	{name: "HEADERS on pushed stream", conn: http2.ErrCodeProtocol, script: func(p *peer) { p.answer(2, 200, false) }},
	{name: "PUSH_PROMISE", conn: http2.ErrCodeProtocol, script: func(p *peer) {
		p.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: connBlock(p), EndHeaders: true})
	}},
	{name: "server enables push", conn: http2.ErrCodeProtocol, script: func(p *peer) {
		p.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1})
	}},
	{name: "no :status", stream: http2.ErrCodeProtocol, script: func(p *peer) { p.headers(1, false, "x", "y") }},
	{name: ":status 2000", stream: http2.ErrCodeProtocol, script: func(p *peer) { p.headers(1, false, ":status", "2000") }},
	{name: ":status +20", stream: http2.ErrCodeProtocol, script: func(p *peer) { p.headers(1, false, ":status", "+20") }},
	{name: ":status 101", stream: http2.ErrCodeProtocol, script: func(p *peer) { p.answer(1, 101, false) }},
	{name: "response with :method", stream: http2.ErrCodeProtocol, script: func(p *peer) { p.headers(1, false, ":status", "200", ":method", "GET") }},
	{name: "interim response ends stream", stream: http2.ErrCodeProtocol, script: func(p *peer) { p.answer(1, 103, true) }},
	{name: "response header too large", stream: http2.ErrCodeProtocol, script: func(p *peer) {
		var fields []string
		for range 1000 {
			fields = append(fields, "x", "0123456789")
		}
		p.headers(1, false, append([]string{":status", "200"}, fields...)...)
	}},
}

func TestClientRefusesViolations(t *testing.T) {
	for _, v := range clientViolations {
		t.Run(v.name, inBubble(func(t *testing.T) {
			p, c := playServer(t, Config{})
			failed := make(chan error, 1)
			go func() {
				_, err := c.Open(t.Context(), "a:1", nil)
				failed <- err
			}()
			p.wantHeaders(1, false)
			v.run(p, c)
			if err := <-failed; err == nil {
				t.Error("Open succeeded")
			}
		}))
	}
}

func TestPrefaceViolations(t *testing.T) {
	for name, preface := range map[string]string{
		"HTTP/1.1":           "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"TLS":                "\x16\x03\x01",
		"first frame a PING": http2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678",
		"first SETTINGS ack": http2.ClientPreface + "\x00\x00\x00\x04\x01\x00\x00\x00\x00",
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			p, _ := playRawClient(t, Config{}, echo)
			p.write(preface)
			p.wantConnError(http2.ErrCodeProtocol)
		}))
	}
}

func TestHandshakeTimeout(t *testing.T) {
	for name, preface := range map[string]string{
		"silent":             "",
		"preface only":       http2.ClientPreface,
		"no acknowledgement": http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", // RFC 9113 §6.5.3
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			p, c := playRawClient(t, Config{HandshakeTimeout: 3 * time.Second}, echo)
			p.write(preface)
			start := time.Now()
			<-c.Done()
			if d := time.Since(start); d != 3*time.Second {
				t.Errorf("ended after %v", d)
			}
			p.wantConnError(http2.ErrCodeSettingsTimeout)
		}))
	}
}

func TestToleratedFrames(t *testing.T) {
	tests := map[string]func(p *peer){
		"PRIORITY":                  func(p *peer) { p.fr.WritePriority(1, http2.PriorityParam{StreamDep: 3}) },
		"PRIORITY on idle stream":   func(p *peer) { p.fr.WritePriority(99, http2.PriorityParam{}) },
		"unknown type":              func(p *peer) { p.fr.WriteRawFrame(0xfe, 0xff, 1, make([]byte, 30000)) },
		"unknown type, idle stream": func(p *peer) { p.fr.WriteRawFrame(0xfe, 0xff, 77, nil) },
		"unknown setting":           func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: 0xff, Val: 1}); p.wantSettingsAck() },
		"unknown flags":             func(p *peer) { p.fr.WriteRawFrame(http2.FrameWindowUpdate, 0xff, 1, []byte{0, 0, 0, 1}) },
		"reserved bit":              func(p *peer) { p.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, 1|1<<31, []byte{0x80, 0, 0, 1}) },
		"unsolicited PING ack":      func(p *peer) { p.fr.WritePing(true, [8]byte{9}) },
		"GOAWAY":                    func(p *peer) { p.fr.WriteGoAway(0, http2.ErrCodeNo, make([]byte, 20000)) },
		"WINDOW_UPDATE after reset": func(p *peer) { p.fr.WriteRSTStream(1, 0); p.fr.WriteWindowUpdate(1, 1) },
		"RST_STREAM twice":          func(p *peer) { p.fr.WriteRSTStream(1, 0); p.fr.WriteRSTStream(1, 0) },
	}
	for name, script := range tests {
		t.Run(name, inBubble(func(t *testing.T) {
			done := make(chan struct{})
			p, _ := playClient(t, Config{}, func(s *Stream) { s.Accept(nil); <-done })
			defer close(done)
			p.connect(1)
			p.wantStatus(1, 200, false)
			if name == "GOAWAY" { // lest it drain
				p.connect(3)
				p.wantStatus(3, 200, false)
			}
			script(p)
			p.wantAlive()
		}))
	}
}

func TestLateFramesOnResetStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playClient(t, Config{ConnWindow: initialWindow}, func(s *Stream) {
			s.Accept(nil)
			s.Reset(http2.ErrCodeConnect, errors.New("far side is gone"))
		})
		p.connect(1)
		p.wantStatus(1, 200, false)
		p.wantReset(1, http2.ErrCodeConnect)
		delete(p.ignored, http2.FrameWindowUpdate)
		// More than the connection's window: its credit must come back.
		for range 4 {
			p.fr.WriteData(1, false, make([]byte, minMaxFrameSize))
		}
		for given := uint32(0); given < initialWindow/2; {
			f := want[*http2.WindowUpdateFrame](p)
			if f.StreamID != 0 {
				t.Fatalf("got %v", f)
			}
			given += f.Increment
		}
		p.fr.WriteWindowUpdate(1, 100)
		p.headers(1, true, "late", "trailer")
		p.ignored[http2.FrameWindowUpdate] = true
		p.wantAlive()
		if n := c.Streams(); n != 0 {
			t.Errorf("%d streams", n)
		}
	})
}

func TestNonConnectIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := playClient(t, Config{}, func(*Stream) { t.Error("handler runs") })
		p.headers(1, true, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "a")
		p.wantStatus(1, 400, true)
		p.headers(3, false, ":method", "POST", ":scheme", "https", ":path", "/", ":authority", "a")
		p.wantStatus(3, 400, true)
		p.wantReset(3, http2.ErrCodeNo)
		p.fr.WriteData(3, true, []byte("late"))
		p.wantAlive()
	})
}

func TestAnyMethod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := playClient(t, Config{AnyMethod: true}, echo)
		p.headers(1, true, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "a")
		p.wantStatus(1, 200, false)
		p.wantData(1, "", true)
		p.headers(3, true, ":method", "GET", ":scheme", "https", ":authority", "a")
		p.wantReset(3, http2.ErrCodeProtocol) // a method that needs a :path
		p.wantAlive()
	})
}

func TestHandlerMustAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playClient(t, Config{}, func(s *Stream) {
			if _, err := s.Write([]byte("x")); err == nil {
				t.Error("Write before Accept")
			}
			if err := s.CloseWrite(); err == nil {
				t.Error("CloseWrite before Accept")
			}
		})
		p.connect(1)
		p.wantStatus(1, 500, true)
		p.wantReset(1, http2.ErrCodeNo)
		p.wantAlive()
		if n := c.Streams(); n != 0 {
			t.Errorf("%d streams", n)
		}
	})
}

func TestReject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newPair(t, memWire, Config{}, func(s *Stream) {
			if err := s.Reject(200, nil); err == nil {
				t.Error("Reject(200) succeeds")
			}
			if err := s.Reject(503, http.Header{"Why": {"no backend"}}); err != nil {
				t.Error(err)
			}
			if err := s.Accept(nil); err == nil {
				t.Error("Accept after Reject succeeds")
			}
		})
		_, err := c.Open(t.Context(), "a:1", nil)
		var se *StatusError
		if !errors.As(err, &se) || se.Status != 503 || se.Header.Get("Why") != "no backend" {
			t.Fatalf("Open: %v", err)
		}
		synctest.Wait()
		if n := c.Streams(); n != 0 {
			t.Errorf("%d streams", n)
		}
	})
}

func TestHeadersLargerThanAFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		big := strings.Repeat("0123456789abcdef", 3000)
		c, _ := newPair(t, memWire, Config{MaxHeaderBytes: 100 << 10}, func(s *Stream) {
			if s.RequestHeader().Get("Big") != big {
				t.Error("request header is damaged")
			}
			s.Accept(s.RequestHeader())
		})
		if err := c.awaitSettings(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := c.Open(t.Context(), "a:1", http.Header{"Big": {big}})
		if err != nil {
			t.Fatal(err)
		}
		if s.ResponseHeader().Get("Big") != big {
			t.Error("response header is damaged")
		}
		if _, err := c.Open(t.Context(), "a:1", http.Header{"Big": {big, big, big}}); err == nil {
			t.Error("a header larger than the peer takes was sent")
		}
	})
}

// awaitSettings waits for the peer's SETTINGS, by way of a PING.
func (c *Conn) awaitSettings(ctx context.Context) error {
	_, err := c.Ping(ctx)
	return err
}

func TestInvalidHeadersAreNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newPair(t, memWire, Config{}, echo)
		for _, h := range []http.Header{
			{"A B": {"x"}}, {"": {"x"}}, {"X": {"a\nb"}}, {"Connection": {"close"}}, {"Te": {"gzip"}}, {":path": {"/"}},
		} {
			if _, err := c.Open(t.Context(), "a:1", h); err == nil {
				t.Errorf("Open with header %v succeeds", h)
			}
		}
		for _, authority := range []string{"", "a\nb", " a"} {
			if _, err := c.Open(t.Context(), authority, nil); err == nil {
				t.Errorf("Open with authority %q succeeds", authority)
			}
		}
		if n := c.Streams(); n != 0 {
			t.Errorf("%d streams", n)
		}
	})
}

// TestPerStreamHeadersAreNotIndexed: they must not push what streams share out of the peer's table.
func TestPerStreamHeadersAreNotIndexed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playServer(t, Config{})
		go c.Open(t.Context(), "a:1", http.Header{"Baggage": {"k=v"}, "Traceparent": {"00-1-2-00"}, "Forwarded": {"for=x"}})
		f := want[*http2.HeadersFrame](p)
		fields, err := p.dec.DecodeFull(f.HeaderBlockFragment())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fields {
			if never := f.Name == "traceparent" || f.Name == "forwarded"; f.Sensitive != never {
				t.Errorf("%s: never indexed: %v", f.Name, f.Sensitive)
			}
		}
		p.answer(1, 200, true)
		synctest.Wait()
	})
}

// TestHeaderError: what may not be sent is refused before anything is, with a type that tells it from what went wrong on the way.
func TestHeaderError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan error, 1)
		c, _ := newPair(t, memWire, Config{}, func(s *Stream) {
			answers <- s.Accept(http.Header{"Upgrade": {"websocket"}})
			s.Reject(http.StatusServiceUnavailable, nil)
		})
		requests := []struct {
			to     string
			header http.Header
		}{
			{"", nil},
			{"a:1\n", nil},
			{"a:1", http.Header{"": {"x"}}},
			{"a:1", http.Header{"Bad Name": {"x"}}},
			{"a:1", http.Header{"A": {"b\x00"}}},
			{"a:1", http.Header{"Te": {"gzip"}}},
			{"a:1", http.Header{"Connection": {"close"}}},
		}
		for _, r := range requests {
			if _, err := c.Open(t.Context(), r.to, r.header); !errors.As(err, new(*HeaderError)) || errors.Is(err, ErrUnprocessed) {
				t.Errorf("Open(%q, %q): %v, want a *HeaderError", r.to, r.header, err)
			}
		}
		_, err := c.Open(t.Context(), "a:1", nil)
		if got := <-answers; !errors.As(got, new(*HeaderError)) {
			t.Errorf("Accept: %v, want a *HeaderError", got)
		}
		if !errors.As(err, new(*StatusError)) {
			t.Errorf("Open after all of them: %v, want the server's answer", err)
		}
	})
}
