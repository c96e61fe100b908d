package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	istio "istio.io/istio/pkg/hbone"

	"github.com/eastwest-mesh/eastwest/hbone/hbonetest"
)

// failures are names of tests, by the reason why a peer fails them.
type failures map[string][]string

// istioClientKnown is what pkg/hbone's clients do wrong.
var istioClientKnown = failures{
	"it gives one end of a net.Pipe, which cannot end one direction alone": {
		"answer-ended/half-closed-at-once", "data-bytes/large-transfer", "data-bytes/odd-writes", "end-half-close/application-first", "end-half-close/both-at-once",
		"end-half-close/with-closed-windows", "end-abort-received/after-half-close", "end-late-frames/updates-after-both-ends", "goaway-received/open-streams-go-on",
		"nested-data/relay-cuts-anywhere", "nested-data/large-transfer", "nested-end/half-close",
	},
	"it closes the pipe when the peer ends its direction": {"end-half-close/peer-first", "end-half-close/on-last-data", "data-trailers/end-the-stream"},
	"it takes every end of its copying for a clean one": {
		"end-abort-received/is-no-clean-end", "end-tunnel-lost/mid-frame", "end-tunnel-lost/is-no-clean-end",
		"nested-end/inner-abort", "nested-end/outer-stream-ends-early", "nested-end/outer-stream-reset", "nested-end/outer-tunnel-lost",
	},
	"it ignores the context of a dial":                                 {"connect-cancelled/by-context", "max-streams/none-allowed"},
	"it never sends Config.Headers":                                    {"connect-headers/sent", "nested-headers/of-each-hop"},
	"its double dialer has one authority for both hops":                {"nested-authority/of-each-hop"},
	"its requests have a body that cannot be had again for a retry":    {"answer-reset/refused-stream-is-retried", "goaway-race/retried-elsewhere", "goaway-race/with-an-error"},
	"it does not read the body of a refusal, which ends the tunnel":    {"answer-refused-body/dropped"},
	"x/net/http2 takes content-length for the length of a tunnel":      {"answer-no-length/ignored"},
	"x/net/http2 lets pass what is malformed":                          {"answer-malformed/connection", "answer-malformed/status-with-sign"},
	"x/net/http2 ignores frames on streams that were never opened":     {"h2-stream-ids/opened-by-server", "h2-idle-streams/window-update", "h2-idle-streams/reset"},
	"x/net/http2 answers DATA after END_STREAM by PROTOCOL_ERROR":      {"end-after-end/data"},
	"x/net/http2 lets a window overflow that a setting has made large": {"flow-violation/window-overflows-by-settings"},
	"x/net/http2's client bounds no frames": {
		"limit-continuation/endless-block", "limit-flood/settings", "limit-flood/settings-changing-the-window", "limit-flood/ping", "limit-flood/empty-data",
		"limit-flood/priority", "limit-flood/window-update", "limit-flood/unknown-frames", "limit-flood/interim-answers",
	},
}

// istioServerKnown is what its server does wrong.
var istioServerKnown = failures{
	"without h2 it speaks HTTP/1.1": {"tls-alpn/none-offered", "tls-alpn/other-offered"},
	"it answers 200 before it has looked at the authority, whatever that is": {
		"connect-authority-malformed/refused", "connect-authority-unknown/refused", "connect-no-early-data/dropped-if-refused", "answer-status/refusals-end-the-stream",
	},
	"it closes the request's body when the application ends its direction": {"end-half-close/application-first"},
	"it takes every end of its copying for a clean one": {
		"end-abort/by-application", "end-abort/connect-error", "end-abort/while-data-is-under-way",
		"end-abort-received/is-no-clean-end", "end-abort-received/after-half-close", "end-tunnel-lost/mid-frame", "end-tunnel-lost/is-no-clean-end",
	},
	"net/http's GOAWAY comes in one step, so streams that race it are ignored": {"goaway-sent/racing-streams-are-served"},
	"net/http bounds only what it has queued": {
		"limit-continuation/endless-block", "limit-flood/settings", "limit-flood/settings-changing-the-window", "limit-flood/empty-data",
		"limit-flood/priority", "limit-flood/window-update", "limit-flood/unknown-frames",
	},
}

