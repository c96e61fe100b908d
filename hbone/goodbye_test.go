package hbone_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// TestGoodbyeIsSaid: the peer of a tunnel that is not needed any more hears GOAWAY when the last stream has ended, and
// then the end of TLS.
func TestGoodbyeIsSaid(t *testing.T) {
	tests := []struct {
		name  string
		leave func(*hbone.Transport)
	}{
		{"Shutdown", func(tr *hbone.Transport) { go tr.Shutdown(context.Background()) }},
		{"CloseIdle", func(tr *hbone.Transport) { time.AfterFunc(time.Minute, tr.CloseIdle) }},
		{"IdleTimeout", func(*hbone.Transport) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				heard := make(chan http2.GoAwayFrame, 2)
				ended := make(chan error, 1)
				w.played(func(nc net.Conn) { ended <- listenForGoodbye(nc, heard) })
				tr := w.transport()
				conn := mustDial(t, tr, w.oneHop())
				tt.leave(tr)
				time.Sleep(time.Second)
				if len(heard)+len(ended) > 0 {
					t.Error("the tunnel ended while it had a stream")
				}
				conn.Close()
				if err := <-ended; !errors.Is(err, io.EOF) || len(heard) == 0 {
					t.Fatalf("got %d GOAWAY, and %v; want at least one, and io.EOF", len(heard), err)
				}
				for range len(heard) {
					if f := <-heard; f.ErrCode != http2.ErrCodeNo || f.LastStreamID != 0 {
						t.Errorf("got %v, stream %d; want NO_ERROR, and no stream of the server's", f.ErrCode, f.LastStreamID)
					}
				}
			})
		})
	}
}

// listenForGoodbye is a server that accepts all streams. It returns what the connection ends with.
func listenForGoodbye(nc net.Conn, heard chan<- http2.GoAwayFrame) error {
	defer nc.Close()
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return err
	}
	fr := http2.NewFramer(nc, nc)
	_ = fr.WriteSettings()
	_ = fr.WriteSettingsAck()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: []byte{0x88}, EndHeaders: true})
		case *http2.PingFrame:
			_ = fr.WritePing(true, f.Data)
		case *http2.GoAwayFrame:
			heard <- *f
		}
	}
}
