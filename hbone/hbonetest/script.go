package hbonetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/testca"
)

// A script is one run of a test: an implementation on one end, and peers that
// the test plays on the other.
//
// It takes the place of *testing.T, because a test that fails must not fail
// the run if the failure is known.
type script struct {
	role role
	opts Options
	ctx  context.Context
	ca   *testca.CA

	client      Client
	startServer func(Credentials) Server
	server      Server
	running     bool // server was started
	keepCredit  bool // peers give no credit by themselves
	listener    net.Listener
	plays       string        // whom playServer plays; reviewsID if empty
	cut         int           // how many bytes the relay of a nested tunnel passes on at a time; 0 is all
	raw         chan net.Conn // accepted from listener
	lastDial    *dial
	shared      *peer // see sharedPeer

	mu       sync.Mutex
	failures []string
	skipped  string
	cleanups []func() // end what the test began
	waits    []func() // wait for that
}

func newScript(ctx context.Context, r role, opts Options) *script {
	return &script{role: r, opts: opts, ctx: ctx, ca: testca.New("cluster.local")}
}

// play runs a test to its end, which a fatal failure may bring about early.
func (s *script) play(run func(*script)) {
	var done sync.WaitGroup
	done.Go(func() {
		defer s.cleanup()
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		s.ctx = ctx
		run(s)
	})
	done.Wait()
}

// cleanup ends what the test began, and then waits for it.
func (s *script) cleanup() {
	for f := s.pop(&s.cleanups); f != nil; f = s.pop(&s.cleanups) {
		f()
	}
	for f := s.pop(&s.waits); f != nil; f = s.pop(&s.waits) {
		f()
	}
}

// pop takes the last of fs, or nil.
func (s *script) pop(fs *[]func()) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(*fs) == 0 {
		return nil
	}
	last := (*fs)[len(*fs)-1]
	*fs = (*fs)[:len(*fs)-1]
	return last
}

func (s *script) push(fs *[]func(), f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*fs = append(*fs, f)
}

// atEnd runs f when the test is over, the last first.
func (s *script) atEnd(f func()) { s.push(&s.cleanups, f) }

// report tells the outcome of a test, of which known says why it fails, if it
// is known to.
func (s *script) report(t *testing.T, known string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch all := strings.Join(s.failures, "\n"); {
	case s.skipped != "":
		t.Skip(s.skipped)
	case all == "" && known != "":
		t.Errorf("passes, but is listed as a known failure (%s)", known)
	case all == "":
	case known != "":
		t.Skipf("known failure (%s): %s", known, all)
	default:
		t.Error(all)
	}
}

// errorf notes a failure.
func (s *script) errorf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failures) < 20 {
		s.failures = append(s.failures, caller()+fmt.Sprintf(format, args...))
	}
}

// fatalf notes a failure and ends the test. Only the test's own goroutine may
// call it.
func (s *script) fatalf(format string, args ...any) {
	s.errorf(format, args...)
	runtime.Goexit()
}

// caller is the line of the test that failed, beneath its helpers.
func caller() string {
	pcs := make([]uintptr, 16)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.File, "_rules.go") {
			return fmt.Sprintf("%s:%d: ", f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line)
		}
		if !more {
			return ""
		}
	}
}

// skip ends the test, which does not apply.
func (s *script) skip(reason string) {
	s.skipped = reason
	runtime.Goexit()
}

// step bounds one step of the test.
func (s *script) step() context.Context {
	ctx, cancel := context.WithTimeoutCause(s.ctx, s.opts.timeout(), errors.New("not done in time"))
	s.atEnd(cancel)
	return ctx
}

// quiet waits for as long as something must not happen.
func (s *script) quiet() { s.pause(s.opts.quiet()) }

func (s *script) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
}

// begin runs f beside the test. The returned function waits for it; the test
// does at its end, in any case.
func (s *script) begin(f func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	wait = func() {
		select {
		case <-done:
		case <-time.After(2 * s.opts.timeout()):
			s.errorf("something that the test began does not end")
		}
	}
	s.push(&s.waits, wait)
	return wait
}
