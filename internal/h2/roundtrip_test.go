package h2

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// TestBulkDelaysOthersLittle lets sixteen streams fill a narrow path for minutes, and times a ping-pong beside
// them. What the path's queue holds waits in front of the ping-pong: as much as the working window allows.
func TestBulkDelaysOthersLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			latency   = 50 * time.Millisecond // each way
			rate      = 4 << 20               // bytes a second
			period    = 10 * time.Second
			tolerable = 16 * latency
		)
		handle, accepted := accepting()
		client, _ := newPair(t, narrowWire(latency, rate), Config{}, handle)
		var received counter
		for range 16 {
			download := mustOpen(t, client)
			go io.Copy(&received, download)
			go io.Copy(<-accepted, endless{})
		}
		ping := mustOpen(t, client)
		go echo(<-accepted)
		time.Sleep(period) // until the windows have settled
		for i := range 15 {
			received.take()
			time.Sleep(period)
			if got := received.take(); got < rate*9/10*int(period/time.Second) {
				t.Errorf("period %d: %d bytes received, of %d that the path could carry", i, got, rate*int(period/time.Second))
			}
			if took := roundTripOn(t, ping); took > tolerable {
				t.Errorf("period %d: a round trip took %v beside bulk, want at most %v", i, took, tolerable)
			}
		}
	})
}

// TestBulkBothWays fills a narrow path in both directions, so that what grants credit queues as well. Neither may starve.
func TestBulkBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			rate   = 4 << 20 // bytes a second
			period = 20 * time.Second
		)
		handle, accepted := accepting()
		client, _ := newPair(t, narrowWire(50*time.Millisecond, rate), Config{}, handle)
		var down, up counter
		for range 4 {
			s := mustOpen(t, client)
			go io.Copy(&down, s)
			go io.Copy(<-accepted, endless{})
		}
		time.Sleep(period) // the windows of one direction have settled when the other begins
		for range 4 {
			s := mustOpen(t, client)
			go io.Copy(s, endless{})
			go io.Copy(&up, <-accepted)
		}
		time.Sleep(2 * period)
		down.take()
		up.take()
		for i := range 7 {
			time.Sleep(period)
			least := rate * int(period/time.Second) * 2 / 3
			if d, u := down.take(), up.take(); d < least || u < least {
				t.Errorf("period %d: %d bytes down and %d up, want at least %d", i, d, u, least)
			}
		}
	})
}

// TestLongerPathsAreNoticed makes a path longer than it was, and expects it to be used fully again.
func TestLongerPathsAreNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 4 << 20 // bytes a second
		path := &narrowPath{latency: time.Millisecond, rate: rate}
		handle, accepted := accepting()
		client, _ := newPair(t, path.wire, Config{StreamWindow: 16 << 20}, handle)
		var received counter
		go io.Copy(&received, mustOpen(t, client))
		go io.Copy(<-accepted, endless{})
		time.Sleep(time.Second)
		path.setLatency(100 * time.Millisecond)
		time.Sleep(2 * roundTripLife)
		received.take()
		time.Sleep(10 * time.Second)
		if got := received.take(); got < 9*rate {
			t.Errorf("%d bytes received, of %d that the path could carry", got, 10*rate)
		}
	})
}

// TestJitteryPathsAreUsed lets round trips vary. Most are longer than the shortest.
func TestJitteryPathsAreUsed(t *testing.T) {
	for _, path := range []*narrowPath{
		{latency: 5 * time.Millisecond, jitter: 20 * time.Millisecond, rate: 16 << 20},
		{latency: 2 * time.Millisecond, jitter: 5 * time.Millisecond, rate: 32 << 20},
		{latency: time.Millisecond, jitter: 20 * time.Millisecond, rate: 16 << 20},
	} {
		t.Run(fmt.Sprintf("%v+%v", path.latency, path.jitter), inBubble(func(t *testing.T) {
			handle, accepted := accepting()
			client, _ := newPair(t, path.wire, Config{}, handle)
			var received counter
			for range 4 {
				s := mustOpen(t, client)
				go io.Copy(&received, s)
				go io.Copy(<-accepted, endless{})
			}
			time.Sleep(2 * time.Second)
			received.take()
			time.Sleep(5 * time.Second)
			got := received.take()
			if got < path.rate*5*2/3 {
				t.Errorf("%d bytes received, of %d that the path could carry", got, 5*path.rate)
			}
		}))
	}
}

