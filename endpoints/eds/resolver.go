package eds

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A Resolver keeps the addresses of hostnames, for gateways that are known by name. The last addresses of a name
// stay when it cannot be resolved any more.
//
// The zero value works. Fields must not be changed after the first call of a method. Methods may be called
// concurrently.
type Resolver struct {
	// Lookup returns the addresses of a hostname, and for how long they are good. Default: those of
	// net.DefaultResolver, which tells no time.
	Lookup func(ctx context.Context, hostname string) ([]netip.Addr, time.Duration, error)

	// MinTTL and MaxTTL bound when a name is looked up again; MinTTL is also the pause after a failure. Defaults
	// 30 s and 1 h, as in istiod.
	MinTTL, MaxTTL time.Duration

	// Timeout bounds one lookup. Default 5 s.
	Timeout time.Duration

	mu      sync.Mutex
	names   map[string]*name
	changes chan struct{}
	closed  bool
	wg      sync.WaitGroup
}

// A name is a hostname that is followed.
type name struct {
	stop  context.CancelFunc
	addrs []netip.Addr // sorted
	err   error        // of the last lookup
}

// Follow sets which hostnames are kept resolved. Those not among them are forgotten. It does not wait.
func (r *Resolver) Follow(hostnames ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.init()
	for host, n := range r.names {
		if !slices.Contains(hostnames, host) {
			n.stop()
			delete(r.names, host)
		}
	}
	for _, host := range hostnames {
		if r.names[host] != nil {
			continue
		}
		ctx, stop := context.WithCancel(context.Background())
		n := &name{stop: stop}
		r.names[host] = n
		r.wg.Go(func() { r.follow(ctx, host, n) })
	}
}

// init makes the state. The caller holds the lock.
func (r *Resolver) init() {
	if r.names == nil {
		r.names = make(map[string]*name)
		r.changes = make(chan struct{}, 1)
	}
}

// follow looks a name up, again and again.
func (r *Resolver) follow(ctx context.Context, host string, n *name) {
	for {
		ttl := r.refresh(ctx, host, n)
		select {
		case <-time.After(ttl):
		case <-ctx.Done():
			return
		}
	}
}

// refresh looks a name up once, and returns when to do so again.
func (r *Resolver) refresh(ctx context.Context, host string, n *name) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.Timeout, 5*time.Second))
	defer cancel()
	lookup := r.Lookup
	if lookup == nil {
		lookup = lookupDefault
	}
	addrs, ttl, err := lookup(ctx, host)
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	minTTL := cmp.Or(r.MinTTL, 30*time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	n.err = err
	if err != nil {
		return minTTL
	}
	addrs = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	if !slices.Equal(addrs, n.addrs) {
		n.addrs = addrs
		select {
		case r.changes <- struct{}{}:
		default:
		}
	}
	return max(minTTL, min(ttl, cmp.Or(r.MaxTTL, time.Hour)))
}

func lookupDefault(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	return addrs, 0, err
}

// Addrs returns the addresses of a hostname that is followed, as far as they are known, sorted. It does not wait.
// The slice must not be changed.
func (r *Resolver) Addrs(hostname string) []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.names[hostname]; n != nil {
		return n.addrs
	}
	return nil
}

// Err returns why the last lookup of a hostname failed, or nil.
func (r *Resolver) Err(hostname string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.names[hostname]; n != nil {
		return n.err
	}
	return nil
}

// Changes returns a channel that gets a value when addresses have changed since the last one was taken. It is for
// one receiver.
func (r *Resolver) Changes() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.init()
	return r.changes
}

// Close stops looking names up, and waits until no lookup runs. Addresses stay. It may be called several times.
func (r *Resolver) Close() error {
	r.mu.Lock()
	r.closed = true
	for _, n := range r.names {
		n.stop()
	}
	r.mu.Unlock()
	r.wg.Wait()
	return nil
}
