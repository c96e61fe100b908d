package dnsproxy

import (
	"fmt"
	"net/netip"
	"time"
)

// VIP is the pair of virtual addresses of a host.
type VIP struct {
	IPv4, IPv6 netip.Addr
}

// VIPConfig says where virtual addresses come from. The zero value works.
type VIPConfig struct {
	IPv4 netip.Prefix // zero: 240.240.0.0/16
	IPv6 netip.Prefix // zero: 2001:2::/48

	// Quarantine is how long a freed address is not given to another host.
	// Zero means 1 h, negative none.
	Quarantine time.Duration

	// Store keeps allocations over restarts; nil means that nothing does.
	Store Store

	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Lease is one allocation as a [Store] keeps it.
type Lease struct {
	Host string
	VIP  VIP
	// Released is when the host gave the addresses back; they are in quarantine
	// since then. Zero: in use.
	Released time.Time
}

// Store keeps leases. A VIPs calls it from one goroutine at a time.
type Store interface {
	// Load returns all leases.
	Load() ([]Lease, error)
	// Save replaces all leases, entirely or not at all.
	Save([]Lease) error
}

// Move reports that a user claimed an address that another host had.
type Move struct {
	Host     string
	From, To VIP
}

// ExhaustedError says that a prefix has no free address.
type ExhaustedError struct {
	Host        string
	Prefix      netip.Prefix
	InUse       int
	Quarantined int
}

func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("dnsproxy: no free virtual address for %s in %s: %d in use, %d in quarantine", e.Host, e.Prefix, e.InUse, e.Quarantined)
}

// TakenError says that an address belongs to another host.
type TakenError struct {
	Host, Owner string
	Addr        netip.Addr
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("dnsproxy: %s cannot have %s: it belongs to %s", e.Host, e.Addr, e.Owner)
}

// VIPs gives virtual addresses to hosts. It is safe for concurrent use.
type VIPs struct{}

// OpenVIPs loads the leases of cfg.Store.
func OpenVIPs(cfg VIPConfig) (*VIPs, error) { return nil, nil }

// Allocate returns the addresses of every host in order, giving new ones to those
// that have none. What it returns is stored. On an error nothing was allocated.
func (v *VIPs) Allocate(hosts ...string) ([]VIP, error) { return nil, nil }

// Adopt takes over an allocation that somebody else made (an earlier status,
// another cluster). It fails with a [*TakenError] when another host has an address.
func (v *VIPs) Adopt(host string, vip VIP) error { return nil }

// Claim says that a user gave addresses to host: they win. It gives back what was
// allocated to host itself, and moves the hosts that had one of them.
func (v *VIPs) Claim(host string, addrs ...netip.Addr) ([]Move, error) { return nil, nil }

// Release gives back what hosts have, allocated or claimed.
func (v *VIPs) Release(hosts ...string) error { return nil }

// Lookup returns the allocated addresses of host.
func (v *VIPs) Lookup(host string) (VIP, bool) { return VIP{}, false }
