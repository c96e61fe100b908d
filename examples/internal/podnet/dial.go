package podnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// handshakeTimeout bounds the exchange of header and answer, which happens
// between two processes on one machine.
const handshakeTimeout = 5 * time.Second

func (n *Network) dialFrom(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error) {
	conn, err := n.dialParsed(ctx, from, network, address)
	if err == nil {
		return conn, nil
	}
	failure := &net.OpError{Op: "dial", Net: network, Addr: addrText(address), Err: err}
	if from.IsValid() {
		failure.Source = addrText(from.String())
	}
	return nil, failure
}

func (n *Network) dialParsed(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error) {
	to, err := parseAddr(network, address)
	if err != nil {
		return nil, err
	}
	switch protocolOf(network) {
	case "tcp":
		return n.dialTCP(ctx, from, to)
	case "udp":
		return n.dialUDP(ctx, from, to)
	}
	return nil, net.UnknownNetworkError(network)
}

func (n *Network) dialTCP(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	hops, err := n.route(from, to.Addr())
	if err != nil {
		return nil, err
	}
	if cutOnTheWay(hops, 0, to) {
		return nil, syscall.EHOSTUNREACH
	}
	home := hops[len(hops)-1]
	socket, err := home.network.registry.find(endpoint{"tcp", to})
	if err != nil {
		return nil, err
	}
	tcp, err := connect(ctx, socket, func(self netip.AddrPort) header {
		return header{from: or(home.from, self), to: to}
	})
	if err != nil {
		return nil, err
	}
	self, err := addrPortOf(tcp.LocalAddr())
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	c := &Conn{TCPConn: tcp, local: or(from, self), remote: to}
	return c.join(hops, self.Port(), to)
}

// connect dials a loopback socket and exchanges header and answer. What is on
// the other end has either answered for the wanted pod address, or is refused.
func connect(ctx context.Context, socket netip.AddrPort, head func(self netip.AddrPort) header) (*net.TCPConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", socket.String())
	if err != nil {
		return nil, inner(err)
	}
	tcp := conn.(*net.TCPConn)
	if err := greet(ctx, tcp, head); err != nil {
		_ = tcp.Close()
		return nil, err
	}
	return tcp, nil
}

func greet(ctx context.Context, tcp *net.TCPConn, head func(netip.AddrPort) header) error {
	self, err := addrPortOf(tcp.LocalAddr())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = tcp.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var answer [1]byte
	_, err = tcp.Write(head(self).append(nil))
	if err == nil {
		_, err = io.ReadFull(tcp, answer[:])
	}
	if !stop() {
		return context.Cause(ctx)
	}
	if err != nil || answer[0] != accepted {
		// The port belongs to somebody else by now, or the listener has
		// just closed: on a real network that is a refused connection.
		return fmt.Errorf("nobody answers for the pod address: %w", syscall.ECONNREFUSED)
	}
	return nil
}

// inner returns what a *net.OpError of a loopback socket wraps: the addresses
// in it mean nothing to whoever dialled a pod.
func inner(err error) error {
	if op := new(net.OpError); errors.As(err, &op) {
		return op.Err
	}
	return err
}
