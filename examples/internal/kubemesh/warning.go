package kubemesh

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

// A Warning tells of something in the objects that has no effect.
type Warning struct {
	kubefile.Position        // of the object
	Object            string // "Service app/reviews"; empty for what is not about one object
	Problem           string
}

// String returns "file:line:column: object: problem".
func (w Warning) String() string {
	if w.Object == "" {
		return fmt.Sprintf("%s: %s", w.Position, w.Problem)
	}
	return fmt.Sprintf("%s: %s: %s", w.Position, w.Object, w.Problem)
}

// warn notes something about an object of the snapshot, or of Home.
func (c *converter) warn(kind string, o metav1.Object, format string, args ...any) {
	position := c.snapshot.Position(o)
	if position.File == "" {
		position = c.home.Position(o)
	}
	c.facts.Warnings = append(c.facts.Warnings, Warning{
		Position: position,
		Object:   fmt.Sprintf("%s %s/%s", kind, o.GetNamespace(), o.GetName()),
		Problem:  fmt.Sprintf(format, args...),
	})
}

func sortWarnings(all []Warning) {
	slices.SortStableFunc(all, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Problem, b.Problem))
	})
}
