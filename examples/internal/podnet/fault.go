package podnet

import (
	"io"
	"net/netip"
	"slices"
	"sync"
	"syscall"
)

// Flow names connections by their ends: From dialled, To listens. An address
// that is not set means any address, port 0 means any port.
type Flow struct {
	From, To netip.AddrPort
}

func (f Flow) matches(e ends) bool { return matchesEnd(f.From, e.from) && matchesEnd(f.To, e.to) }

func matchesEnd(want, got netip.AddrPort) bool {
	return (!want.Addr().IsValid() || want.Addr() == got.Addr()) && (want.Port() == 0 || want.Port() == got.Port())
}

// ends are the addresses of a connection as one network sees them.
type ends struct{ from, to netip.AddrPort }

// faults are what was done to the connections of one network.
type faults struct {
	mu     sync.Mutex
	closed bool
	cuts   map[*Flow]struct{}
	taps   map[*tap]struct{}
	conns  map[io.Closer]ends
}

// tap is one listener of Network.Tap.
type tap struct {
	flow Flow
	sink func(from, to netip.AddrPort, p []byte)
}

// Cut takes the connections of a flow down: those that are open are reset, and
// new ones fail with EHOSTUNREACH, until the returned func is called. UDP
// datagrams are dropped. Where processes share the network, it acts on the
// connections that have an end in this one.
func (n *Network) Cut(flow Flow) (restore func()) {
	f, cut := &n.faults, &flow
	f.mu.Lock()
	if f.cuts == nil {
		f.cuts = make(map[*Flow]struct{})
	}
	f.cuts[cut] = struct{}{}
	var hit []io.Closer
	for c, e := range f.conns {
		if flow.matches(e) {
			hit = append(hit, c)
		}
	}
	f.mu.Unlock()
	for _, c := range hit {
		reset(c)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.cuts, cut)
	}
}

// Tap shows sink what is sent on the TCP connections of a flow, both ways,
// until the returned func is called. Only connections that this process dials
// after the call are seen. sink must not keep p, and connections call it
// concurrently.
func (n *Network) Tap(flow Flow, sink func(from, to netip.AddrPort, p []byte)) (stop func()) {
	f, t := &n.faults, &tap{flow, sink}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.taps == nil {
		f.taps = make(map[*tap]struct{})
	}
	f.taps[t] = struct{}{}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.taps, t)
	}
}

// tapped reports whether t has not been stopped.
func (f *faults) tapped(t *tap) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.taps[t]
	return ok
}

func (f *faults) tapsOf(e ends) []*tap {
	f.mu.Lock()
	defer f.mu.Unlock()
	var taps []*tap
	for t := range f.taps {
		if t.flow.matches(e) {
			taps = append(taps, t)
		}
	}
	return taps
}

// track records a live connection; the check for cuts is under the same lock,
// so that no connection slips past a Cut.
func (f *faults) track(c io.Closer, e ends) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return syscall.ENETUNREACH
	}
	if f.isCut(e) {
		return syscall.EHOSTUNREACH
	}
	if f.conns == nil {
		f.conns = make(map[io.Closer]ends)
	}
	f.conns[c] = e
	return nil
}

func (f *faults) untrack(c io.Closer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

// cut reports whether a flow is cut.
func (f *faults) cut(e ends) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.isCut(e)
}

// isCut is cut with the lock held.
func (f *faults) isCut(e ends) bool {
	for flow := range f.cuts {
		if flow.matches(e) {
			return true
		}
	}
	return false
}

func (f *faults) closeAll() {
	f.mu.Lock()
	f.closed = true
	conns := make([]io.Closer, 0, len(f.conns))
	for c := range f.conns {
		conns = append(conns, c)
	}
	f.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// cutOnTheWay asks every network that a connection goes through.
func cutOnTheWay(hops []hop, port uint16, to netip.AddrPort) bool {
	return slices.ContainsFunc(hops, func(h hop) bool {
		return h.network.faults.cut(ends{netip.AddrPortFrom(h.from, port), to})
	})
}

// reset closes a connection with a TCP RST, as a host that is gone does.
func reset(c io.Closer) {
	if tcp, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}
