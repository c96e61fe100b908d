package lb

// maxCycle bounds the slots of a cycle, unless there are more targets.
const maxCycle = 1 << 16

// inTurn returns the position whose turn it is.
func (t *tier) inTurn(turn uint64) int {
	return int(t.cycle[turn%uint64(len(t.cycle))])
}

// newCycle lists positions, each as often as its weight says: exactly, if the
// weights without their common divisor fit into maxCycle slots, else rounded.
func newCycle(t *tier) []int32 {
	var divisor uint64
	for p := range t.size() {
		divisor = gcd(divisor, t.weight(p))
	}
	length := t.total() / divisor
	return interleave(t, min(length, max(maxCycle, 4*uint64(t.size()))))
}

// interleave returns about length slots (exactly so many, if that divides the
// weights without rounding) that every position has its share of, one at least,
// as evenly spread as possible: the k-th of n slots of a position is due at
// (k+1/2)/n of the whole. Slots are put in order by counting how many are due
// in each part, so that the work is linear.
func interleave(t *tier, length uint64) []int32 {
	counts := make([]int, t.size())
	total := 0
	for p := range counts {
		share := float64(t.weight(p)) / float64(t.total())
		counts[p] = max(1, int(share*float64(length)+0.5))
		total += counts[p]
	}
	due := func(k, n int) int { return int((float64(k) + 0.5) / float64(n) * float64(total)) }

	starts := make([]int, total+1) // where the slots of each part begin
	for _, n := range counts {
		for k := range n {
			starts[due(k, n)+1]++
		}
	}
	for i := 1; i <= total; i++ {
		starts[i] += starts[i-1]
	}
	slots := make([]int32, total)
	for p, n := range counts {
		for k := range n {
			part := due(k, n)
			slots[starts[part]] = int32(p)
			starts[part]++
		}
	}
	return slots
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
