package podnet

import (
	"io"
	"net"
	"net/netip"
	"sync"
)

// Conn is a TCP connection between pods. It is the *net.TCPConn of a loopback
// socket that tells the pods' addresses instead of the socket's. Copying from
// one Conn to another splices, as between *net.TCPConns.
type Conn struct {
	*net.TCPConn
	local, remote netip.AddrPort

	mu       sync.Mutex
	networks []*Network // that track it
}

// LocalAddr returns the pod address, or the loopback address of a connection
// that was dialled from no pod.
func (c *Conn) LocalAddr() net.Addr { return tcpAddr(c.local) }

// RemoteAddr returns the peer's pod address, or the loopback address of a
// client that is no pod.
func (c *Conn) RemoteAddr() net.Addr { return tcpAddr(c.remote) }

// ReadFrom implements io.ReaderFrom.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	if from, ok := r.(*Conn); ok {
		r = from.TCPConn
	}
	return c.TCPConn.ReadFrom(r)
}

// WriteTo implements io.WriterTo.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if to, ok := w.(*Conn); ok {
		w = to.TCPConn
	}
	return c.TCPConn.WriteTo(w)
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.mu.Lock()
	networks := c.networks
	c.networks = nil
	c.mu.Unlock()
	for _, n := range networks {
		n.faults.untrack(c)
	}
	return c.TCPConn.Close()
}

// track lets a network cut and close the connection.
func (c *Conn) track(n *Network, e ends) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := n.faults.track(c, e); err != nil {
		return err
	}
	c.networks = append(c.networks, n)
	return nil
}

// join makes a dialled connection known to every network on its way, and
// wraps it if somebody taps it.
func (c *Conn) join(hops []hop, port uint16, to netip.AddrPort) (net.Conn, error) {
	var taps []liveTap
	for _, h := range hops {
		e := ends{netip.AddrPortFrom(h.from, port), to}
		if err := c.track(h.network, e); err != nil {
			_ = c.Close()
			return nil, err
		}
		for _, t := range h.network.faults.tapsOf(e) {
			taps = append(taps, liveTap{t, h.network})
		}
	}
	if len(taps) == 0 {
		return c, nil
	}
	return &tappedConn{Conn: c, taps: taps}, nil
}

type liveTap struct {
	*tap
	network *Network
}

// tappedConn shows all bytes to its taps, and so must not be spliced.
type tappedConn struct {
	net.Conn
	taps []liveTap
}

func (c *tappedConn) show(from, to net.Addr, p []byte) {
	if len(p) == 0 {
		return
	}
	sender, _ := addrPortOf(from)
	receiver, _ := addrPortOf(to)
	for _, t := range c.taps {
		if t.network.faults.tapped(t.tap) {
			t.sink(sender, receiver, p)
		}
	}
}

func (c *tappedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.show(c.RemoteAddr(), c.LocalAddr(), p[:n])
	return n, err
}

func (c *tappedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.show(c.LocalAddr(), c.RemoteAddr(), p[:n])
	return n, err
}

func (c *tappedConn) CloseWrite() error       { return c.Conn.(*Conn).CloseWrite() }
func (c *tappedConn) CloseRead() error        { return c.Conn.(*Conn).CloseRead() }
func (c *tappedConn) SetLinger(sec int) error { return c.Conn.(*Conn).SetLinger(sec) }
