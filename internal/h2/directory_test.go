package h2

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
)

// TestDirectoryFindsNoEndedStream: a stream that got DATA is found without a lock, until no more may come for it.
func TestDirectoryFindsNoEndedStream(t *testing.T) {
	ends := map[string]func(client, server *Stream){
		"END_STREAM":     func(_, server *Stream) { server.CloseWrite() },
		"peer's reset":   func(_, server *Stream) { server.Reset(http2.ErrCodeCancel, errors.New("test")) },
		"our reset":      func(client, _ *Stream) { client.Reset(http2.ErrCodeCancel, errors.New("test")) },
		"our close":      func(client, _ *Stream) { client.Close() },
		"connection end": func(client, _ *Stream) { client.Conn().Close() },
	}
	for name, end := range ends {
		t.Run(name, inBubble(func(t *testing.T) {
			client, server := openPair(t, memWire, Config{})
			c := client.Conn()
			if c.recent.find(client.id) != nil {
				t.Error("found before DATA came")
			}
			server.Write([]byte("hello"))
			io.ReadFull(client, make([]byte, 5))
			if c.recent.find(client.id) != client {
				t.Error("not found after DATA came")
			}
			if c.recent.find(client.id+2*uint32(len(c.recent))) != nil {
				t.Error("found a stream of the same place by another's id")
			}
			end(client, server)
			synctest.Wait()
			client.Read(make([]byte, 1))
			if c.recent.find(client.id) != nil {
				t.Error("found after the end")
			}
		}))
	}
}
