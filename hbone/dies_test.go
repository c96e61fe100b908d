package hbone_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/internal/memnet"
	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// A cut says where a connection breaks.
type cut struct {
	host  string // who dialled the connection
	up    bool   // counts what that host sent, else what it received
	after int64  // so many bytes
	abort bool   // by a reset at both ends, else by what looks like an end
}

func (c cut) String() string {
	return fmt.Sprintf("host=%s,up=%v,abort=%v,after=%d", c.host, c.up, c.abort, c.after)
}

// A cutter dials for a host, and stands in the middle of the first connection that it makes.
type cutter struct {
	cut
	host   dialer
	pumps  sync.WaitGroup
	dials  atomic.Int32
	passed atomic.Int64
	dead   atomic.Bool
}

func (c *cutter) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := c.host.Dial(ctx, network, address)
	if err != nil || c.dials.Add(1) > 1 {
		return nc, err
	}
	near, middle := memnet.Pipe()
	far := nc.(*memnet.Conn)
	c.pumps.Go(func() { c.pump(far, middle, c.up) })
	c.pumps.Go(func() { c.pump(middle, far, !c.up) })
	return near, nil
}

// pump passes on one direction. The connection breaks when what was counted of it has been dealt with.
func (c *cutter) pump(to, from *memnet.Conn, counted bool) {
	limit := int64(math.MaxInt64)
	if counted {
		limit = c.after
	}
	n, err := io.Copy(to, io.LimitReader(from, limit))
	if counted {
		c.passed.Store(n)
	}
	switch {
	case n == limit:
		time.Sleep(time.Nanosecond) // which does not pass before all else waits
		c.dead.Store(true)
		end(c.abort, to, from)
	case err != nil:
		end(true, to, from)
	default:
		_ = to.CloseWrite()
	}
}

func end(abort bool, conns ...*memnet.Conn) {
	for _, nc := range conns {
		if abort {
			_ = nc.SetLinger(0)
		}
		nc.Close()
	}
}

// A dying is one conversation through two hops, in which a connection breaks.
type dying struct {
	*world
	*cutter
	servers   []*hbone.Server
	transport *hbone.Transport
	path      hbone.Path
}

func (d *dying) errorf(format string, args ...any) {
	d.Helper()
	d.Errorf("%v: %s", d.cut, fmt.Sprintf(format, args...))
}

// The streams of the conversation, in order. What they are called is what happens to them; on the others, the
// server echoes their words.
var dyingStreams = []string{"first", "refused", "unknown", "reset", "left", "second"}

// What a stream carries is more than fits into its window.
const dyingWindow = 64

func words(name string) string { return strings.Repeat(name+" ", 20) }

// newDying sets up the servers, and a transport.
func newDying(w *world, c cut) *dying {
	d := &dying{world: w, cutter: &cutter{cut: c, host: w.net.Host(c.host)}}
	w.Cleanup(d.pumps.Wait)
	tuned := hbone.HTTP2{StreamWindow: dyingWindow}
	pod := w.serve(podAddr, &hbone.Server{TLS: w.ca.Server(w.ca.Issue(podID), webID), Handler: d.answer, HTTP2: tuned})
	g := w.gateway(map[string][]string{reviews: {podAddr}})
	d.servers = []*hbone.Server{pod, g.Server}
	d.transport, d.path = w.transport(), w.twoHops(reviews)
	d.transport.HTTP2 = tuned
	if c.host == "client" {
		d.transport.DialContext = d.Dial
	} else {
		g.host = d.cutter
	}
	return d
}

// answer is the pod's part of one stream.
func (d *dying) answer(r *hbone.Request) {
	name, _, _ := net.SplitHostPort(r.Authority())
	if name == "refused" {
		_ = r.Reject(http.StatusServiceUnavailable)
		return
	}
	conn, err := r.Accept(nil)
	if err != nil {
		return
	}
	defer conn.Close()
	if name == "reset" {
		conn.Abort(errors.New("enough"))
		return
	}
	got, err := io.ReadAll(io.TeeReader(conn, conn))
	if err == nil && (name == "left" || string(got) != words(name)) {
		d.errorf("the pod read %q on stream %q, and a clean end", got, name)
	}
	_ = conn.CloseWrite()
}

func (d *dying) dial(name string) (*hbone.Conn, error) {
	path := d.path
	path.Hops = slices.Clone(path.Hops)
	if name == "unknown" {
		path.Hops[0].Authority = ratings
	}
	path.Hops[1].Authority = name + ":80"
	return d.transport.Dial(context.Background(), path)
}

