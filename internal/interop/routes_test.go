package interop

import (
	"slices"
	"testing"
)

// A route is a pair of peers, at least one of them ours, and what is known to
// fail between them.
type route struct {
	name  string
	make  func(testing.TB, *World) DialFunc
	fails map[string]error // by behaviour
}

// istioClientFails are those of pkg/hbone's clients.
var istioClientFails = map[string]error{
	"client ends first":      errNoHalfClose, // it gives one end of a net.Pipe,
	"application ends first": errTailLost,    // closes that end with its response,
	"application aborts":     errCleanAbort,  // however that ends,
	"client aborts":          errNoAbort,
	"context":                errNoContext, // and does not look at the context
}

// istioServerFails are those of pkg/hbone's servers, and their copying.
var istioServerFails = map[string]error{
	"application ends first": errTailLost, // it closes the request's body then
	"application aborts":     errCleanAbort,
	"client aborts":          errCleanAbort,
	"nobody listens":         errAnsweredNil, // it sends 200 before it dials
}

// istioBothFails are those where only the gateway is ours.
var istioBothFails = map[string]error{
	"client ends first":      errNoHalfClose,
	"application ends first": errTailLost,
	"application aborts":     errCleanAbort,
	"client aborts":          errNoAbort,
	"nobody listens":         errAnsweredNil,
	"context":                errNoContext,
}

var routes = slices.Concat(xnetRoutes, []route{
	{"pkg/hbone to Server", func(t testing.TB, w *World) DialFunc {
		return w.IstioClient(must(w.Server())(t), 1)
	}, istioClientFails},
	{"pkg/hbone to Gateway and Server", func(t testing.TB, w *World) DialFunc {
		return w.IstioClient(must(w.Gateway(must(w.Server())(t)))(t), 2)
	}, istioClientFails},
	{"pkg/hbone to nested Server", func(t testing.TB, w *World) DialFunc {
		return w.IstioClient(must(w.NestedServer())(t), 2)
	}, istioClientFails},
	{"pkg/hbone to Gateway and pkg/hbone", func(t testing.TB, w *World) DialFunc {
		return w.IstioClient(must(w.Gateway(must(w.IstioServer())(t)))(t), 2)
	}, istioBothFails},
	{"Transport to pkg/hbone", func(t testing.TB, w *World) DialFunc {
		return w.Client(must(w.IstioServer())(t), 1)
	}, istioServerFails},
	{"Transport to pkg/hbone, double", func(t testing.TB, w *World) DialFunc {
		return w.Client(must(w.IstioDoubleServer())(t), 2)
	}, istioServerFails},
	{"Transport to Gateway and pkg/hbone", func(t testing.TB, w *World) DialFunc {
		return w.Client(must(w.Gateway(must(w.IstioServer())(t)))(t), 2)
	}, istioServerFails},
	{"Transport to Server", func(t testing.TB, w *World) DialFunc {
		return w.Client(must(w.Server())(t), 1)
	}, nil},
	{"Transport to Gateway and Server", func(t testing.TB, w *World) DialFunc {
		return w.Client(must(w.Gateway(must(w.Server())(t)))(t), 2)
	}, nil},
	{"Transport to nested Server", func(t testing.TB, w *World) DialFunc {
		return w.Client(must(w.NestedServer())(t), 2)
	}, nil},
})

// must takes an address and an error.
func must(addr string, err error) func(testing.TB) string {
	return func(t testing.TB) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return addr
	}
}
