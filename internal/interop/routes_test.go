package interop

import (
	"testing"
	"time"

	"golang.org/x/net/http2"
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
	"context":                errNoContext,   // and does not look at the context
}

// istioServerFails are those of pkg/hbone's servers, and their copying.
var istioServerFails = map[string]error{
	"application ends first": errTailLost, // it closes the request's body then
	"application aborts":     errCleanAbort,
	"nobody listens":         errAnsweredNil, // it sends 200 before it dials
}

// xnetClientFails are those of the client of golang.org/x/net/http2, as a
// connection. The abort of a stream it reports.
var xnetClientFails = map[string]error{
	"deadline": errNoDeadline, // a body has none
}

// xnetServerFails are those of the server of golang.org/x/net/http2.
var xnetServerFails = map[string]error{
	"application ends first": errTailLost, // a response ends when its handler does
}

var routes = []route{
	{"pkg/hbone to Server", func(t testing.TB, w *World) DialFunc {
		return w.IstioClient(must(w.Server())(t), 1)
	}, istioClientFails},
	{"pkg/hbone to Gateway and Server", func(t testing.TB, w *World) DialFunc {
		return w.IstioClient(must(w.Gateway(must(w.Server())(t)))(t), 2)
	}, istioClientFails},
	{"pkg/hbone to nested Server", func(t testing.TB, w *World) DialFunc {
		return w.IstioClient(must(w.NestedServer())(t), 2)
	}, istioClientFails},
	{"Transport to pkg/hbone", func(t testing.TB, w *World) DialFunc {
		return w.Client(must(w.IstioServer())(t), 1)
	}, istioServerFails},
	{"Transport to pkg/hbone, double", func(t testing.TB, w *World) DialFunc {
		return w.Client(must(w.IstioDoubleServer())(t), 2)
	}, istioServerFails},
	{"Transport to Gateway and pkg/hbone", func(t testing.TB, w *World) DialFunc {
		return w.Client(must(w.Gateway(must(w.IstioServer())(t)))(t), 2)
	}, istioServerFails},
	{"x/net/http2 to Server", func(t testing.TB, w *World) DialFunc {
		return w.xnetClient(t, must(w.Server())(t), &http2.Transport{})
	}, xnetClientFails},
	{"x/net/http2 to Server, large frames and pings", func(t testing.TB, w *World) DialFunc {
		return w.xnetClient(t, must(w.Server())(t), &http2.Transport{MaxReadFrameSize: 1 << 20, ReadIdleTimeout: time.Millisecond})
	}, xnetClientFails},
	{"Transport to x/net/http2", func(t testing.TB, w *World) DialFunc {
		return w.Client(w.xnetServer(t, &http2.Server{}), 1)
	}, xnetServerFails},
	{"Transport to x/net/http2, small windows and few streams", func(t testing.TB, w *World) DialFunc {
		return w.Client(w.xnetServer(t, &http2.Server{
			MaxConcurrentStreams:         3,
			MaxUploadBufferPerConnection: 1 << 16,
			MaxUploadBufferPerStream:     1 << 10,
			MaxReadFrameSize:             1 << 14,
		}), 1)
	}, xnetServerFails},
	{"Transport to Server", func(t testing.TB, w *World) DialFunc {
		return w.Client(must(w.Server())(t), 1)
	}, nil},
	{"Transport to Gateway and Server", func(t testing.TB, w *World) DialFunc {
		return w.Client(must(w.Gateway(must(w.Server())(t)))(t), 2)
	}, nil},
}

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
