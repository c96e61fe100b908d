package lb

import (
	"hash/fnv"
	"slices"
	"strconv"
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

// newTable fills a Maglev table (Eisenbud et al., NSDI 2016, section 3.4):
// positions take turns, as often as their weights say, and each claims the
// next free slot of its own permutation of the slots.
func newTable(t *tier, keys []string) []int32 {
	size := tableSize(t.size())
	claims := make([]claim, t.size())
	for p := range claims {
		key := keys[p]
		if key == "" {
			key = "#" + strconv.Itoa(p) // not all the same permutation
		}
		claims[p] = newClaim(key, size)
	}
	table := make([]int32, size)
	for i := range table {
		table[i] = -1
	}
	turns := interleave(t, size)
	for i := range table {
		p := turns[i%len(turns)]
		c := &claims[p]
		for table[c.next] >= 0 {
			c.next = (c.next + c.skip) % size
		}
		table[c.next] = p
	}
	return table
}

// A claim walks the slots in the order that one target wants them.
type claim struct{ next, skip uint64 }

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
