package memnet

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// A Network is a set of hosts and the links between them. The zero value is an
// empty network without latency. Its methods may be called concurrently.
type Network struct {
	mu        sync.Mutex
	listeners map[Addr]*Listener
	links     map[[2]string]*link // from, to
	nextPort  map[string]int
}

// Listen accepts connections to address, "host:port". Port 0 picks a free one.
func (n *Network) Listen(address string) (*Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if port == "0" {
		address = string(n.ephemeral(host))
	}
	addr := Addr(address)
	if n.listeners[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: addr, Err: syscall.EADDRINUSE}
	}
	l := newListener(n, addr)
	if n.listeners == nil {
		n.listeners = make(map[Addr]*Listener)
	}
	n.listeners[addr] = l
	return l, nil
}

// Host returns the view that one host has of the network.
func (n *Network) Host(name string) *Host { return &Host{net: n, name: name} }

// SetLatency makes bytes from one host to another take d. Bytes that are
// already on their way are not affected.
func (n *Network) SetLatency(from, to string, d time.Duration) {
	l := n.link(from, to)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latency = d
}

// Cut breaks the connections between two hosts with ECONNRESET, and refuses new
// ones with ENETUNREACH until [Network.Heal].
func (n *Network) Cut(a, b string) {
	for _, c := range append(n.link(a, b).cutAll(), n.link(b, a).cutAll()...) {
		c.fail(syscall.ECONNRESET)
	}
}

// Blackhole holds back everything between two hosts until [Network.Heal]:
// nothing arrives, and nobody is told.
func (n *Network) Blackhole(a, b string) {
	n.link(a, b).set(blackhole)
	n.link(b, a).set(blackhole)
}

// Heal undoes Cut and Blackhole. What was held back arrives.
func (n *Network) Heal(a, b string) {
	n.link(a, b).set(up)
	n.link(b, a).set(up)
}

// ephemeral picks a free port of a host. n.mu is held.
func (n *Network) ephemeral(host string) Addr {
	if n.nextPort == nil {
		n.nextPort = make(map[string]int)
	}
	for {
		port := 32768 + n.nextPort[host]%28232 // 32768-60999, as on Linux
		n.nextPort[host]++
		if a := Addr(net.JoinHostPort(host, strconv.Itoa(port))); n.listeners[a] == nil {
			return a
		}
	}
}

func (n *Network) link(from, to string) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := [2]string{from, to}
	l := n.links[key]
	if l == nil {
		l = &link{conns: make(map[*Conn]struct{})}
		l.changed.L = &l.mu
		if n.links == nil {
			n.links = make(map[[2]string]*link)
		}
		n.links[key] = l
	}
	return l
}

// A Host dials from one place in the network.
type Host struct {
	net  *Network
	name string
}

// Dial connects to address, "host:port". It takes one round trip of the
// links. Its shape is that of net.Dialer's DialContext.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	h.net.mu.Lock()
	local := h.net.ephemeral(h.name)
	h.net.mu.Unlock()
	there, back := h.net.link(h.name, host), h.net.link(host, h.name)

	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Source: local, Addr: Addr(address), Err: err}
	}
	if err := there.pass(ctx); err != nil { // SYN
		return fail(err)
	}
	h.net.mu.Lock()
	l := h.net.listeners[Addr(address)]
	h.net.mu.Unlock()
	a, b := newPair(local, Addr(address), newHalf(there), newHalf(back))
	accepted := l != nil && l.deliver(b)
	if err := back.pass(ctx); err != nil { // SYN-ACK or RST
		a.Close()
		return fail(err)
	}
	if !accepted {
		return fail(syscall.ECONNREFUSED)
	}
	there.add(a)
	return a, nil
}

func (h *Host) String() string { return fmt.Sprintf("host %s", h.name) }
