package interop

import (
	"strings"
	"testing"
	"time"
)

// TestCompare measures everything once and shortly, with checksums.
func TestCompare(t *testing.T) {
	var out strings.Builder
	if err := Compare(t.Context(), &out, Options{Repetitions: 1, Time: time.Millisecond, Verify: true}); err != nil {
		t.Fatal(err)
	}
	for _, m := range Measures() {
		for _, p := range m.Peers {
			if !hasRow(out.String(), m.Name, p.Name) {
				t.Errorf("the table has no row of %s for %s", p.Name, m.Name)
			}
		}
	}
	t.Log(out.String())
}

func hasRow(table, measure, peer string) bool {
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) == 7 && f[0] == measure && f[2] == peer {
			return true
		}
	}
	return false
}
