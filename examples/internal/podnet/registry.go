package podnet

import (
	"context"
	"net/netip"
	"sync"
	"syscall"
)

// endpoint names a listener on a pod network.
type endpoint struct {
	protocol string // "tcp" or "udp"
	addr     netip.AddrPort
}

// registry maps pod addresses to loopback sockets.
type registry interface {
	// add returns EADDRINUSE if the endpoint has a live socket. The func
	// takes the endpoint away.
	add(ctx context.Context, e endpoint, socket netip.AddrPort) (remove func() error, err error)
	// find returns ECONNREFUSED if there is no such endpoint.
	find(e endpoint) (netip.AddrPort, error)
}

type memoryRegistry struct {
	mu      sync.RWMutex
	sockets map[endpoint]netip.AddrPort
}

func newMemoryRegistry() *memoryRegistry {
	return &memoryRegistry{sockets: make(map[endpoint]netip.AddrPort)}
}

func (r *memoryRegistry) add(_ context.Context, e endpoint, socket netip.AddrPort) (func() error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.sockets[e]; taken {
		return nil, syscall.EADDRINUSE
	}
	r.sockets[e] = socket
	return func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.sockets, e)
		return nil
	}, nil
}

func (r *memoryRegistry) find(e endpoint) (netip.AddrPort, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if socket, ok := r.sockets[e]; ok {
		return socket, nil
	}
	return netip.AddrPort{}, syscall.ECONNREFUSED
}
