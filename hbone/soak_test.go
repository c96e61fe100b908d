package hbone_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// TestSoak dials, writes, half-closes and aborts at random through two hops, while gateways and pods restart
// gracefully, transports are drained and replaced, certificates rotate, tunnels grow old and idle ones are
// closed. Each stream follows a course that both ends know: what has to arrive arrives, whole and with a clean
// end; what was aborted, or cut in the rounds in which links break, never looks complete. Afterwards nothing is left.
//
// It plays round after round in virtual time, for two real seconds, or as long as SOAK says:
//
//	SOAK=60s go test -race -run '^TestSoak$' ./hbone
func TestSoak(t *testing.T) {
	soakFor(t, soakTime(t, 2*time.Second), 50, func(s *soak) {
		synctest.Test(t, func(t *testing.T) {
			s.world = newWorld(t)
			s.network, s.life, s.patience = &inMemory{net: &s.net}, 400*time.Millisecond, 10*time.Minute
			s.run()
		})
	})
}

// TestSoakOverTCP does the same over real sockets and in real time, for one round or as long as SOAK says. A
// connection that is accepted as its server closes is lost there, to all who wait for it: so more dials may fail.
func TestSoakOverTCP(t *testing.T) {
	soakFor(t, soakTime(t, time.Millisecond), 10, func(s *soak) {
		t.Run("round", func(t *testing.T) {
			net := new(loopback)
			s.world = newWorld(t)
			s.network, s.life, s.patience = net, 5*time.Second, time.Minute
			s.run()
			net.tearDown()
		})
	})
}

// soakFor plays rounds until limit has passed, the last one to its end. For each dial that fails, so many streams
// must be done.
func soakFor(t *testing.T, limit time.Duration, perFailure int64, play func(*soak)) {
	var streams, failed int64
	rounds := 0
	for began := time.Now(); time.Since(began) < limit && !t.Failed(); rounds++ {
		s := &soak{seed: rand.Uint64(), violent: rounds%3 == 2}
		play(s)
		streams += s.streams.Load()
		failed += s.failed.Load()
	}
	if streams < perFailure*failed {
		t.Errorf("%d streams done, %d dials failed", streams, failed)
	}
	t.Logf("%d rounds: %d streams done, %d dials failed", rounds, streams, failed)
}

func soakTime(t *testing.T, fallback time.Duration) time.Duration {
	asked := os.Getenv("SOAK")
	if asked == "" {
		return fallback
	}
	d, err := time.ParseDuration(asked)
	if err != nil {
		t.Fatalf("SOAK: %v", err)
	}
	return d
}

// A soak is one round.
type soak struct {
	*world
	network  soakNet
	life     time.Duration // of the client's certificates
	patience time.Duration // with a stream that does not end
	seed     uint64
	violent  bool // links break: any stream may fail, but not look complete

	transport atomic.Pointer[hbone.Transport]
	streams   atomic.Int64
	failed    atomic.Int64 // dials that should not

	mu    sync.Mutex
	creds [2]hbone.Credentials // of the two hops
}

func (s *soak) errorf(format string, args ...any) {
	s.Helper()
	s.Errorf("seed %d, violent %v: %s", s.seed, s.violent, fmt.Sprintf(format, args...))
}

func (s *soak) run() {
	s.network.setUp()
	stop := make(chan struct{})
	var disturb, work sync.WaitGroup
	s.startServers(&disturb, stop)
	s.rotate()
	s.transport.Store(s.newTransport())
	every := func(d time.Duration, do func()) {
		disturb.Go(func() {
			for !stopped(stop, d) {
				do()
			}
		})
	}
	every(130*time.Millisecond, func() { s.transport.Load().CloseIdle() })
	every(210*time.Millisecond, s.rotate)
	every(700*time.Millisecond, func() { s.drain(s.transport.Swap(s.newTransport())) })
	if s.violent {
		every(90*time.Millisecond, s.network.breakLink)
	}
	for worker := range uint64(12) {
		work.Go(func() {
			rnd := rand.New(rand.NewPCG(s.seed, worker))
			for range 40 {
				s.once(rnd)
				time.Sleep(time.Duration(rnd.IntN(50)) * time.Millisecond)
			}
		})
	}
	work.Wait()
	s.drain(s.transport.Load())
	close(stop)
	disturb.Wait()
	s.wantNothingLeft(s.transport.Load())
}

func (s *soak) newTransport() *hbone.Transport {
	tr := s.world.transport()
	tr.DialContext = s.network.host("client").Dial
	tr.MaxStreamsPerTunnel = 5
	tr.MaxTunnelAge = time.Second
	tr.IdleTimeout = time.Second
	tr.HTTP2.StreamWindow = 48 << 10
	return tr
}

