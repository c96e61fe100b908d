package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// The streams of a recorded conversation, in order. What they are called is what happens to them; on the others, the
// server echoes their words.
var recordedStreams = []string{"first", "refused", "reset", "left", "second"}

// words are what the client says on a stream: more than fits into the window of a recorded one.
func words(name string) string { return strings.Repeat(name+" ", 5) }

const recordedWindow = 16

// answerRecorded is the server's part of one stream.
func answerRecorded(s *Stream) (got []byte, err error) {
	if s.Authority() == "refused" {
		return nil, s.Reject(http.StatusServiceUnavailable, nil)
	}
	s.Accept(nil)
	if s.Authority() == "reset" {
		s.Reset(http2.ErrCodeInternal, nil)
		return nil, nil
	}
	got, err = io.ReadAll(io.TeeReader(s, s))
	s.CloseWrite()
	s.Close()
	return got, err
}

// askRecorded is the client's part of one stream, and what came of it.
func askRecorded(c *Conn, name string) (got []byte, err error) {
	s, err := c.Open(context.Background(), name, nil)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if name == "left" {
		s.Write([]byte("left")) // and not the rest of it
		s.Reset(http2.ErrCodeCancel, nil)
		return nil, nil
	}
	go func() {
		s.Write([]byte(words(name)))
		s.CloseWrite()
	}()
	return io.ReadAll(s)
}

// A recorder keeps what one end says.
type recorder struct {
	net.Conn
	said *bytes.Buffer
}

func (r recorder) Write(p []byte) (int, error) {
	n, err := r.Conn.Write(p)
	r.said.Write(p[:n])
	return n, err
}

// record plays a conversation, which both ends drain, and returns what the client and the server said.
func record(t *testing.T) (client, server []byte) {
	var saidByClient, saidByServer bytes.Buffer
	c, s := newPair(t, func(testing.TB) (net.Conn, net.Conn) {
		a, b := memnet.Pipe()
		return recorder{a, &saidByClient}, recorder{b, &saidByServer}
	}, Config{PingInterval: -1, StreamWindow: recordedWindow}, func(s *Stream) { answerRecorded(s) })
	for _, name := range recordedStreams {
		got, err := askRecorded(c, name)
		wantWhole(t, name, got, err)
	}
	c.Ping(t.Context())
	synctest.Wait()
	go c.Shutdown(t.Context())
	s.Shutdown(t.Context())
	synctest.Wait()
	client, server = saidByClient.Bytes(), saidByServer.Bytes()
	wantRecorded(t, client[len(http2.ClientPreface):])
	wantRecorded(t, server)
	return client, server
}

// wantWhole checks what came of a stream of which nothing was cut.
func wantWhole(t *testing.T, name string, got []byte, err error) {
	t.Helper()
	ok := err == nil && string(got) == words(name)
	switch name {
	case "refused":
		ok = errors.As(err, new(*StatusError))
	case "reset":
		ok = errors.As(err, new(*StreamError))
	case "left":
		ok = err == nil
	}
	if !ok {
		t.Errorf("stream %q: read %q, %v", name, got, err)
	}
}

// wantRecorded checks that a conversation has all that may be cut.
func wantRecorded(t *testing.T, said []byte) {
	t.Helper()
	types := map[http2.FrameType]bool{}
	fr := http2.NewFramer(nil, bytes.NewReader(said))
	for f, err := fr.ReadFrame(); err == nil; f, err = fr.ReadFrame() {
		types[f.Header().Type] = true
	}
	for want := http2.FrameData; want <= http2.FrameWindowUpdate; want++ {
		never := []http2.FrameType{http2.FramePriority, http2.FramePushPromise}
		if !types[want] && !slices.Contains(never, want) {
			t.Errorf("the conversation has no %v", want)
		}
	}
}

// TestPeerDiesAnywhere replays a recorded conversation up to each of its bytes, then the peer ends:
// nothing may hang, and a stream that was cut must not look complete.
func TestPeerDiesAnywhere(t *testing.T) {
	var client, server []byte
	synctest.Test(t, func(t *testing.T) { client, server = record(t) })
	for _, abort := range []bool{false, true} {
		for n := range len(client) + 1 {
			synctest.Test(t, func(t *testing.T) { dieInServer(t, client, n, abort) })
		}
		for n := range len(server) + 1 {
			synctest.Test(t, func(t *testing.T) { dieInClient(t, server, n, abort) })
		}
	}
}

// dieInServer plays a client that dies.
func dieInServer(t *testing.T, said []byte, n int, abort bool) {
	var streams sync.WaitGroup
	p, c := playRawClient(t, Config{}, func(s *Stream) {
		streams.Add(1)
		defer streams.Done()
		got, err := answerRecorded(s)
		switch name := s.Authority(); name {
		case "first", "second":
			wantNotCut(t, n, words(name), got, err)
		case "left":
			wantNotCut(t, n, "nothing of it is complete", got, err)
		}
	})
	p.die(said[:n], abort)
	wantEndAtOnce(t, n, c, &streams)
}

// dieInClient plays a server that dies.
func dieInClient(t *testing.T, said []byte, n int, abort bool) {
	a, b := memnet.Pipe()
	c, err := NewClient(b, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var streams sync.WaitGroup
	for _, name := range recordedStreams {
		streams.Go(func() {
			got, err := askRecorded(c, name)
			if n == len(said) {
				wantWhole(t, name, got, err)
			} else if name != "left" {
				wantNotCut(t, n, words(name), got, err)
			}
		})
		synctest.Wait() // the next one has the next stream id
	}
	p := newPeer(t, a)
	p.die(said[:n], abort)
	wantEndAtOnce(t, n, c, &streams)
}

// wantNotCut checks that after n bytes a stream has what it was to have, or failed; not with what looks like an end.
func wantNotCut(t *testing.T, n int, want string, got []byte, err error) {
	t.Helper()
	switch {
	case err == nil && string(got) != want:
		t.Errorf("after %d bytes: a cut stream looks complete: %q", n, got)
	case errors.Is(err, io.EOF):
		t.Errorf("after %d bytes: %v", n, err)
	}
}

// wantEndAtOnce checks that a connection and its streams end as soon as the peer is gone.
func wantEndAtOnce(t *testing.T, n int, c *Conn, streams *sync.WaitGroup) {
	t.Helper()
	start := time.Now()
	<-c.Done()
	if err := c.Err(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("after %d bytes: the connection ended with %v", n, err)
	}
	streams.Wait()
	if d := time.Since(start); d > time.Second {
		t.Errorf("after %d bytes: the connection ended after %v", n, d)
	}
}

// die says something and ends the connection, with abort by a reset.
func (p *peer) die(last []byte, abort bool) {
	p.conn.Write(last)
	synctest.Wait()
	if abort {
		p.conn.SetLinger(0)
	}
	p.conn.Close()
}
