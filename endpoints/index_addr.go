package endpoints

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"

	"github.com/eastwest-mesh/eastwest/internal/pmap"
)

// An addrOn is an address on a network, as workloads are found by it. It is never IPv4 mapped to IPv6.
type addrOn struct {
	network string
	addr    netip.Addr
}

func (a addrOn) hash() uint64 { return pmap.HashString(a.network) ^ pmap.Hash16(a.addr.As16()) }

// of reports whether it is one of a workload's.
func (a addrOn) of(w *Workload) bool {
	return w.Network == a.network && slices.ContainsFunc(w.Addresses, func(b netip.Addr) bool { return b.Unmap() == a.addr })
}

// An addrKey is an address or a range on a network, without pointers. IPv4 is written as in IPv4-mapped
// IPv6, but is never the same as IPv6.
type addrKey struct {
	hi, lo uint64
	space  uint32 // the network's number, and the address family in the last bit
	bits   uint8  // of the 128
}

func keyOf(network uint32, a netip.Addr) addrKey {
	a = a.Unmap() // what a dual-stack socket calls an IPv4 address
	space := network << 1
	if a.Is4() {
		space |= 1
	}
	return rawKey(space, a)
}

func rawKey(space uint32, a netip.Addr) addrKey {
	b := a.As16()
	return addrKey{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]), space, 128}
}

func keyOfPrefix(network uint32, p netip.Prefix) addrKey {
	if p.Addr().Is4In6() && p.Bits() < 96 { // more than IPv4
		return rawKey(network<<1, p.Addr()).masked(uint8(p.Bits()))
	}
	return keyOf(network, p.Addr()).masked(uint8(128 - p.Addr().BitLen() + p.Bits()))
}

func (k addrKey) masked(bits uint8) addrKey {
	k.bits = bits
	if bits <= 64 {
		k.lo = 0
		k.hi &= ^uint64(0) << (64 - bits)
	} else {
		k.lo &= ^uint64(0) << (128 - bits)
	}
	return k
}

// prefixLengths counts the ranges of each length on a network and of a family. It is immutable.
type prefixLengths struct {
	count             [128]uint32
	longest, shortest uint8
}

// with returns the counts with n more ranges of a length.
func (p *prefixLengths) with(bits uint8, n int) *prefixLengths {
	next := new(prefixLengths)
	if p != nil {
		next.count = p.count
	}
	next.count[bits] += uint32(n)
	next.shortest = 128
	for length, count := range next.count {
		if count > 0 {
			next.shortest = min(next.shortest, uint8(length))
			next.longest = uint8(length)
		}
	}
	return next
}

// descending yields the lengths that there are, longest first.
func (p *prefixLengths) descending() iter.Seq[uint8] {
	return func(yield func(uint8) bool) {
		for bits := int(p.longest); bits >= int(p.shortest); bits-- {
			if p.count[bits] > 0 && !yield(uint8(bits)) {
				return
			}
		}
	}
}
