package hbonetest

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"
)

// A Client is a client under test.
type Client struct {
	// Dial opens a stream through hops, the nearest first: one CONNECT, and
	// one TLS session unless Options.Plaintext is set, for each of them. It
	// returns when the last was answered with 200.
	//
	// What it returns should have CloseWrite, and may have Abort or SetLinger,
	// as *net.TCPConn has; tests of what cannot be done are skipped.
	Dial func(ctx context.Context, hops []Hop) (net.Conn, error)

	// Listen makes a listener that Dial reaches by its Addr. If nil, it is a
	// TCP listener on loopback.
	Listen func() (net.Listener, error)
}

// A Hop says how to reach one HBONE server, and what to ask of it.
type Hop struct {
	Address     string      // of the server's listener; empty on all hops but the first
	Authority   string      // of the CONNECT
	Header      http.Header // of the CONNECT
	Credentials Credentials // who the client is, and who the server must be
}

// A Server is a server under test that was started for one test.
type Server struct {
	// Dial connects to the server, without TLS.
	Dial func(ctx context.Context) (net.Conn, error)

	// Accept returns the application's end of the next stream: what the
	// library hands out, or what a listener accepts to which a proxy connects.
	// It must give up when ctx ends. As for what a stream should be able to do,
	// see [Client.Dial]; if it also has a Header method, that must return the
	// header of the CONNECT.
	Accept func(ctx context.Context) (net.Conn, error)

	// AcceptAnswers says that the CONNECT is answered by Accept, so that there
	// must be no answer before. In the other case the suite cannot tell
	// when the application is connected.
	AcceptAnswers bool

	// Authorities are those that lead to Accept. If nil, these are used:
	// "10.1.0.10:8080", "[2001:db8::10]:8080" and
	// "reviews.app.svc.cluster.local:80". The server must refuse all others.
	Authorities []string

	// Drain lets open streams finish, takes no new ones, and returns when the
	// tunnels are closed. If nil, tests of it are skipped.
	Drain func(ctx context.Context) error
}

// Options say how to run a suite. The zero value works.
type Options struct {
	// KnownFailures are the tests that fail, by their names below TestClient
	// or TestServer ("end-half-close/server-first"), each with the reason. A
	// failure that is listed does not fail the run; one that is listed and
	// passes, or does not exist, does.
	KnownFailures map[string]string

	// Skip are tests that are not run, with reasons: those whose outcome
	// differs from run to run, or that take the implementation down with them.
	Skip map[string]string

	// Plaintext leaves out TLS, and what is about it: HTTP/2 with prior
	// knowledge. It is for engines that are tested without their TLS.
	Plaintext bool

	// Run runs one test. If nil, it is just called. With synctest.Test each
	// runs in a bubble, and the limits below take no time; connections must
	// then be in memory.
	Run func(*testing.T, func(*testing.T))

	// Timeout is how long a single step may take. If zero, 15 s.
	Timeout time.Duration

	// Quiet is how long to wait for what must not happen. If zero, 100 ms.
	Quiet time.Duration

	// Patience is how long the implementation may take to find out that a
	// silent peer is gone. If zero, 70 s. If negative, the tests of that are
	// skipped, as they are with -short unless Run is set.
	Patience time.Duration

	// Transfer is how many bytes a large transfer has. If zero, 4 MiB.
	Transfer int

	// Streams is how many streams are open at a time in the tests of
	// concurrency. If zero, 100, which every HBONE server must allow.
	Streams int

	// Flood is within how many frames a flood must have been stopped. If zero,
	// 100,000.
	Flood int
}

func (o Options) timeout() time.Duration { return orDefault(o.Timeout, 15*time.Second) }
func (o Options) quiet() time.Duration   { return orDefault(o.Quiet, 100*time.Millisecond) }
func (o Options) transfer() int          { return orDefault(o.Transfer, 4<<20) }
func (o Options) streams() int           { return orDefault(o.Streams, 100) }
func (o Options) flood() int             { return orDefault(o.Flood, 100_000) }

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// TestClient holds clients to the specification. It calls start for every
// test; what start begins must end with the t that it gets.
func TestClient(t *testing.T, start func(t *testing.T) Client, opts Options) {
	runSuite(t, asClient, opts, func(s *script, t *testing.T) { s.client = start(t) })
}

// TestServer holds servers to the specification. It calls start for every
// test, with what the server shows and whom it accepts; what start begins must
// end with the t that it gets.
func TestServer(t *testing.T, start func(t *testing.T, creds Credentials) Server, opts Options) {
	runSuite(t, asServer, opts, func(s *script, t *testing.T) {
		s.startServer = func(creds Credentials) Server { return start(t, creds) }
	})
}

// A role is the end that the implementation plays.
type role int

const (
	asClient role = 1 << iota
	asServer
	asEither = asClient | asServer
)

// A test is one case of a rule in docs/hbone-spec.md.
type test struct {
	rule string
	name string
	role role
	tls  bool // it is about TLS
	slow bool // it waits as long as Options.Patience
	run  func(*script)
}

func (tt test) fullName() string { return tt.rule + "/" + tt.name }

// allTests returns the suite, in the order of the specification.
func allTests() []test {
	var all []test
	for _, group := range [][]test{
		tlsTests, http2Tests, connectTests, answerTests, dataTests, flowTests, endTests, lifetimeTests, limitTests, nestedTests,
	} {
		all = append(all, group...)
	}
	return all
}

func runSuite(t *testing.T, r role, opts Options, start func(*script, *testing.T)) {
	names := map[string]bool{}
	byRule := map[string][]test{}
	var rules []string
	for _, tt := range allTests() {
		if tt.role&r == 0 {
			continue
		}
		names[tt.fullName()] = true
		if byRule[tt.rule] == nil {
			rules = append(rules, tt.rule)
		}
		byRule[tt.rule] = append(byRule[tt.rule], tt)
	}
	for _, list := range []map[string]string{opts.KnownFailures, opts.Skip} {
		for name := range list {
			if !names[name] {
				t.Errorf("the options name %q, which is no test", name)
			}
		}
	}
	for _, rule := range rules {
		t.Run(rule, func(t *testing.T) {
			for _, tt := range byRule[rule] {
				t.Run(tt.name, func(t *testing.T) { tt.execute(t, r, opts, start) })
			}
		})
	}
}

// execute runs one test in the way that the options ask for.
func (tt test) execute(t *testing.T, r role, opts Options, start func(*script, *testing.T)) {
	switch reason, skip := opts.Skip[tt.fullName()]; {
	case skip:
		t.Skip(reason)
	case tt.tls && opts.Plaintext:
		t.Skip("about TLS")
	case tt.slow && (opts.Patience < 0 || opts.Run == nil && testing.Short()):
		t.Skip("waits for long")
	}
	run := opts.Run
	if run == nil {
		run = func(t *testing.T, f func(*testing.T)) { f(t) }
	}
	run(t, func(t *testing.T) {
		s := newScript(t.Context(), r, opts)
		start(s, t)
		s.play(tt.run)
		s.report(t, opts.KnownFailures[tt.fullName()])
	})
}
