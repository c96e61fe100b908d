package kubefile_test

import (
	"fmt"
	"testing/fstest"

	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

func ExampleLoader_LoadFS() {
	files := fstest.MapFS{"apps.yaml": {Data: []byte(`
apiVersion: v1
kind: Service
metadata:
  name: reviews
  namespace: app
spec:
  port: 80
`)}}
	_, err := kubefile.Loader{}.LoadFS(files, "east")
	fmt.Println(err)
	// Output: east/apps.yaml:8:3: Service app/reviews: spec.port: unknown field (did you mean "ports"?)
}
