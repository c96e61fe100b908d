package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// A behaviour is something that an application may expect of a tunnel. It
// returns what was wrong.
type behaviour struct {
	name string
	test func(ctx context.Context, w *World, dial DialFunc) error
}

var behaviours = []behaviour{
	{"echo", testEcho},
	{"upload", testUpload},
	{"download", testDownload},
	{"many streams", testManyStreams},
	{"client ends first", testClientEndsFirst},
	{"application ends first", testApplicationEndsFirst},
	{"client aborts", testClientAborts},
	{"application aborts", testApplicationAborts},
	{"nobody listens", testNobodyListens},
	{"deadline", testDeadline},
	{"context", testContext},
}

// TestRoutes holds each pair of peers to all behaviours, except that failures
// which are known must be what they are known to be.
func TestRoutes(t *testing.T) {
	for _, r := range routes {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			dial := r.make(t, w)
			for _, b := range behaviours {
				t.Run(b.name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					checkFailure(t, b.test(ctx, w, dial), r.fails[b.name])
				})
			}
		})
	}
}

// checkFailure reports an error that is not known, and a known one that is gone.
func checkFailure(t *testing.T, err, known error) {
	t.Helper()
	switch {
	case known == nil && err != nil:
		t.Error(err)
	case known != nil && err == nil:
		t.Errorf("works, but is known to fail: %v. Remove it from the known failures, and from docs/interop.md", known)
	case known != nil && !errors.Is(err, known):
		t.Errorf("fails otherwise than known (%v): %v", known, err)
	}
}

// What peers are known to do wrong.
var (
	errNoAbort     = errors.New("the client has no Abort")
	errNoHalfClose = errors.New("the client has no CloseWrite")
	errTailLost    = errors.New("what was sent after the application ended its direction is lost")
	errCleanAbort  = errors.New("an abort reads as a clean end")
	errAnsweredNil = errors.New("the CONNECT was answered by 200, though nobody listens")
	errNoContext   = errors.New("dials, though the context has ended")
	errNoDeadline  = errors.New("has no deadlines")
)

func newWorld(t testing.TB) *World {
	t.Helper()
	w, err := NewWorld()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// open opens a stream to the application. Its deadline is ctx's.
func open(ctx context.Context, w *World, dial DialFunc) (net.Conn, error) {
	c, err := dial(ctx, w.Authority())
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	until, _ := ctx.Deadline()
	_ = c.SetDeadline(until) // a client that has none hangs if it must wait
	return c, nil
}

func testEcho(ctx context.Context, w *World, dial DialFunc) error {
	c, err := open(ctx, w, dial)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := ask(c, echo, 0); err != nil {
		return err
	}
	for n := 1; n <= chunk; n *= 2 {
		sent, got := payload[n:2*n], make([]byte, n)
		if _, err := c.Write(sent); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, got); err != nil {
			return err
		}
		if !bytes.Equal(sent, got) {
			return fmt.Errorf("the echo of %d bytes differs", n)
		}
	}
	return c.Close()
}

const bulk = 16 << 20

func testUpload(ctx context.Context, w *World, dial DialFunc) error {
	c, err := open(ctx, w, dial)
	if err != nil {
		return err
	}
	defer c.Close()
	return upload(c, bulk)
}

func testDownload(ctx context.Context, w *World, dial DialFunc) error {
	c, err := open(ctx, w, dial)
	if err != nil {
		return err
	}
	defer c.Close()
	return download(c, bulk)
}

// testManyStreams moves data both ways on many streams at a time.
func testManyStreams(ctx context.Context, w *World, dial DialFunc) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range 20 {
		g.Go(func() error {
			c, err := open(ctx, w, dial)
			if err != nil {
				return err
			}
			defer c.Close()
			if i%2 == 0 {
				return upload(c, bulk/10)
			}
			return download(c, bulk/10)
		})
	}
	return g.Wait()
}

