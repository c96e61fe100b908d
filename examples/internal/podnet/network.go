package podnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
)

// Config says what a Network is. The zero value is a network of its own, kept
// in memory, that holds every address.
type Config struct {
	// Name appears in errors. Default "podnet".
	Name string

	// CIDRs are the addresses of this network. Empty means every address, and
	// then there can be no Parent.
	CIDRs []netip.Prefix

	// Parent is the network that all other addresses are on, both to listen
	// and to dial. nil means that they are unreachable.
	Parent *Network

	// Masquerade is the source address of connections that leave for Parent,
	// as a node's address is for traffic that leaves its cluster. Not set
	// means that Parent's listeners see the loopback address.
	Masquerade netip.Addr

	// Dir is a directory that holds the network's listeners, one small file
	// each, so that separate processes share the network. It is made if
	// missing. Empty means that the network is kept in memory.
	Dir string
}

// Network is a pod network. It is safe for concurrent use.
type Network struct {
	config   Config
	registry registry
	faults   faults

	mu     sync.Mutex
	closed bool
	owned  map[interface{ Close() error }]struct{} // listeners and packet sockets
}

// New returns a network. Close it to end all that listens on it and all its
// connections.
func New(config Config) (*Network, error) {
	if config.Name == "" {
		config.Name = "podnet"
	}
	config.CIDRs = slices.Clone(config.CIDRs)
	if config.Parent != nil && len(config.CIDRs) == 0 {
		return nil, fmt.Errorf("podnet %s: a network with a parent needs CIDRs of its own", config.Name)
	}
	for i, cidr := range config.CIDRs {
		if !cidr.IsValid() {
			return nil, fmt.Errorf("podnet %s: CIDR %d is not valid", config.Name, i)
		}
		config.CIDRs[i] = cidr.Masked()
	}
	n := &Network{config: config, owned: make(map[interface{ Close() error }]struct{})}
	n.registry = newMemoryRegistry()
	if config.Dir != "" {
		dir, err := newDirRegistry(config.Dir)
		if err != nil {
			return nil, fmt.Errorf("podnet %s: %w", config.Name, err)
		}
		n.registry = dir
	}
	return n, nil
}

// Name returns the network's name.
func (n *Network) Name() string { return n.config.Name }

// Pod returns the network as the pod with address ip sees it.
func (n *Network) Pod(ip netip.Addr) *Pod { return &Pod{network: n, ip: ip.Unmap()} }

// Listen listens on a pod address; port 0 chooses a free one. network is
// "tcp", "tcp4" or "tcp6".
func (n *Network) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	addr, err := parseAddr(network, address)
	if err == nil {
		err = needProtocol(network, "tcp")
	}
	if err == nil {
		var l net.Listener
		if l, err = n.listenTCP(ctx, addr); err == nil {
			return l, nil
		}
	}
	return nil, &net.OpError{Op: "listen", Net: network, Addr: addrText(address), Err: err}
}

// ListenPacket is Listen for "udp", "udp4" or "udp6".
func (n *Network) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	addr, err := parseAddr(network, address)
	if err == nil {
		err = needProtocol(network, "udp")
	}
	if err == nil {
		var c *packetConn
		if c, err = n.listenUDP(ctx, addr); err == nil {
			return c, nil
		}
	}
	return nil, &net.OpError{Op: "listen", Net: network, Addr: addrText(address), Err: err}
}

// DialContext connects to a pod address from no pod in particular: the peer
// sees a loopback address. Use Pod to dial as a pod.
//
// The error is a *net.OpError as of a real network: ECONNREFUSED where nobody
// listens, ENETUNREACH for an address of no network, EHOSTUNREACH where Cut
// was called.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return n.dialFrom(ctx, netip.Addr{}, network, address)
}

// Close ends all that listens on the network and all its connections. The
// parent is left alone.
func (n *Network) Close() error {
	n.mu.Lock()
	n.closed = true
	owned := make([]interface{ Close() error }, 0, len(n.owned))
	for c := range n.owned {
		owned = append(owned, c)
	}
	n.mu.Unlock()
	var errs []error
	for _, c := range owned {
		errs = append(errs, c.Close())
	}
	n.faults.closeAll()
	return errors.Join(errs...)
}

// own records what Close must close.
func (n *Network) own(c interface{ Close() error }) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return net.ErrClosed
	}
	n.owned[c] = struct{}{}
	return nil
}

func (n *Network) disown(c interface{ Close() error }) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.owned, c)
}

func (n *Network) holds(ip netip.Addr) bool {
	return len(n.config.CIDRs) == 0 || slices.ContainsFunc(n.config.CIDRs, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// hop is one network on the way to an address, and the source that it sees.
type hop struct {
	network *Network
	from    netip.Addr
}

// route returns the networks on the way from a source to an address; the last
// one is the address's own.
func (n *Network) route(from, to netip.Addr) ([]hop, error) {
	hops := []hop{{n, from}}
	for at := n; !at.holds(to); {
		from, at = at.config.Masquerade, at.config.Parent
		if at == nil {
			return nil, syscall.ENETUNREACH
		}
		hops = append(hops, hop{at, from})
	}
	return hops, nil
}

// home returns the network that an address is on.
func (n *Network) home(ip netip.Addr) (*Network, error) {
	hops, err := n.route(netip.Addr{}, ip)
	if err != nil {
		return nil, syscall.EADDRNOTAVAIL
	}
	return hops[len(hops)-1].network, nil
}