// drain ends a transport when its streams have ended.
func (s *soak) drain(tr *hbone.Transport) {
	if err := tr.Shutdown(context.Background()); err != nil {
		s.errorf("Transport.Shutdown: %v", err)
	}
	s.wantNothingLeft(tr)
}

func (s *soak) wantNothingLeft(tr *hbone.Transport) {
	if stats := tr.Stats(); stats.Tunnels != 0 || stats.Streams != 0 || tr.MemoryUsed() != 0 {
		s.errorf("after Shutdown: %d bytes of memory, %+v", tr.MemoryUsed(), stats)
	}
}

// rotate gives the client new certificates, which expire before long.
func (s *soak) rotate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, id := range []string{gatewayID, podID} {
		creds := s.client(id)
		creds.DrainAt(time.Now().Add(s.life))
		s.creds[i] = creds
	}
}

func (s *soak) path(service string) hbone.Path {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.twoHops(service)
	path.Spread = 3
	path.Hops[0].TLS, path.Hops[1].TLS = s.creds[0], s.creds[1]
	return path
}

func (s *soak) startServers(running *sync.WaitGroup, stop <-chan struct{}) {
	backends := []string{"pod-1:15008", "pod-2:15008", "pod-3:15008"}
	g := &gateway{
		host:     s.network.host("gateway"),
		reveal:   true,
		backends: map[string][]string{reviews: backends, ratings: backends},
	}
	running.Go(func() {
		s.restarting(gatewayAddr, 370*time.Millisecond, func() *hbone.Server {
			return &hbone.Server{TLS: s.ca.Server(s.ca.Issue(gatewayID), webID), Handler: g.forward}
		}, stop)
	})
	for i, address := range backends {
		running.Go(func() {
			s.restarting(address, time.Duration(190+50*i)*time.Millisecond, func() *hbone.Server {
				return &hbone.Server{
					TLS:     s.ca.Server(s.ca.Issue(podID), webID),
					Handler: s.serve,
					HTTP2:   hbone.HTTP2{StreamWindow: 48 << 10},
				}
			}, stop)
		})
	}
}

// restarting runs a server that is replaced gracefully time and again.
func (s *soak) restarting(address string, every time.Duration, server func() *hbone.Server, stop <-chan struct{}) {
	var old sync.WaitGroup
	defer old.Wait()
	for end := false; !end; {
		l, err := s.network.listen(address)
		if err != nil {
			s.Error(err)
			return
		}
		srv := server()
		served := make(chan struct{})
		old.Go(func() {
			defer close(served)
			_ = srv.Serve(context.Background(), l)
		})
		end = stopped(stop, every)
		old.Go(func() {
			if err := srv.Shutdown(context.Background()); err != nil {
				s.errorf("Server.Shutdown: %v", err)
			}
			for c := range srv.Streams() {
				s.errorf("stream to %s left after Shutdown", c.Authority())
			}
			if n := srv.MemoryUsed(); n != 0 {
				s.errorf("%d bytes of memory left after Shutdown", n)
			}
		})
		<-served // the address is free again
	}
}

func stopped(stop <-chan struct{}, after time.Duration) bool {
	select {
	case <-stop:
		return true
	case <-time.After(after):
		return false
	}
}

// How an end of a stream ends its own direction.
type ending int

const (
	finish ending = iota // CloseWrite, and reads to the end
	deaf                 // CloseRead before anything else, then CloseWrite
	leave                // Close, without having read anything
	abort                // Abort, after data was written
)

// A part is what one end of a stream has to say.
type part struct {
	data []byte
	end  ending
}

// A course is what both ends of a stream do.
type course struct{ client, server part }

const (
	headerCourse    = "X-Course"
	headerImpatient = "X-Impatient" // the client may give the dial up when the server has just accepted
)

func newCourse(seed uint64) course {
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := course{client: newPart(rnd), server: newPart(rnd)}
	if c.client.end == leave && c.server.end == leave {
		c.server.end = finish // nobody would read, and neither could finish writing
	}
	return c
}

func newPart(rnd *rand.Rand) part {
	ends := []ending{finish, finish, finish, finish, deaf, leave, abort}
	size := []int{1, 1000, 40_000, 200_000}[rnd.IntN(4)]
	p := part{data: make([]byte, rnd.IntN(size)), end: ends[rnd.IntN(len(ends))]}
	for i := range p.data {
		p.data[i] = byte(rnd.Uint32())
	}
	return p
}