// testClientEndsFirst half-closes: the application answers what it has read to
// the end.
func testClientEndsFirst(ctx context.Context, w *World, dial DialFunc) error {
	c, err := open(ctx, w, dial)
	if err != nil {
		return err
	}
	defer c.Close()
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return errNoHalfClose
	}
	if err := ask(c, answer, 0); err != nil {
		return err
	}
	sent := payload[:300_000]
	if _, err := c.Write(sent); err != nil {
		return err
	}
	if err := half.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err == nil && !bytes.Equal(sent, got) {
		err = fmt.Errorf("%d bytes came back of %d", len(got), len(sent))
	}
	return err
}

// testApplicationEndsFirst half-closes the other way.
func testApplicationEndsFirst(ctx context.Context, w *World, dial DialFunc) error {
	c, err := open(ctx, w, dial)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := ask(c, bye, 0); err != nil {
		return err
	}
	if got, err := io.ReadAll(c); string(got) != "bye" || err != nil {
		return fmt.Errorf("read %q, %v", got, err)
	}
	_, writeErr := c.Write([]byte("good bye"))
	closeErr := c.Close()
	end, err := endOf(ctx, w)
	if err == nil && string(end.Data) != "good bye" {
		err = fmt.Errorf("%w: the application read %q (Write: %v, Close: %v)", errTailLost, end.Data, writeErr, closeErr)
	}
	return err
}

// endOf waits for the application to report.
func endOf(ctx context.Context, w *World) (End, error) {
	select {
	case end := <-w.App.Ends:
		return end, nil
	case <-ctx.Done():
		return End{}, ctx.Err()
	}
}

// testClientAborts wants an application to tell an abort from an end.
func testClientAborts(ctx context.Context, w *World, dial DialFunc) error {
	c, err := open(ctx, w, dial)
	if err != nil {
		return err
	}
	defer c.Close()
	a, ok := c.(interface{ Abort(cause error) })
	if !ok {
		return errNoAbort
	}
	if err := ask(c, report, 0); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, make([]byte, len("ok"))); err != nil {
		return err
	}
	a.Abort(nil)
	end, err := endOf(ctx, w)
	if err == nil && end.Err == nil {
		err = errCleanAbort
	}
	return err
}

// testApplicationAborts wants the RST of an application to be told from its FIN.
func testApplicationAborts(ctx context.Context, w *World, dial DialFunc) error {
	c, err := open(ctx, w, dial)
	if err != nil {
		return err
	}
	defer c.Close()
	const n = 1000
	if err := ask(c, crash, n); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		return err
	}
	if _, err := c.Write([]byte{0}); err != nil {
		return err
	}
	switch _, err := c.Read(make([]byte, 1)); {
	case errors.Is(err, io.EOF):
		return errCleanAbort
	case err == nil:
		return errors.New("read something after all")
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return nil
}

// testNobodyListens wants a CONNECT to fail if its destination cannot be reached.
func testNobodyListens(ctx context.Context, w *World, dial DialFunc) error {
	l, err := listen()
	if err != nil {
		return err
	}
	l.Close()
	c, err := dial(ctx, byName(l.Addr().String()))
	if err != nil {
		return ctx.Err()
	}
	defer c.Close()
	return errAnsweredNil
}

// testDeadline wants a read to time out, and to go on after that.
func testDeadline(ctx context.Context, w *World, dial DialFunc) error {
	c, err := open(ctx, w, dial)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		return fmt.Errorf("%w: %w", errNoDeadline, err)
	}
	var ne net.Error
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
		return fmt.Errorf("read past the deadline: %w", err)
	}
	until, _ := ctx.Deadline()
	_ = c.SetReadDeadline(until)
	return download(c, 1000)
}

func testContext(ctx context.Context, w *World, dial DialFunc) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	c, err := dial(ctx, w.Authority())
	switch {
	case err == nil:
		c.Close()
		return errNoContext
	case !errors.Is(err, context.Canceled):
		return err
	}
	return nil
}
