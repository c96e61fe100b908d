package podnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// listener accepts connections on a loopback socket for one pod address.
type listener struct {
	network *Network
	addr    netip.AddrPort
	socket  net.Listener
	remove  func() error

	queue   chan *Conn
	pending chan struct{} // bounds connections that have not sent a header
	done    chan struct{}
	close   sync.Once
	err     error
	workers sync.WaitGroup
}

// maxPending bounds the connections of one listener that are neither accepted
// nor refused, as a kernel's backlog does.
const maxPending = 512

func (n *Network) listenTCP(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	home, err := n.home(addr.Addr())
	if err != nil {
		return nil, err
	}
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, inner(err)
	}
	l := &listener{
		network: home, socket: socket,
		queue: make(chan *Conn), pending: make(chan struct{}, maxPending), done: make(chan struct{}),
	}
	l.addr, l.remove, err = home.register(ctx, "tcp", addr, socket.Addr())
	if err != nil {
		socket.Close()
		return nil, err
	}
	l.workers.Go(l.run)
	if err := home.own(l); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// register puts a socket into the registry. For port 0 the pod address gets
// the socket's own port, which no other socket of the machine has.
func (n *Network) register(ctx context.Context, protocol string, addr netip.AddrPort, socket net.Addr) (netip.AddrPort, func() error, error) {
	at, err := addrPortOf(socket)
	if err != nil {
		return addr, nil, err
	}
	if addr.Port() == 0 {
		addr = netip.AddrPortFrom(addr.Addr(), at.Port())
	}
	remove, err := n.registry.add(ctx, endpoint{protocol, addr}, at)
	return addr, remove, err
}

func (l *listener) run() {
	for {
		conn, err := l.socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil && !l.pause() {
			return
		}
		if err != nil {
			continue
		}
		select {
		case l.pending <- struct{}{}:
			l.workers.Go(func() {
				defer func() { <-l.pending }()
				l.serve(conn.(*net.TCPConn))
			})
		case <-l.done:
			conn.Close()
		}
	}
}

// pause waits a little after an error that may pass, such as no more file
// descriptors; false means that the listener was closed.
func (l *listener) pause() bool {
	t := time.NewTimer(10 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.done:
		return false
	}
}

// serve reads the header, answers it and hands the connection to Accept.
func (l *listener) serve(tcp *net.TCPConn) {
	c := &Conn{TCPConn: tcp, local: l.addr}
	if err := l.welcome(c); err != nil {
		_ = c.Close()
		return
	}
	select {
	case l.queue <- c:
	case <-l.done:
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

// errProbe ends a connection that only asked whether the listener is here.
var errProbe = errors.New("podnet: probe")

func (l *listener) welcome(c *Conn) error {
	stop := make(chan struct{})
	defer close(stop)
	l.workers.Go(func() {
		select {
		case <-l.done:
			_ = c.SetDeadline(time.Unix(1, 0))
		case <-stop:
		}
	})
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	h, err := readHeader(c.TCPConn)
	if err != nil {
		return err
	}
	if h.to != l.addr {
		return errHeader
	}
	c.remote = h.from
	if !h.probe {
		if err := c.track(l.network, ends{h.from, l.addr}); err != nil {
			return err
		}
	}
	if _, err := c.Write([]byte{accepted}); err != nil {
		return err
	}
	if h.probe {
		return errProbe
	}
	return c.SetDeadline(time.Time{})
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

func (l *listener) Addr() net.Addr { return tcpAddr(l.addr) }

// Close ends the listener and the connections that were never accepted.
func (l *listener) Close() error {
	l.stop()
	l.workers.Wait()
	return l.err
}

func (l *listener) stop() {
	l.close.Do(func() {
		l.network.disown(l)
		l.err = l.remove()
		close(l.done)
		l.socket.Close()
	})
}