// ask is the client's part of one stream, and what came of it.
func (d *dying) ask(name string) (got []byte, err error) {
	conn, err := d.dial(name)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if name == "left" {
		_, err = io.WriteString(conn, name) // and not the rest of its words
		conn.Abort(errors.New("enough"))
		return nil, err
	}
	return d.talk(conn, name)
}

// talk says the words of a stream and reads to its end.
func (d *dying) talk(conn *hbone.Conn, name string) (got []byte, err error) {
	go func() {
		_, _ = io.WriteString(conn, words(name))
		_ = conn.CloseWrite()
	}()
	if got, err = io.ReadAll(conn); errors.Is(err, io.EOF) {
		d.errorf("stream %q failed with what readers take for an end: %v", name, err)
	}
	return got, err
}

// run holds the conversation. One stream is open from its beginning to its end, and must notice. Later dials
// must work, over new connections. And the goodbyes, which may be cut as well, must end.
func (d *dying) run() {
	began := time.Now()
	held, err := d.dial("held")
	if err == nil {
		defer held.Close()
	}
	for _, name := range dyingStreams {
		got, err := d.ask(name)
		d.check(name, got, err)
	}
	if err == nil {
		cut := d.dead.Load()
		got, err := d.talk(held, "held")
		if d.check("held", got, err); cut && err == nil {
			d.errorf("a stream did not notice")
		}
	}
	d.redial()
	d.goodbye()
	if took := time.Since(began); took > time.Second {
		d.errorf("took %v", took)
	}
}

// check looks at what came of a stream: all that was to come, or an error.
func (d *dying) check(name string, got []byte, err error) {
	d.Helper()
	ok := err == nil && string(got) == words(name)
	switch name {
	case "refused", "unknown":
		ok = errors.As(err, new(*hbone.StatusError))
	case "reset":
		ok = err != nil
	case "left":
		ok = err == nil
	}
	if mayFail := d.after < math.MaxInt64; !ok && (err == nil || !mayFail) {
		d.errorf("the client read %q on stream %q: %v", got, name, err)
	}
}

// redial dials until that works. Only what was on its way may fail, and the pause after it passes.
func (d *dying) redial() {
	for range 10 {
		got, err := d.ask("after")
		if err == nil {
			d.check("after", got, err)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	d.errorf("no later dial works")
}

// goodbye lets all drain at once.
func (d *dying) goodbye() {
	var leaving sync.WaitGroup
	for _, s := range d.servers {
		leaving.Go(func() {
			if err := s.Shutdown(context.Background()); err != nil || s.MemoryUsed() != 0 {
				d.errorf("Server.Shutdown: %v, and %d bytes of memory are left", err, s.MemoryUsed())
			}
		})
	}
	if err := d.transport.Shutdown(context.Background()); err != nil {
		d.errorf("Transport.Shutdown: %v", err)
	}
	leaving.Wait()
	if s := d.transport.Stats(); s.Tunnels != 0 || s.Streams != 0 || d.transport.MemoryUsed() != 0 {
		d.errorf("%d bytes of memory are left, and %+v", d.transport.MemoryUsed(), s)
	}
}

// TestPeerDiesAnywhereInTLS breaks a connection of a conversation through two hops after each Nth byte that one side
// sent: nothing may hang, and nothing that was cut may look complete. The connection is that to the gateway, or the
// one behind, which the gateway only relays. N is 37, from anywhere, so that runs add up; or 1, which takes minutes:
//
//	EASTWEST_EVERY_BYTE=1 go test -run '^TestPeerDiesAnywhereInTLS$' ./hbone
func TestPeerDiesAnywhereInTLS(t *testing.T) {
	step := int64(37)
	if os.Getenv("EASTWEST_EVERY_BYTE") != "" {
		step = 1
	}
	ca := testca.New("cluster.local")
	for _, host := range []string{"client", "gateway"} {
		for _, up := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/up=%v", host, up), func(t *testing.T) {
				t.Parallel()
				whole := talkUntil(t, ca, cut{host, up, math.MaxInt64, false})
				for n := rand.Int64N(step); n < whole && !t.Failed(); n += step {
					talkUntil(t, ca, cut{host, up, n, false})
					talkUntil(t, ca, cut{host, up, n, true})
				}
			})
		}
	}
}

// talkUntil returns how many bytes passed before the connection broke, or in all.
func talkUntil(t *testing.T, ca *testca.CA, c cut) (passed int64) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca = ca
		d := newDying(w, c)
		d.run()
		passed = d.passed.Load()
	})
	return passed
}