// roundTripOn times one byte there and back.
func roundTripOn(t *testing.T, s *Stream) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := s.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

// A narrowPath carries so many bytes a second, as sent, and queues what comes faster, without limit.
type narrowPath struct {
	mu      sync.Mutex
	latency time.Duration
	jitter  time.Duration // up to so much is added to the latency
	rate    int
}

func narrowWire(latency time.Duration, rate int) wire {
	return (&narrowPath{latency: latency, rate: rate}).wire
}

func (p *narrowPath) setLatency(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = d
}

func (p *narrowPath) wire(t testing.TB) (client, server net.Conn) {
	client, near := memnet.Pipe()
	far, server := memnet.Pipe()
	var carriers sync.WaitGroup
	carriers.Go(func() { p.carry(far, near) })
	carriers.Go(func() { p.carry(near, far) })
	t.Cleanup(carriers.Wait)
	return client, server
}

// A parcel arrives later than it was sent.
type parcel struct {
	b  []byte
	at time.Time
}

// carry passes on what src gives, until it ends.
func (p *narrowPath) carry(dst, src net.Conn) {
	queue := make(chan parcel, 1<<16)
	go p.enqueue(queue, src)
	defer dst.Close()
	for parcel := range queue {
		time.Sleep(time.Until(parcel.at))
		if _, err := dst.Write(parcel.b); err != nil {
			src.Close()
		}
	}
}

func (p *narrowPath) enqueue(queue chan<- parcel, src net.Conn) {
	defer close(queue)
	free := time.Now() // when all that queues has left
	at := free         // when the last parcel arrives
	for {
		b := make([]byte, 8<<10)
		n, err := src.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		free = laterOf(free, time.Now()).Add(time.Duration(n) * time.Second / time.Duration(p.rate))
		at = laterOf(at, free.Add(p.latency+rand.N(p.jitter+1)))
		p.mu.Unlock()
		queue <- parcel{b[:n], at}
	}
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// A counter counts what is written to it.
type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += len(p)
	return len(p), nil
}

// take returns the count, and starts anew.
func (c *counter) take() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	c.n = 0
	return n
}

// endless is a source of zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestNoPingsIfNotWanted lets bulk data come without keepalive, and expects none of the PINGs that measure either.
func TestNoPingsIfNotWanted(t *testing.T) {
	for name, interval := range map[string]time.Duration{"wanted": 0, "not wanted": -1} {
		t.Run(name, inBubble(func(t *testing.T) {
			handle, accepted := accepting()
			p, c := playClient(t, Config{PingInterval: interval}, handle)
			p.connect(1)
			p.wantStatus(1, 200, false)
			go io.Copy(io.Discard, <-accepted)
			pings := make(chan int)
			go func() {
				n := 0
				for f, err := p.fr.ReadFrame(); err == nil; f, err = p.fr.ReadFrame() {
					if f.Header().Type == http2.FramePing {
						n++
					}
				}
				pings <- n
			}()
			for range 3 * measureInterval / time.Millisecond {
				for range 4 { // so that it is bulk
					p.fr.WriteData(1, false, make([]byte, 32<<10))
					synctest.Wait()
				}
				time.Sleep(time.Millisecond)
			}
			c.Close()
			if got := <-pings; (got > 0) != (interval >= 0) {
				t.Errorf("%d PINGs sent", got)
			}
		}))
	}
}

// TestPeerThatNeverAnswersPings has a PING go unanswered, which breaks RFC 9113 §6.7, for as long as a measurement holds:
// the peer is served no slower for that.
func TestPeerThatNeverAnswersPings(t *testing.T) {
	var f connInflow
	now := time.Now()
	f.limit, f.window = 256<<20, initialWindow
	f.trip = roundTrip{shortest: 100 * time.Millisecond, measured: now.Add(-roundTripLife), asked: now.Add(-roundTripLife)}
	f.working = 8 << 20
	f.adapt(now)
	if got := f.workingWindow(); got < f.working {
		t.Errorf("the working window is %d, want %d", got, f.working)
	}
}