// Tests that fail only at times can be neither wanted to pass nor to fail. They
// do not run.
var (
	istioClientUnsteady = failures{
		"the pipe is closed at the peer's end, while the echo may still be under way": {"streams-concurrent/independent"},
	}
	istioServerUnsteady = failures{
		"a stalled reader takes all of the connection's window, unless sockets hold it": {"flow-isolation/stalled-reader"},
		"whether a window is exceeded depends on what sockets hold":                     {"flow-violation/stream-window-exceeded"},
		"what is under way when the application ends its direction is lost": {
			"end-half-close/both-at-once", "data-bytes/large-transfer", "nested-data/relay-cuts-anywhere",
		},
		"only the garbage collector closes its socket to the application":         {"end-abort-received/ends-writing", "end-reset-after-end/keeps-what-came"},
		"net/http's bound on queued answers is met only if the peer reads slowly": {"limit-flood/ping", "limit-flood/malformed-requests"},
	}
)

// TestIstioClientConformance holds pkg/hbone's client and double client to
// docs/hbone-spec.md.
func TestIstioClientConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for what hangs")
	}
	t.Parallel()
	hbonetest.TestClient(t, istioClientUnderTest, conformance(istioClientKnown, istioClientUnsteady))
}

// TestIstioServerConformance holds its server to the same. Its double server has
// that one inside, and outside of it none that has an application.
func TestIstioServerConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for what hangs")
	}
	t.Parallel()
	hbonetest.TestServer(t, istioServerUnderTest, conformance(istioServerKnown, istioServerUnsteady))
}

// conformance are the options for a peer. Tests of one rule run beside each
// other, since those that hang only wait.
func conformance(known, unsteady failures) hbonetest.Options {
	skip := unsteady.byTest()
	return hbonetest.Options{
		KnownFailures: known.byTest(),
		Run: func(t *testing.T, test func(*testing.T)) {
			t.Parallel()
			_, name, _ := strings.Cut(t.Name(), "/")
			if reason := skip[name]; reason != "" {
				t.Skipf("fails at times: %s", reason)
			}
			test(t)
		},
		Timeout:  2 * time.Second,
		Quiet:    50 * time.Millisecond,
		Patience: -1, // it has neither keepalive nor a limit on handshakes
		Transfer: 1 << 20,
	}
}

// byTest turns reasons and their tests into tests and their reasons.
func (f failures) byTest() map[string]string {
	reasons := make(map[string]string)
	for reason, names := range f {
		for _, name := range names {
			reasons[name] = reason
		}
	}
	return reasons
}

// istioClientUnderTest makes a dialer of each configuration, since one shares
// its tunnels among all who use it.
func istioClientUnderTest(*testing.T) hbonetest.Client {
	quietIstio()
	var mu sync.Mutex
	dialers := make(map[string]istio.Dialer)
	return hbonetest.Client{Dial: func(ctx context.Context, hops []hbonetest.Hop) (net.Conn, error) {
		mu.Lock()
		key := dialerKey(hops)
		if dialers[key] == nil {
			dialers[key] = istioDialer(hops)
		}
		d := dialers[key]
		mu.Unlock()
		if d == nil {
			return nil, errors.New("pkg/hbone knows one hop and two")
		}
		return d.DialContext(ctx, "tcp", hops[len(hops)-1].Authority)
	}}
}

// dialerKey is all that a dialer is configured with.
func dialerKey(hops []hbonetest.Hop) (key string) {
	for _, hop := range hops {
		id := hop.Credentials.Certificate.Leaf.URIs
		key += fmt.Sprintln(hop.Address, hop.Header, id, hop.Credentials.Peers)
	}
	return key
}

func istioDialer(hops []hbonetest.Hop) istio.Dialer {
	configs := make([]istio.Config, len(hops))
	for i, hop := range hops {
		configs[i] = istio.Config{ProxyAddress: hops[0].Address, Headers: hop.Header, TLS: hop.Credentials.ClientTLS()}
	}
	switch len(hops) {
	case 1:
		return istio.NewDialer(configs[0])
	case 2:
		return istio.NewDoubleDialer(configs[0], configs[1], configs[1].TLS)
	}
	return nil
}

// istioServerUnderTest runs a server, and the application that it connects to.
func istioServerUnderTest(t *testing.T, creds hbonetest.Credentials) hbonetest.Server {
	quietIstio()
	application := listenForTest(t)
	l := listenForTest(t)
	s := istio.NewServer()
	s.Protocols.SetHTTP2(true) // see World.IstioServer
	s.TLSConfig = creds.ServerTLS()
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.ServeTLS(l, "", "") })
	t.Cleanup(func() {
		s.Close()
		serving.Wait()
	})
	return hbonetest.Server{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		},
		Accept: func(ctx context.Context) (net.Conn, error) {
			_ = application.SetDeadline(time.Time{})
			defer context.AfterFunc(ctx, func() { _ = application.SetDeadline(time.Unix(1, 0)) })()
			return application.Accept()
		},
		Authorities: []string{application.Addr().String()},
		Drain:       s.Shutdown,
	}
}

func listenForTest(t *testing.T) *net.TCPListener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}
