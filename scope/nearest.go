package scope

import "strings"

// nearest returns the candidate that text is most likely a misspelling of, or
// "" if it resembles none. Case and underscores do not count.
func nearest(text string, candidates ...string) string {
	best, bestDistance := "", 0
	for _, c := range candidates {
		a, b := fold(text), fold(c)
		limit := max(len(b)/6, 1)
		if d := distance(a, b, limit); d <= limit && (best == "" || d < bestDistance) {
			best, bestDistance = c, d
		}
	}
	return best
}

func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// distance is the number of edits (insert, delete, replace) from a to b, or
// more than limit if their lengths alone differ by that.
func distance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
