package dnsproxy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// pool is the addresses of one prefix that may be given to hosts, in slots from 0.
//
// For IPv4 these are all but those whose last byte is 0 or 255, which programs
// and firewalls still take for network and broadcast addresses; of prefixes
// longer than /24, all but the first and the last. For IPv6 they are the lowest
// 2^63 of the prefix without the first one, the anycast address of routers (RFC
// 4291 section 2.6.1).
type pool struct {
	prefix netip.Prefix
	slots  uint64
}

func newPool(field string, p netip.Prefix, bits int) (pool, error) {
	if !p.IsValid() || p.Addr().BitLen() != bits {
		return pool{}, fmt.Errorf("dnsproxy: VIPConfig.%s: %s is not a prefix of that family", field, p)
	}
	p = p.Masked()
	hostBits := min(bits-p.Bits(), 63)
	if hostBits < 2 {
		return pool{}, fmt.Errorf("dnsproxy: VIPConfig.%s: %s has no addresses to give", field, p)
	}
	switch {
	case bits == 128:
		return pool{p, 1<<hostBits - 1}, nil
	case hostBits >= 8:
		return pool{p, 254 << (hostBits - 8)}, nil
	default:
		return pool{p, 1<<hostBits - 2}, nil
	}
}

// addr returns the address of a slot.
func (p pool) addr(slot uint64) netip.Addr {
	offset := slot + 1
	if p.prefix.Addr().Is4() {
		if p.prefix.Bits() <= 24 {
			offset = slot/254<<8 + slot%254 + 1
		}
		b := p.prefix.Addr().As4()
		low := uint64(binary.BigEndian.Uint32(b[:])) + offset
		binary.BigEndian.PutUint32(b[:], uint32(low))
		return netip.AddrFrom4(b)
	}
	b := p.prefix.Addr().As16()
	low := binary.BigEndian.Uint64(b[8:]) + offset // of a masked prefix: there is no carry
	binary.BigEndian.PutUint64(b[8:], low)
	return netip.AddrFrom16(b)
}

// pick returns the first address for host, of those that are free, in an order
// that only depends on the host: the slot that its hash says, and from there on
// in steps that its hash says, too. There are at most taken addresses that are not free.
func (p pool) pick(host string, taken int, free func(netip.Addr) bool) (netip.Addr, bool) {
	sum := sha256.Sum256([]byte(host))
	slot := binary.BigEndian.Uint64(sum[:]) % p.slots
	step := 1 + binary.BigEndian.Uint64(sum[8:])%(p.slots-1)
	for gcd(step, p.slots) != 1 { // only then do the steps lead to every slot
		step++
	}
	for range min(p.slots, uint64(taken)+1) {
		if a := p.addr(slot); free(a) {
			return a, true
		}
		slot = (slot + step) % p.slots // below 2^64: both are below 2^63
	}
	return netip.Addr{}, false
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
