package h2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// A stutterer is a connection that says its script byte by byte, each read after one that is interrupted.
type stutterer struct {
	net.Conn
	script    []byte
	spoke     bool
	interrupt func()
}

func (s *stutterer) Read(p []byte) (int, error) {
	s.spoke = !s.spoke
	switch {
	case s.spoke:
		s.interrupt()
		return 0, os.ErrDeadlineExceeded
	case len(s.script) == 0:
		return 0, io.EOF
	}
	n := copy(p[:1], s.script)
	s.script = s.script[n:]
	return n, nil
}

// TestReaderGoesOn stops the reader before every byte of a conversation.
func TestReaderGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var script bytes.Buffer
		p := &peer{t: t, fr: http2.NewFramer(&script, nil)}
		p.enc = hpack.NewEncoder(&p.out)
		script.WriteString(http2.ClientPreface)
		p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		p.fr.WriteSettingsAck()
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: connBlock(p)[:3], PadLength: 9,
			Priority: http2.PriorityParam{Weight: 7}})
		p.enc = hpack.NewEncoder(&p.out)
		p.fr.WriteContinuation(1, true, connBlock(p)[3:])
		p.fr.WriteRawFrame(0xfe, 0, 0, make([]byte, 50))
		p.fr.WriteDataPadded(1, false, []byte("hello "), make([]byte, 20))
		p.fr.WriteWindowUpdate(1, 10)
		p.fr.WriteData(1, true, []byte("world"))

		a, b := memnet.Pipe()
		defer a.Close()
		got := make(chan string, 1)
		st := &stutterer{Conn: b, script: script.Bytes()}
		tr, err := newTransport(st, 0)
		if err != nil {
			t.Fatal(err)
		}
		c := makeConn(tr, Config{}, func(s *Stream) {
			s.Accept(nil)
			buf := make([]byte, 100)
			n := 0
			for {
				k, err := s.Read(buf[n:])
				n += k
				if err != nil {
					break
				}
			}
			s.Write([]byte("11 bytes go"))
			s.Close()
			got <- string(buf[:n])
		})
		st.interrupt = func() { c.turn.stop(nil) }
		c.start()
		if err := c.in.run(nil, nil); !errors.Is(err, io.ErrUnexpectedEOF) || len(st.script) > 0 {
			t.Fatalf("with %d bytes left: %v", len(st.script), err)
		}
		if s := <-got; s != "hello world" {
			t.Errorf("the stream received %q", s)
		}
		c.fail(net.ErrClosed)
	})
}
