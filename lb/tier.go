package lb

import (
	"math/bits"
	"sort"
)

// maxTargets keeps the integer arithmetic of alias tables within 64 bits.
const maxTargets = 1 << 30

// A tier holds the weights of the targets of one rank, ready for drawing. They
// are known here by their positions, from 0.
type tier struct {
	first int      // index of the choice that has position 0
	ends  []uint64 // sum of the weights up to and including each position
	alias []column // WeightedRandom, LeastRequest
	cycle []int32  // RoundRobin: positions in their order
	table []int32  // Consistent: positions by hash
}

// A column of an alias table belongs to two positions: its own, below the
// threshold, and another one.
type column struct {
	threshold uint64
	other     int32
}

func (t *tier) size() int { return len(t.ends) }

func (t *tier) total() uint64 { return t.ends[len(t.ends)-1] }

// below returns a random number less than n. It draws once, so that a Rand that
// repeats itself cannot hang it; the bias is less than n in 2^64.
func below(rand func() uint64, n uint64) uint64 {
	high, _ := bits.Mul64(rand(), n)
	return high
}

// random draws a position by weight, in constant time (Walker's alias method,
// in exact integers).
func (t *tier) random(rand func() uint64) int {
	if t.size() == 1 {
		return 0
	}
	if t.alias == nil {
		return t.search(below(rand, t.total()))
	}
	i := int(below(rand, uint64(len(t.alias))))
	if c := t.alias[i]; below(rand, t.total()) >= c.threshold {
		return int(c.other)
	}
	return i
}

// randomExcept draws a position by weight among those that are not in skip,
// which must be sorted.
func (t *tier) randomExcept(rand func() uint64, skip []int) int {
	if len(skip) == 0 {
		return t.random(rand)
	}
	total := t.total()
	for _, p := range skip {
		total -= t.weight(p)
	}
	// Draw from the weights that are left, then step over those that are not.
	r := below(rand, total)
	for _, p := range skip {
		if r >= t.ends[p]-t.weight(p) {
			r += t.weight(p)
		}
	}
	return t.search(r)
}

// search returns the position that the r-th unit of weight belongs to.
func (t *tier) search(r uint64) int {
	return sort.Search(len(t.ends), func(i int) bool { return t.ends[i] > r })
}

func (t *tier) weight(position int) uint64 {
	if position == 0 {
		return t.ends[0]
	}
	return t.ends[position] - t.ends[position-1]
}

// newAlias builds the table (Vose's method): columns as wide as the average
// weight, each filled up by at most one other position. To stay exact, every
// weight is scaled by the number of positions and every column by the total.
func newAlias(t *tier) []column {
	n := t.size()
	columns := make([]column, n)
	var small, large []int32
	sort := func(i int32) {
		if columns[i].threshold < t.total() {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for i := range columns {
		columns[i] = column{threshold: t.weight(i) * uint64(n), other: int32(i)}
		sort(int32(i))
	}
	for len(small) > 0 && len(large) > 0 {
		lack, rich := small[len(small)-1], large[len(large)-1]
		small, large = small[:len(small)-1], large[:len(large)-1]
		columns[lack].other = rich
		columns[rich].threshold -= t.total() - columns[lack].threshold
		sort(rich)
	}
	return columns
}