// once is the client's part of one stream.
func (s *soak) once(rnd *rand.Rand) {
	seed := rnd.Uint64()
	service := []string{reviews, ratings}[rnd.IntN(2)]
	path := s.path(service)
	path.StreamHeader = http.Header{headerCourse: {strconv.FormatUint(seed, 10)}}
	ctx := context.Background()
	if rnd.IntN(8) == 0 {
		path.StreamHeader.Set(headerImpatient, "yes")
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rnd.IntN(40))*time.Millisecond)
		defer cancel()
	}
	conn, err := s.transport.Load().Dial(ctx, path)
	if err != nil {
		var hop *hbone.HopError
		switch {
		case s.violent, errors.Is(err, hbone.ErrClosed), ctx.Err() != nil: // broken, drained or given up
		case !errors.As(err, &hop) || !hop.Retryable():
			s.errorf("dial: %v", err)
		default:
			s.Logf("dial: %v", err)
			s.failed.Add(1)
		}
		return
	}
	c := newCourse(seed)
	s.play("client", conn, c.client, c.server, s.violent, rnd)
	s.streams.Add(1)
}

// serve is the server's part of one stream.
func (s *soak) serve(r *hbone.Request) {
	seed, err := strconv.ParseUint(r.Header().Get(headerCourse), 10, 64)
	if err != nil {
		s.errorf("course: %v", err)
	}
	conn, err := r.Accept(nil)
	if err != nil {
		return // the client has given up
	}
	c := newCourse(seed)
	mayFail := s.violent || r.Header().Get(headerImpatient) != ""
	s.play("server", conn, c.server, c.client, mayFail, rand.New(rand.NewPCG(seed, 1)))
}

// play does what mine says, and expects what theirs says.
func (s *soak) play(who string, conn *hbone.Conn, mine, theirs part, mayFail bool, rnd *rand.Rand) {
	defer conn.Close()
	hangs := time.AfterFunc(s.patience, func() {
		s.errorf("%s: hangs; mine ends by %d, theirs by %d", who, mine.end, theirs.end)
		conn.Abort(errors.New("hangs"))
	})
	defer hangs.Stop()
	mayFail = mayFail || mine.end == abort || theirs.end == abort
	if mine.end == deaf {
		_ = conn.CloseRead()
	}
	wrote := make(chan error, 1)
	writing := rand.New(rand.NewPCG(rnd.Uint64(), 0))
	go func() { wrote <- mine.send(conn, writing) }()
	if mine.end == finish || mine.end == abort {
		got, err := receive(conn, rnd)
		switch {
		case !bytes.HasPrefix(theirs.data, got):
			s.errorf("%s: received what was not sent", who)
		case err == nil && (theirs.end == abort || len(got) < len(theirs.data)):
			s.errorf("%s: a clean end after %d of %d bytes; theirs ends by %d", who, len(got), len(theirs.data), theirs.end)
		case err != nil && !mayFail:
			s.errorf("%s: read %d of %d bytes: %v", who, len(got), len(theirs.data), err)
		}
	}
	err := <-wrote
	if unheard := theirs.end == deaf || theirs.end == leave; err != nil && !mayFail && !unheard {
		s.errorf("%s: write: %v", who, err)
	}
}

// send writes in random pieces, with deadlines that may pass.
func (p part) send(conn *hbone.Conn, rnd *rand.Rand) error {
	for data := p.data; len(data) > 0; {
		if rnd.IntN(4) == 0 {
			_ = conn.SetWriteDeadline(time.Now().Add(time.Duration(rnd.IntN(8)) * time.Millisecond))
		}
		n, err := conn.Write(data[:1+rnd.IntN(min(len(data), 60_000))])
		data = data[n:]
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = conn.SetWriteDeadline(time.Time{})
		} else if err != nil {
			return err
		}
	}
	switch p.end {
	case abort:
		conn.Abort(errors.New("enough"))
		return nil
	case leave:
		return conn.Close()
	}
	return conn.CloseWrite()
}

// receive reads in random pieces, with deadlines that may pass and pauses in which windows fill, up to the end.
func receive(conn *hbone.Conn, rnd *rand.Rand) (got []byte, err error) {
	buf := make([]byte, 60_000)
	for {
		switch rnd.IntN(8) {
		case 0, 1:
			_ = conn.SetReadDeadline(time.Now().Add(time.Duration(rnd.IntN(8)) * time.Millisecond))
		case 2:
			time.Sleep(time.Duration(rnd.IntN(5)) * time.Millisecond)
		}
		n, err := conn.Read(buf[:1+rnd.IntN(len(buf))])
		got = append(got, buf[:n]...)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			_ = conn.SetReadDeadline(time.Time{})
		case errors.Is(err, io.EOF):
			return got, nil
		case err != nil:
			return got, err
		}
	}
}
