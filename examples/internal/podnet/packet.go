package podnet

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

const (
	maxDatagram = 65507
	maxPeers    = 4096 // that a packet socket remembers
)

// packetConn is a UDP socket of a pod. Every datagram carries a header with
// both pod addresses; the loopback address that a peer sends from is
// remembered, so that answers find clients, which are in no registry.
type packetConn struct {
	socket  *net.UDPConn
	network *Network // where it sends from
	home    *Network // that owns it
	addr    netip.AddrPort
	pod     netip.Addr // source address; not set for a client that is no pod
	peer    netip.AddrPort
	remove  func() error
	close   sync.Once
	err     error

	mu    sync.Mutex
	peers map[netip.AddrPort]netip.AddrPort // pod address to loopback address
}

var (
	_ net.PacketConn = (*packetConn)(nil)
	_ net.Conn       = (*dialledPacketConn)(nil)
	_ net.PacketConn = (*dialledPacketConn)(nil)
)

func listenLoopbackUDP(ctx context.Context) (*net.UDPConn, netip.AddrPort, error) {
	c, err := new(net.ListenConfig).ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		return nil, netip.AddrPort{}, inner(err)
	}
	at, err := addrPortOf(c.LocalAddr())
	if err != nil {
		c.Close()
		return nil, at, err
	}
	return c.(*net.UDPConn), at, nil
}

func (n *Network) listenUDP(ctx context.Context, addr netip.AddrPort) (*packetConn, error) {
	home, err := n.home(addr.Addr())
	if err != nil {
		return nil, err
	}
	socket, _, err := listenLoopbackUDP(ctx)
	if err != nil {
		return nil, err
	}
	c := &packetConn{socket: socket, network: home, home: home, pod: addr.Addr(), peers: make(map[netip.AddrPort]netip.AddrPort)}
	if c.addr, c.remove, err = home.register(ctx, "udp", addr, socket.LocalAddr()); err != nil {
		_ = socket.Close()
		return nil, err
	}
	if err := home.own(c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (n *Network) dialUDP(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	hops, err := n.route(from, to.Addr())
	if err != nil {
		return nil, err
	}
	if cutOnTheWay(hops, 0, to) {
		return nil, syscall.EHOSTUNREACH
	}
	if _, err := hops[len(hops)-1].network.registry.find(endpoint{"udp", to}); err != nil {
		return nil, err
	}
	socket, self, err := listenLoopbackUDP(ctx)
	if err != nil {
		return nil, err
	}
	c := &packetConn{
		socket: socket, network: n, home: n, pod: from, addr: or(from, self), peer: to,
		remove: func() error { return nil }, peers: make(map[netip.AddrPort]netip.AddrPort),
	}
	if err := n.own(c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return &dialledPacketConn{c}, nil
}

func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	buf := make([]byte, min(len(p)+maxHeaderLen, maxDatagram))
	for {
		n, socket, err := c.socket.ReadFromUDPAddrPort(buf)
		if err != nil {
			return 0, nil, c.fail("read", c.Addr(), err)
		}
		h, payload, err := parseHeader(buf[:n])
		if err != nil || !h.datagram || !c.wants(h) {
			continue // not of this network: a pod would not receive it either
		}
		c.remember(h.from, netip.AddrPortFrom(socket.Addr().Unmap(), socket.Port()))
		return copy(p, payload), udpAddr(h.from), nil
	}
}

// wants reports whether a datagram is for this socket: for its address if it
// listens, from its peer if it was dialled.
func (c *packetConn) wants(h header) bool {
	if c.peer.IsValid() {
		return h.from == c.peer && h.to.Port() == c.addr.Port()
	}
	return h.to == c.addr && !c.home.faults.cut(ends{h.from, h.to})
}

func (c *packetConn) remember(pod, socket netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.peers) >= maxPeers {
		for some := range c.peers {
			delete(c.peers, some)
			break
		}
	}
	c.peers[pod] = socket
}

func (c *packetConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	to, err := addrPortOf(addr)
	if err == nil {
		err = c.send(p, to)
	}
	if err != nil {
		return 0, c.fail("write", addr, err)
	}
	return len(p), nil
}

func (c *packetConn) send(p []byte, to netip.AddrPort) error {
	c.mu.Lock()
	socket, known := c.peers[to]
	c.mu.Unlock()
	from := c.addr.Addr()
	if !known || c.peer.IsValid() {
		hops, err := c.network.route(c.pod, to.Addr())
		if err != nil {
			return err
		}
		if cutOnTheWay(hops, c.addr.Port(), to) {
			return nil // a datagram is lost, and nobody is told
		}
		home := hops[len(hops)-1]
		if socket, err = home.network.registry.find(endpoint{"udp", to}); err != nil {
			return err
		}
		if from = home.from; !from.IsValid() {
			from = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
	}
	h := header{datagram: true, from: netip.AddrPortFrom(from, c.addr.Port()), to: to}
	packet := append(h.append(make([]byte, 0, maxHeaderLen+len(p))), p...)
	if len(packet) > maxDatagram {
		return syscall.EMSGSIZE
	}
	_, err := c.socket.WriteToUDPAddrPort(packet, socket)
	return err
}

func (c *packetConn) fail(op string, addr net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: c.LocalAddr(), Addr: addr, Err: inner(err)}
}

func (c *packetConn) Addr() net.Addr      { return c.LocalAddr() }
func (c *packetConn) LocalAddr() net.Addr { return udpAddr(c.addr) }

func (c *packetConn) SetDeadline(t time.Time) error      { return c.socket.SetDeadline(t) }
func (c *packetConn) SetReadDeadline(t time.Time) error  { return c.socket.SetReadDeadline(t) }
func (c *packetConn) SetWriteDeadline(t time.Time) error { return c.socket.SetWriteDeadline(t) }

func (c *packetConn) Close() error {
	c.close.Do(func() {
		c.home.disown(c)
		c.err = c.remove()
		_ = c.socket.Close()
	})
	return c.err
}

// dialledPacketConn is a packetConn with one peer. It is a net.PacketConn too,
// as *net.UDPConn is: that is what package dns tells datagrams from streams by.
type dialledPacketConn struct{ c *packetConn }

func (d *dialledPacketConn) Read(p []byte) (int, error) {
	n, _, err := d.c.ReadFrom(p)
	return n, err
}

func (d *dialledPacketConn) Write(p []byte) (int, error) { return d.c.WriteTo(p, d.RemoteAddr()) }

// ReadFrom implements net.PacketConn.
func (d *dialledPacketConn) ReadFrom(p []byte) (int, net.Addr, error) { return d.c.ReadFrom(p) }

// WriteTo implements net.PacketConn. As with *net.UDPConn, a peer was chosen
// already.
func (d *dialledPacketConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	return 0, &net.OpError{Op: "write", Net: "udp", Source: d.LocalAddr(), Addr: addr, Err: net.ErrWriteToConnected}
}

func (d *dialledPacketConn) Close() error         { return d.c.Close() }
func (d *dialledPacketConn) LocalAddr() net.Addr  { return d.c.LocalAddr() }
func (d *dialledPacketConn) RemoteAddr() net.Addr { return udpAddr(d.c.peer) }

func (d *dialledPacketConn) SetDeadline(t time.Time) error      { return d.c.SetDeadline(t) }
func (d *dialledPacketConn) SetReadDeadline(t time.Time) error  { return d.c.SetReadDeadline(t) }
func (d *dialledPacketConn) SetWriteDeadline(t time.Time) error { return d.c.SetWriteDeadline(t) }
