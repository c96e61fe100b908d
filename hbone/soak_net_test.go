package hbone_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// A soakNet is what a soak runs over: hosts by name, whatever is beneath.
type soakNet interface {
	setUp()
	host(name string) dialer
	listen(address string) (net.Listener, error)
	breakLink() // one at random, for a while
}

// inMemory is a network in memory, with a long way to the gateway.
type inMemory struct{ net *memnet.Network }

func (m *inMemory) setUp() {
	for _, pair := range [][2]string{{"client", "gateway"}, {"gateway", "client"}} {
		m.net.SetLatency(pair[0], pair[1], 5*time.Millisecond)
	}
}

func (m *inMemory) host(name string) dialer                     { return m.net.Host(name) }
func (m *inMemory) listen(address string) (net.Listener, error) { return m.net.Listen(address) }

// breakLink cuts a link, or lets it swallow everything.
func (m *inMemory) breakLink() {
	from, to := "client", "gateway"
	if rand.IntN(3) > 0 {
		from, to = "gateway", fmt.Sprintf("pod-%d", 1+rand.IntN(3))
	}
	if rand.IntN(2) == 0 {
		m.net.Cut(from, to)
	} else {
		m.net.Blackhole(from, to)
	}
	time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
	m.net.Heal(from, to)
}

// loopback is TCP on this machine. The sockets of an address stay open while its servers are replaced, each of
// which accepts what has not been accepted yet: as when a supervisor holds them.
type loopback struct {
	mu      sync.Mutex
	sockets map[string]*loopbackSocket // by address
}

type loopbackSocket struct {
	*net.TCPListener
	done     chan struct{} // closed by tearDown
	ended    chan struct{} // closed by run
	accepted chan *net.TCPConn

	mu    sync.Mutex
	conns []*net.TCPConn // since the link broke last
}

func (l *loopback) setUp()             { l.sockets = make(map[string]*loopbackSocket) }
func (l *loopback) host(string) dialer { return l }

// tearDown closes the sockets.
func (l *loopback) tearDown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sockets {
		close(s.done)
		s.Close()
		<-s.ended
	}
}

// Dial connects to who listens at address.
func (l *loopback) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	s := l.sockets[address]
	l.mu.Unlock()
	if s == nil {
		return nil, syscall.ECONNREFUSED
	}
	return new(net.Dialer).DialContext(ctx, network, s.Addr().String())
}

func (l *loopback) listen(address string) (net.Listener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sockets[address]
	if s == nil {
		ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		s = &loopbackSocket{TCPListener: ln, done: make(chan struct{}), ended: make(chan struct{}), accepted: make(chan *net.TCPConn)}
		l.sockets[address] = s
		go s.run()
	}
	return &loopbackListener{socket: s, closed: make(chan struct{})}, nil
}

// run accepts for the listeners of the moment.
func (s *loopbackSocket) run() {
	defer close(s.ended)
	for {
		conn, err := s.AcceptTCP()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		select {
		case s.accepted <- conn:
		case <-s.done:
			conn.Close()
			return
		}
	}
}

// breakLink resets all connections that were accepted at an address.
func (l *loopback) breakLink() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if addresses := slices.Collect(maps.Keys(l.sockets)); len(addresses) > 0 {
		l.sockets[addresses[rand.IntN(len(addresses))]].reset()
	}
}

func (s *loopbackSocket) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_ = conn.SetLinger(0)
		conn.Close()
	}
	s.conns = nil
}

type loopbackListener struct {
	socket *loopbackSocket
	closed chan struct{}
	once   sync.Once
}

func (ln *loopbackListener) Accept() (net.Conn, error) {
	select {
	case <-ln.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-ln.socket.accepted:
		return conn, nil
	case <-ln.closed:
		return nil, net.ErrClosed
	}
}

func (ln *loopbackListener) Addr() net.Addr { return ln.socket.Addr() }

func (ln *loopbackListener) Close() error {
	ln.once.Do(func() { close(ln.closed) })
	return nil
}
