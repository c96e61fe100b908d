package lb

import (
	"math/bits"
	"slices"
	"sort"
)

// maxTargets keeps the integer arithmetic of alias tables within 64 bits.
const maxTargets = 1 << 30

// A tier holds the targets of one rank, ready for drawing. Positions are
// indexes of members.
type tier struct {
	rank    int
	members []int    // indexes of entries
	ends    []uint64 // sum of the weights up to and including each position
	alias   []column // WeightedRandom, LeastRequest
	cycle   []int32  // RoundRobin: positions in their order
	table   []int32  // Consistent: positions by hash
}

// A column of an alias table belongs to two positions: its own, below the
// threshold, and another one.
type column struct {
	threshold uint64
	other     int32
}

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
	if len(t.members) == 1 {
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
	n := len(t.members)
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

// maxCycle bounds the slots of a cycle, except that every target has one.
const maxCycle = 1 << 16

func (t *tier) inTurn(turn uint64) int {
	return int(t.cycle[turn%uint64(len(t.cycle))])
}

// newCycle lists positions, each as often as its share of the weights says, and
// spread as evenly as possible: the k-th of w slots of a position is due at
// (k+1/2)/w of the cycle. If the weights need more than maxCycle slots, shares
// are rounded to what fits.
func newCycle(t *tier) []int32 {
	counts, length := slots(t)
	type slot struct {
		due      float64
		position int32
	}
	due := make([]slot, 0, length)
	for p, count := range counts {
		for k := range count {
			due = append(due, slot{(float64(k) + 0.5) / float64(count), int32(p)})
		}
	}
	slices.SortStableFunc(due, func(a, b slot) int {
		switch {
		case a.due < b.due:
			return -1
		case a.due > b.due:
			return 1
		}
		return 0
	})
	cycle := make([]int32, len(due))
	for i, s := range due {
		cycle[i] = s.position
	}
	return cycle
}

// slots returns how many slots of a cycle each position has, and their sum.
func slots(t *tier) (counts []uint64, length int) {
	var divisor uint64
	for p := range t.members {
		divisor = gcd(divisor, t.weight(p))
	}
	total := t.total() / divisor
	limit := max(maxCycle, 4*uint64(len(t.members)))
	counts = make([]uint64, len(t.members))
	for p := range counts {
		counts[p] = t.weight(p) / divisor
		if total > limit {
			share := float64(counts[p]) / float64(total)
			counts[p] = max(1, uint64(share*float64(limit)+0.5))
		}
		length += int(counts[p])
	}
	return counts, length
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
