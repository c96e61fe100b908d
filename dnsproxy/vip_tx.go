package dnsproxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// vipTx is one change of a VIPs, which is made as a whole or not at all. Its
// owner holds the lock of the VIPs.
type vipTx struct {
	*VIPs
	now     time.Time
	undo    []func()
	touched map[string]bool // hosts whose leases changed
}

func (v *VIPs) begin() *vipTx {
	return &vipTx{VIPs: v, now: time.Now(), touched: make(map[string]bool)}
}

// commit stores what changed, or undoes it.
func (tx *vipTx) commit() error {
	var changed []Lease
	var forgotten []string
	for host := range tx.touched {
		if l, ok := tx.leases[host]; ok {
			changed = append(changed, l)
		} else {
			forgotten = append(forgotten, host)
		}
	}
	if len(changed)+len(forgotten) == 0 {
		return nil
	}
	slices.SortFunc(changed, func(a, b Lease) int { return strings.Compare(a.Host, b.Host) })
	slices.Sort(forgotten)
	if err := tx.store.Save(changed, forgotten); err != nil {
		tx.rollback()
		return fmt.Errorf("dnsproxy: storing virtual addresses: %w", err)
	}
	return nil
}

func (tx *vipTx) rollback() {
	for _, f := range slices.Backward(tx.undo) {
		f()
	}
	tx.undo = nil
}

// put sets the lease of a host. A lease without addresses is none.
func (tx *vipTx) put(l Lease) {
	old, had := tx.leases[l.Host]
	tx.undo = append(tx.undo, func() { tx.swap(l, old, had) })
	tx.swap(old, l, l.VIP != VIP{})
	tx.touched[l.Host] = true
}

// swap replaces the lease from by to, or by nothing.
func (tx *vipTx) swap(from, to Lease, exists bool) {
	for _, a := range from.addrs() {
		delete(tx.owners, a)
	}
	delete(tx.leases, from.Host)
	if exists {
		tx.leases[to.Host] = to
		for _, a := range to.addrs() {
			tx.owners[a] = to.Host
		}
	}
}

// free says whether a can be allocated; it ends the quarantine of a when it is over.
func (tx *vipTx) free(a netip.Addr) bool {
	if len(tx.claims[a]) > 0 {
		return false
	}
	owner, owned := tx.owners[a]
	if owned && tx.over(tx.leases[owner]) {
		tx.put(Lease{Host: owner})
		return true
	}
	return !owned
}

// over says whether l was in quarantine and no longer is.
func (tx *vipTx) over(l Lease) bool {
	return !l.Released.IsZero() && tx.now.Sub(l.Released) >= tx.quarantine
}

func (tx *vipTx) allocate(host string) (VIP, error) {
	if err := checkName(strings.TrimPrefix(host, "*.")); err != nil {
		return VIP{}, fmt.Errorf("dnsproxy: a virtual address for: %w", err)
	}
	if len(tx.users[host]) > 0 {
		return VIP{}, fmt.Errorf("%w: %s", ErrClaimed, host)
	}
	l := tx.leases[host]
	if tx.over(l) {
		tx.put(Lease{Host: host})
		l = Lease{}
	}
	if l.complete() && l.Released.IsZero() {
		return l.VIP, nil
	}
	vip, err := tx.complete(host, l.VIP)
	if err == nil {
		tx.put(Lease{Host: host, VIP: vip})
	}
	return vip, err
}

// complete gives vip the addresses that it lacks.
func (tx *vipTx) complete(host string, vip VIP) (VIP, error) {
	taken := len(tx.owners) + len(tx.claims)
	if !vip.IPv4.IsValid() {
		ip, ok := tx.v4.pick(host, taken, tx.free)
		if !ok {
			return VIP{}, tx.exhausted(host, tx.v4.prefix)
		}
		vip.IPv4 = ip
	}
	if !vip.IPv6.IsValid() {
		ip, ok := tx.v6.pick(host, taken, tx.free)
		if !ok {
			return VIP{}, tx.exhausted(host, tx.v6.prefix)
		}
		vip.IPv6 = ip
	}
	return vip, nil
}

func (tx *vipTx) exhausted(host string, p netip.Prefix) error {
	e := &ExhaustedError{Host: host, Prefix: p}
	for _, l := range tx.leases {
		if l.Released.IsZero() {
			e.InUse++
		} else {
			e.Quarantined++
		}
	}
	return e
}

