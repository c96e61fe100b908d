package scope

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		full, "", "{}", "null", "serviceScopeConfigs: &a [*a]", "serviceScopeConfigs: [{<<: {}}]",
		in("key: a, operator: In, values: [true]"), "a: b\n---\nc: d\n", "- a", "[", "\t", "\xff",
		`{"serviceScopeConfigs":[{"scope":1}],"x":"\ud83d\ude00"}`, "? [a]\n: b\n",
		"serviceSettings: [{settings: {clusterLocal: true}, hosts: ['*']}]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			var parseErr *ParseError
			if !errors.As(err, &parseErr) {
				t.Fatalf("error of type %T: %v", err, err)
			}
			return
		}
		// Whatever is accepted compiles, and survives a round trip.
		if _, err := c.Compile(Options{}); err != nil {
			t.Fatalf("accepted, but: %v", err)
		}
		out, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("own output: %v\n%s", err, out)
		}
		if diff := cmp.Diff(c, again, ignoreLines); diff != "" {
			t.Fatalf("after a round trip (-want +got):\n%s\n%s", diff, out)
		}
	})
}
