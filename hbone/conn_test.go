package hbone_test

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"golang.org/x/net/nettest"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/internal/memnet"
	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// A fabric is what streams are tested over.
type fabric struct {
	listen func() (net.Listener, error)
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

func fabrics() map[string]fabric {
	n := new(memnet.Network)
	return map[string]fabric{
		"memnet": {
			listen: func() (net.Listener, error) { return n.Listen("server:0") },
			dial:   n.Host("client").Dial,
		},
		"loopback": {
			listen: func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
		},
	}
}

// A pipe makes streams, both ends of which are in hand.
type pipe struct {
	transport *hbone.Transport
	path      hbone.Path
	accepted  chan *hbone.Conn
	servers   []*hbone.Server
}

// newPipe builds a path of n hops over f. Every server but the last serves
// what comes within its streams with the next: nesting is ServeConn(stream).
func newPipe(t *testing.T, f fabric, hops int) *pipe {
	ca := testca.New("cluster.local")
	p := &pipe{
		transport: &hbone.Transport{DialContext: f.dial},
		accepted:  make(chan *hbone.Conn, 1),
	}
	l, err := f.listen()
	if err != nil {
		t.Fatal(err)
	}
	for i := range hops {
		s := &hbone.Server{TLS: ca.Server(ca.Issue("/server"), "/client")}
		p.servers = append(p.servers, s)
		p.path.Hops = append(p.path.Hops, hbone.Hop{
			Authority: "10.1.0.10:8080",
			TLS:       ca.Client(ca.Issue("/client"), "/server"),
		})
		if i > 0 {
			p.servers[i-1].Handler = nest(s)
		}
	}
	p.path.Hops[0].Address = l.Addr().String()
	p.servers[hops-1].Handler = func(r *hbone.Request) {
		if conn, err := r.Accept(nil); err == nil {
			p.accepted <- conn
		}
	}
	go p.servers[0].Serve(context.Background(), l)
	t.Cleanup(func() {
		p.transport.Close()
		for i := range p.servers { // the outer ends the inner
			p.servers[i].Close()
		}
	})
	return p
}

// nest serves the tunnel within a stream.
func nest(inner *hbone.Server) func(*hbone.Request) {
	return func(r *hbone.Request) {
		if conn, err := r.Accept(nil); err == nil {
			_ = inner.ServeConn(context.Background(), conn)
		}
	}
}

func (p *pipe) open() (client, server net.Conn, stop func(), err error) {
	c, err := p.transport.Dial(context.Background(), p.path)
	if err != nil {
		return nil, nil, nil, err
	}
	s := <-p.accepted
	return c, s, func() {
		c.Close()
		s.Close()
	}, nil
}

// TestConn holds streams to what every net.Conn must do.
func TestConn(t *testing.T) {
	for name, f := range fabrics() {
		for hops := 1; hops <= 3; hops++ {
			p := newPipe(t, f, hops)
			prefix := name + "/" + string(rune('0'+hops)) + " hops/"
			t.Run(prefix+"client", func(t *testing.T) { nettest.TestConn(t, p.open) })
			t.Run(prefix+"server", func(t *testing.T) {
				nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
					c, s, stop, err := p.open()
					return s, c, stop, err
				})
			})
		}
	}
}

// TestStalledReaderBehindTheGateway: of two streams in one inner tunnel, one is not read. The other goes on, and
// what the stalled one can cost is its window.
func TestStalledReaderBehindTheGateway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const window, much = 64 << 10, 10 << 20
		w.pod(podAddr, func(r *hbone.Request) {
			if conn, err := r.Accept(nil); err == nil {
				defer conn.Close()
				_, _ = conn.Write(make([]byte, much))
			}
		})
		w.gateway(map[string][]string{reviews: {podAddr}})
		tr := w.transport()
		tr.HTTP2.StreamWindow = window
		stalled, live := mustDial(t, tr, w.twoHops(reviews)), mustDial(t, tr, w.twoHops(reviews))
		defer stalled.Close()
		if n, err := io.Copy(io.Discard, live); n != much || err != nil {
			t.Errorf("read %d of %d bytes beside a stalled stream, %v", n, much, err)
		}
		live.Close()
		synctest.Wait()
		if n := hbone.BytesReceived(stalled); n != window {
			t.Errorf("the stalled stream has received %d bytes, want its window, %d", n, window)
		}
		if n, err := io.Copy(io.Discard, stalled); n != much || err != nil {
			t.Errorf("later read %d of %d bytes, %v", n, much, err)
		}
	})
}