func (tx *vipTx) adopt(l Lease) error {
	if !l.complete() {
		return fmt.Errorf("dnsproxy: %s: an allocation has an IPv4 and an IPv6 address", l.Host)
	}
	if len(tx.users[l.Host]) > 0 {
		return fmt.Errorf("%w: %s", ErrClaimed, l.Host)
	}
	old, had := tx.leases[l.Host]
	if had && old.VIP != l.VIP {
		if old.Released.IsZero() {
			return &TakenError{Host: l.Host, Owner: l.Host, Addr: old.VIP.IPv4}
		}
		tx.put(Lease{Host: l.Host}) // what others know counts more than our memory
	}
	for _, a := range l.addrs() {
		for user := range tx.claims[a] {
			return &TakenError{Host: l.Host, Owner: user, Addr: a}
		}
		if owner, ok := tx.owners[a]; ok && owner != l.Host && tx.over(tx.leases[owner]) {
			tx.put(Lease{Host: owner})
		}
	}
	if err := tx.check(l); err != nil {
		return err
	}
	if !had || old != l {
		tx.put(l)
	}
	return nil
}

// check says whether l can be a lease beside the others.
func (tx *vipTx) check(l Lease) error {
	if err := checkName(strings.TrimPrefix(l.Host, "*.")); err != nil {
		return err
	}
	if l.VIP.IPv4.IsValid() && !l.VIP.IPv4.Is4() || l.VIP.IPv6.IsValid() && !l.VIP.IPv6.Is6() {
		return fmt.Errorf("%s: %s and %s are not an IPv4 and an IPv6 address", l.Host, l.VIP.IPv4, l.VIP.IPv6)
	}
	for _, a := range l.addrs() {
		if owner, ok := tx.owners[a]; ok && owner != l.Host {
			return &TakenError{Host: l.Host, Owner: owner, Addr: a}
		}
	}
	return nil
}

func (tx *vipTx) claim(host string, addrs []netip.Addr) ([]Move, error) {
	if i, err := checkAddresses(addrs); err != nil {
		return nil, fmt.Errorf("dnsproxy: addrs[%d] of %s: %w", i, host, err)
	}
	tx.unclaim(host)
	if len(addrs) == 0 {
		return nil, nil
	}
	tx.release(host)
	tx.setClaims(host, addrs)
	var moves []Move
	for _, a := range tx.users[host] {
		owner, ok := tx.owners[a]
		if !ok {
			continue
		}
		old := tx.leases[owner]
		l := old.without(a)
		tx.put(l)
		if !l.Released.IsZero() {
			continue
		}
		vip, err := tx.complete(owner, l.VIP)
		if err != nil {
			return nil, err
		}
		tx.put(Lease{Host: owner, VIP: vip})
		moves = append(moves, Move{Host: owner, From: old.VIP, To: vip})
	}
	return moves, nil
}

func (tx *vipTx) setClaims(host string, addrs []netip.Addr) {
	for _, a := range addrs {
		a = a.Unmap()
		if tx.claims[a] == nil {
			tx.claims[a] = make(map[string]bool)
		}
		if !tx.claims[a][host] {
			tx.claims[a][host] = true
			tx.users[host] = append(tx.users[host], a)
		}
	}
	tx.undo = append(tx.undo, func() { tx.dropClaims(host) })
}

// unclaim ends the claims of the user of host.
func (tx *vipTx) unclaim(host string) {
	if addrs := tx.users[host]; len(addrs) > 0 {
		tx.dropClaims(host)
		tx.undo = append(tx.undo, func() {
			tx.setClaims(host, addrs)
		})
	}
}

func (tx *vipTx) dropClaims(host string) {
	for _, a := range tx.users[host] {
		if delete(tx.claims[a], host); len(tx.claims[a]) == 0 {
			delete(tx.claims, a)
		}
	}
	delete(tx.users, host)
}

// release puts the lease of host into quarantine.
func (tx *vipTx) release(host string) {
	l, ok := tx.leases[host]
	if !ok || !l.Released.IsZero() {
		return
	}
	if tx.quarantine < 0 {
		tx.put(Lease{Host: host})
		return
	}
	l.Released = tx.now
	tx.put(l)
}
