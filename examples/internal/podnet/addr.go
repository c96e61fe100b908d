package podnet

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
)

// parseAddr reads "ip:port". There are no names on a pod network, and a zone
// would have no meaning.
func parseAddr(network, address string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Zone() != "" || ip.IsUnspecified() {
		return netip.AddrPort{}, &net.AddrError{Err: "a pod address must be an IP address", Addr: address}
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, &net.AddrError{Err: "invalid port", Addr: address}
	}
	ip = ip.Unmap()
	if strings.HasSuffix(network, "4") && !ip.Is4() || strings.HasSuffix(network, "6") && ip.Is4() {
		return netip.AddrPort{}, &net.AddrError{Err: "address of the other family", Addr: address}
	}
	return netip.AddrPortFrom(ip, uint16(number)), nil
}

func needProtocol(network, protocol string) error {
	if protocolOf(network) != protocol {
		return net.UnknownNetworkError(network)
	}
	return nil
}

// protocolOf returns "tcp", "udp" or "".
func protocolOf(network string) string {
	switch network {
	case "tcp", "tcp4", "tcp6":
		return "tcp"
	case "udp", "udp4", "udp6":
		return "udp"
	}
	return ""
}

// addrText is an address as the caller wrote it, for errors.
type addrText string

func (addrText) Network() string  { return "pod" }
func (a addrText) String() string { return string(a) }

func tcpAddr(a netip.AddrPort) net.Addr { return net.TCPAddrFromAddrPort(a) }
func udpAddr(a netip.AddrPort) net.Addr { return net.UDPAddrFromAddrPort(a) }

// addrPortOf reads the address of a socket.
func addrPortOf(a net.Addr) (netip.AddrPort, error) {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
	}
	if a == nil {
		return netip.AddrPort{}, syscall.EINVAL
	}
	return netip.ParseAddrPort(a.String())
}

// or returns the pod address ip with the port of a loopback socket, or the
// socket's own address where there is no pod.
func or(ip netip.Addr, socket netip.AddrPort) netip.AddrPort {
	if ip.IsValid() {
		return netip.AddrPortFrom(ip, socket.Port())
	}
	return socket
}
