package dnsproxy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// VIP is the pair of virtual addresses of a host. It always has both.
type VIP struct {
	IPv4, IPv6 netip.Addr
}

// VIPConfig says where virtual addresses come from. The zero value works.
type VIPConfig struct {
	// IPv4 and IPv6 are the prefixes. Zero means 240.240.0.0/16 and 2001:2::/48,
	// as in Istio: Class E and benchmarking, which nobody routes. What was
	// allocated before from other prefixes stays.
	IPv4, IPv6 netip.Prefix

	// Quarantine is how long an address that was given back is kept for its last
	// host, as clients may still use it. Zero means 1 h, negative not at all.
	Quarantine time.Duration

	// Store keeps allocations over restarts; nil means that nothing does.
	Store Store
}

const defaultQuarantine = time.Hour

var (
	defaultIPv4 = netip.MustParsePrefix("240.240.0.0/16")
	defaultIPv6 = netip.MustParsePrefix("2001:2::/48")
)

// VIPs gives virtual addresses to hosts, one IPv4 and one IPv6 address each. It
// is safe for concurrent use.
//
// The first candidate is a hash of the host: a host whose address no other one
// took has the same address in every cluster, without any coordination. What is
// allocated never moves, except when a user claims the address for another host.
//
// After a restart, make the claims of users first, so that their addresses are
// not given to others in the meantime.
type VIPs struct {
	v4, v6     pool
	quarantine time.Duration
	store      Store

	mu     sync.Mutex
	leases map[string]Lease               // by host, also those in quarantine
	owners map[netip.Addr]string          // of the addresses of leases
	claims map[netip.Addr]map[string]bool // by users: hosts may share an address
	users  map[string][]netip.Addr        // what users claimed, by host
}

// Move reports that a host has other addresses than before, because a user
// claimed one of them. The address of the other family stays.
type Move struct {
	Host     string
	From, To VIP
}

// ErrClaimed says that a host has addresses from its user, and gets no others.
var ErrClaimed = errors.New("dnsproxy: the host has addresses from its user")

// ExhaustedError says that a prefix has no free address.
type ExhaustedError struct {
	Host        string
	Prefix      netip.Prefix
	InUse       int // hosts with an allocation
	Quarantined int // hosts whose allocation is in quarantine
}

func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("dnsproxy: no free virtual address for %s in %s: %d hosts have one, %d are in quarantine",
		e.Host, e.Prefix, e.InUse, e.Quarantined)
}

// TakenError says that an address belongs to another host.
type TakenError struct {
	Host, Owner string
	Addr        netip.Addr
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("dnsproxy: %s cannot have %s: it belongs to %s", e.Host, e.Addr, e.Owner)
}

// OpenVIPs loads what cfg.Store has.
func OpenVIPs(cfg VIPConfig) (*VIPs, error) {
	v4, err4 := newPool("IPv4", cmp.Or(cfg.IPv4, defaultIPv4), 32)
	v6, err6 := newPool("IPv6", cmp.Or(cfg.IPv6, defaultIPv6), 128)
	if err := errors.Join(err4, err6); err != nil {
		return nil, err
	}
	v := &VIPs{
		v4: v4, v6: v6,
		quarantine: cmp.Or(cfg.Quarantine, defaultQuarantine),
		store:      cfg.Store,
		leases:     make(map[string]Lease),
		owners:     make(map[netip.Addr]string),
		claims:     make(map[netip.Addr]map[string]bool),
		users:      make(map[string][]netip.Addr),
	}
	if v.store == nil {
		v.store = new(MemoryStore)
	}
	leases, err := v.store.Load()
	if err != nil {
		return nil, fmt.Errorf("dnsproxy: loading virtual addresses: %w", err)
	}
	tx := v.begin()
	for _, l := range leases {
		if err := tx.check(l); err != nil {
			return nil, fmt.Errorf("dnsproxy: loading virtual addresses: %w", err)
		}
		tx.put(l)
	}
	return v, nil
}

// Allocate returns the addresses of hosts, in their order; those that have none
// get new ones. What it returns is stored. On an error (an [*ExhaustedError],
// [ErrClaimed], or one of the Store) nothing has changed.
func (v *VIPs) Allocate(hosts ...string) ([]VIP, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	tx := v.begin()
	out := make([]VIP, 0, len(hosts))
	for _, h := range hosts {
		vip, err := tx.allocate(canonical(h))
		if err != nil {
			tx.rollback()
			return nil, err
		}
		out = append(out, vip)
	}
	if err := tx.commit(); err != nil {
		return nil, err
	}
	return out, nil
}

// Adopt takes over an allocation that somebody else made: the status of an
// earlier control plane, or that of another cluster. It fails with a
// [*TakenError] when another host has one of the addresses or a user claimed it,
// or host itself has others; adopt the older one first. On an error nothing has changed.
func (v *VIPs) Adopt(host string, vip VIP) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	tx := v.begin()
	if err := tx.adopt(Lease{Host: canonical(host), VIP: vip}); err != nil {
		tx.rollback()
		return err
	}
	return tx.commit()
}

// Claim says which addresses a user gave to host: they win, and replace earlier
// ones. Host gives back what was allocated to it, and hosts to which one of the
// addresses was allocated move. Several hosts may claim one address. On an error
// nothing has changed.
func (v *VIPs) Claim(host string, addrs ...netip.Addr) ([]Move, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	tx := v.begin()
	moves, err := tx.claim(canonical(host), addrs)
	if err != nil {
		tx.rollback()
		return nil, err
	}
	if err := tx.commit(); err != nil {
		return nil, err
	}
	return moves, nil
}

// Release gives back what hosts have, allocated or claimed. What was allocated
// goes into quarantine; a host that comes back in time gets it again.
func (v *VIPs) Release(hosts ...string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	tx := v.begin()
	for _, h := range hosts {
		tx.release(canonical(h))
		tx.unclaim(canonical(h))
	}
	return tx.commit()
}

// Lookup returns the addresses that are allocated to host.
func (v *VIPs) Lookup(host string) (VIP, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	l, ok := v.leases[canonical(host)]
	return l.VIP, ok && l.Released.IsZero()
}

// Leases returns all allocations by host, also those in quarantine.
func (v *VIPs) Leases() []Lease {
	v.mu.Lock()
	defer v.mu.Unlock()
	return sortedLeases(v.leases)
}

func sortedLeases(m map[string]Lease) []Lease {
	return slices.SortedFunc(maps.Values(m), func(a, b Lease) int { return strings.Compare(a.Host, b.Host) })
}
