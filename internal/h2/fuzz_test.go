package h2

import (
	"bytes"
	"context"
	"io"
	"reflect"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// seeds are frames as the tests' peers send them.
func seeds(f *testing.F) {
	var b bytes.Buffer
	p := &peer{t: f, fr: http2.NewFramer(&b, nil)}
	p.fr.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.out)
	p.fr.WriteSettings()
	p.fr.WriteSettingsAck()
	f.Add(b.Bytes())
	start := b.Len()
	for _, v := range append(serverViolations, clientViolations...) {
		if v.name == "frame too large" || v.name == "stream window exceeded" {
			continue
		}
		b.Truncate(start)
		p.enc = hpack.NewEncoder(&p.out)
		p.connect(1)
		p.answer(1, 200, false)
		p.fr.WriteDataPadded(1, false, []byte("data"), make([]byte, 7))
		v.script(p)
		p.fr.WriteGoAway(1, http2.ErrCodeNo, []byte("bye"))
		f.Add(bytes.Clone(b.Bytes()))
	}
}

// FuzzServer feeds a server with anything, after the preface.
func FuzzServer(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, said []byte) {
		a, b := memnet.Pipe()
		c, err := NewServer(b, Config{}, echo)
		if err != nil {
			t.Fatal(err)
		}
		feed(t, a, c, append([]byte(http2.ClientPreface), said...))
	})
}

// FuzzClient feeds a client that is opening streams with anything.
func FuzzClient(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, said []byte) {
		a, b := memnet.Pipe()
		c, err := NewClient(b, Config{})
		if err != nil {
			t.Fatal(err)
		}
		opened := make(chan struct{})
		go func() {
			defer close(opened)
			for range 3 {
				s, err := c.Open(context.Background(), "a:1", nil)
				if err != nil {
					continue
				}
				s.Write([]byte("hello"))
				s.CloseWrite()
				io.Copy(io.Discard, s)
				s.Close()
			}
		}()
		feed(t, a, c, said)
		<-opened
	})
}

// feed says something to c, then ends the connection, and wants c to end.
func feed(t *testing.T, a *memnet.Conn, c *Conn, said []byte) {
	go io.Copy(io.Discard, a)
	a.Write(said)
	a.CloseWrite()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the connection does not end")
	}
	c.Close()
	a.Close()
}

// FuzzHeaderBlock: what is accepted as a request can be sent again, and is then
// the same.
func FuzzHeaderBlock(f *testing.F) {
	p := &peer{t: f}
	p.enc = hpack.NewEncoder(&p.out)
	f.Add(p.block(":method", "CONNECT", ":authority", "a:1", "baggage", "k=v"))
	f.Add(p.block(":method", "GET", ":scheme", "https", ":path", "/"))
	f.Add(p.block(":status", "200", "te", "trailers"))
	f.Add(p.block("A", "b", ":x", "\x00"))
	f.Fuzz(func(t *testing.T, block []byte) {
		c := &Conn{}
		r := &reader{}
		r.init(c)
		r.block = block
		l, err := r.decode()
		if err != nil || l.tooBig {
			return
		}
		first := *l
		if status, fault := l.responseStatus(); fault == "" && (status < 100 || status > 999) {
			t.Errorf("status %d accepted", status)
		}
		if l.checkRequest() != "" || l.pseudo[method] != "CONNECT" {
			return
		}
		fields, err := requestFields(nil, first.pseudo[authority], first.fields)
		if err != nil {
			t.Fatalf("what was received cannot be sent: %v", err)
		}
		var out bytes.Buffer
		enc := hpack.NewEncoder(&out)
		for _, f := range fields {
			enc.WriteField(f)
		}
		r.init(c)
		r.block = out.Bytes()
		again, err := r.decode()
		if err != nil || !reflect.DeepEqual(first.fields, again.fields) || first.pseudo != again.pseudo {
			t.Errorf("%v %v became %v %v, %v", first.pseudo, first.fields, again.pseudo, again.fields, err)
		}
	})
}
