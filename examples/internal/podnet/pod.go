package podnet

import (
	"context"
	"net"
	"net/netip"
)

// Pod is a Network as one pod sees it: its connections come from the pod's
// address, and an address without a host, such as ":8080", is the pod's own.
type Pod struct {
	network *Network
	ip      netip.Addr
}

// IP returns the pod's address.
func (p *Pod) IP() netip.Addr { return p.ip }

// Listen is Network.Listen.
func (p *Pod) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return p.network.Listen(ctx, network, p.complete(address))
}

// ListenPacket is Network.ListenPacket.
func (p *Pod) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	return p.network.ListenPacket(ctx, network, p.complete(address))
}

// DialContext is Network.DialContext with the pod's address as the source.
func (p *Pod) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return p.network.dialFrom(ctx, p.ip, network, p.complete(address))
}

func (p *Pod) complete(address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil && host == "" {
		return net.JoinHostPort(p.ip.String(), port)
	}
	return address
}
