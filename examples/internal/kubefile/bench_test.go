package kubefile_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

func BenchmarkLoad(b *testing.B) {
	for _, pods := range []int{100, 1000} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			var yaml strings.Builder
			for i := range pods {
				fmt.Fprintf(&yaml, "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: p%d\n  namespace: app\n  labels:\n    app: a\nspec:\n  containers:\n  - name: c\nstatus:\n  podIP: 10.1.%d.%d\n", i, i/256, i%256)
			}
			fsys := fstest.MapFS{"a.yaml": {Data: []byte(yaml.String())}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (kubefile.Loader{}).LoadFS(fsys, "east"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
