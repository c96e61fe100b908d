package h2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

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

// record plays a conversation and returns what the client and the server said.
func record(t *testing.T) (client, server []byte) {
	var saidByClient, saidByServer bytes.Buffer
	c, _ := newPair(t, func(testing.TB) (net.Conn, net.Conn) {
		a, b := memnet.Pipe()
		return recorder{a, &saidByClient}, recorder{b, &saidByServer}
	}, Config{PingInterval: -1}, echo)
	for _, words := range []string{"first", "second"} {
		s := mustOpen(t, c)
		s.Write([]byte(words))
		s.CloseWrite()
		if got, err := io.ReadAll(s); string(got) != words || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	c.Ping(t.Context())
	synctest.Wait()
	return bytes.Clone(saidByClient.Bytes()), bytes.Clone(saidByServer.Bytes())
}

// TestPeerDiesAnywhere replays a recorded conversation up to each of its bytes, then the peer ends:
// nothing may hang, and a stream that was cut must not look complete.
func TestPeerDiesAnywhere(t *testing.T) {
	var client, server []byte
	synctest.Test(t, func(t *testing.T) { client, server = record(t) })
	for _, abort := range []bool{false, true} {
		for n := range client {
			synctest.Test(t, func(t *testing.T) { dieInServer(t, client[:n], abort) })
		}
		for n := range server {
			synctest.Test(t, func(t *testing.T) { dieInClient(t, server[:n], abort) })
		}
	}
}

// dieInServer plays a client that dies.
func dieInServer(t *testing.T, said []byte, abort bool) {
	p, c := playRawClient(t, Config{}, func(s *Stream) {
		s.Accept(nil)
		got, err := io.ReadAll(s)
		if err == nil && string(got) != "first" && string(got) != "second" {
			t.Errorf("after %d bytes: a cut stream looks complete: %q", len(said), got)
		}
		s.Close()
	})
	p.die(said, abort)
	start := time.Now()
	<-c.Done()
	if d := time.Since(start); d > time.Second || c.Err() == nil {
		t.Errorf("after %d bytes: ended after %v with %v", len(said), d, c.Err())
	}
}

// dieInClient plays a server that dies.
func dieInClient(t *testing.T, said []byte, abort bool) {
	a, b := memnet.Pipe()
	c, err := NewClient(b, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	results := make(chan error, 2)
	for range 2 {
		go func() {
			s, err := c.Open(t.Context(), "a:1", nil)
			if err == nil {
				var got []byte
				got, err = io.ReadAll(s)
				s.Close()
				if err == nil && string(got) != "first" && string(got) != "second" {
					t.Errorf("after %d bytes: a cut stream looks complete: %q", len(said), got)
				}
			}
			results <- err
		}()
	}
	p := newPeer(t, a)
	synctest.Wait()
	p.die(said, abort)
	for range 2 {
		if err := <-results; err != nil && errors.Is(err, io.EOF) {
			t.Errorf("after %d bytes: %v", len(said), err)
		}
	}
	<-c.Done()
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
