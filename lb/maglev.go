package lb

import (
	"hash/fnv"
	"slices"
)

// hashed returns the position that the table has for hash, or the first on a
// path of rehashes that is not in skip.
func (t *tier) hashed(hash uint64, skip []int) int {
	const tries = 16
	for range tries {
		if p := int(t.table[hash%uint64(len(t.table))]); !slices.Contains(skip, p) {
			return p
		}
		hash = mix(hash)
	}
	return t.randomExcept(func() uint64 { return mix(hash) }, skip)
}

// newTable fills a Maglev table (Eisenbud et al., NSDI 2016, §3.4): positions
// take turns to claim the next free slot of their own permutation of the
// slots, and take part in a turn as often as their weight says.
func newTable(t *tier, keys []string) []int32 {
	size := tableSize(len(t.members))
	table := make([]int32, size)
	for i := range table {
		table[i] = -1
	}
	claims := make([]claim, len(t.members))
	var heaviest uint64
	for p := range claims {
		claims[p] = newClaim(keys[p], size)
		heaviest = max(heaviest, t.weight(p))
	}
	for filled := uint64(0); ; {
		for p := range claims {
			c := &claims[p]
			if c.credit += t.weight(p); c.credit < heaviest {
				continue
			}
			c.credit -= heaviest
			for table[c.next] >= 0 {
				c.next = (c.next + c.skip) % size
			}
			table[c.next] = int32(p)
			if filled++; filled == size {
				return table
			}
		}
	}
}

// A claim walks the slots in the order that one target wants them.
type claim struct {
	next, skip uint64
	credit     uint64 // of weight, until the next turn
}

func newClaim(key string, size uint64) claim {
	h := fnv.New64a()
	h.Write([]byte(key))
	hash := mix(h.Sum64())
	return claim{next: hash % size, skip: mix(hash)%(size-1) + 1}
}

// tableSize returns a prime with about a hundred slots per target, so that
// shares are right within about 1 %; fewer beyond ten thousand targets.
func tableSize(targets int) uint64 {
	for _, prime := range []uint64{251, 1021, 4093, 16381, 65521, 262139} {
		if prime >= 100*uint64(targets) {
			return prime
		}
	}
	for _, prime := range []uint64{1048573, 16777213} {
		if prime >= 10*uint64(targets) {
			return prime
		}
	}
	return 2147483647
}

// mix is the finalizer of SplitMix64: it spreads every bit over all of them.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
