package hbone_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// TestSoak dials, writes, half-closes and aborts at random through two hops,
// while gateways and pods restart gracefully, tunnels grow old and idle ones
// are closed. A stream that was connected must deliver every byte and a clean
// end, and a dial that failed must be one that may be tried again.
func TestSoak(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for _, pair := range [][2]string{{"client", "gateway"}, {"gateway", "client"}} {
			w.net.SetLatency(pair[0], pair[1], 5*time.Millisecond)
		}
		backends := []string{"pod-1:15008", "pod-2:15008", "pod-3:15008"}
		g := &gateway{
			host:     w.net.Host("gateway"),
			reveal:   true,
			backends: map[string][]string{reviews: backends, ratings: backends},
		}
		tr := w.transport()
		tr.MaxStreamsPerTunnel = 5
		tr.MaxTunnelAge = time.Second
		tr.IdleTimeout = time.Second

		stop := make(chan struct{})
		var disturb, work sync.WaitGroup
		restart := func(address string, every time.Duration, server func() *hbone.Server) {
			disturb.Go(func() { w.restarting(address, every, server, stop) })
		}
		restart(gatewayAddr, 370*time.Millisecond, func() *hbone.Server {
			return &hbone.Server{TLS: w.ca.Server(w.ca.Issue(gatewayID), webID), Handler: g.forward}
		})
		for i, address := range backends {
			restart(address, time.Duration(190+50*i)*time.Millisecond, func() *hbone.Server {
				return &hbone.Server{TLS: w.ca.Server(w.ca.Issue(podID), webID), Handler: echo}
			})
		}
		disturb.Go(func() {
			for !stopped(stop, 130*time.Millisecond) {
				tr.CloseIdle()
			}
		})
		var done, failed atomic.Int64
		paths := []hbone.Path{w.twoHops(reviews), w.twoHops(ratings)}
		for i := range paths {
			paths[i].Spread = 3
		}
		for worker := range 12 {
			work.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(worker), 0))
				for range 40 {
					ok, err := soakOnce(tr, paths[rnd.IntN(2)], rnd)
					if err != nil {
						t.Errorf("worker %d: %v", worker, err)
					}
					if ok {
						done.Add(1)
					} else {
						failed.Add(1)
					}
					time.Sleep(time.Duration(rnd.IntN(50)) * time.Millisecond)
				}
			})
		}
		work.Wait()
		close(stop)
		tr.Close()
		disturb.Wait()
		if done.Load() < 10*failed.Load() {
			t.Errorf("%d streams done, %d dials failed", done.Load(), failed.Load())
		}
		t.Logf("%d streams done, %d dials failed, stats %+v", done.Load(), failed.Load(), tr.Stats())
	})
}

// restarting runs a server that is replaced gracefully time and again.
func (w *world) restarting(address string, every time.Duration, server func() *hbone.Server, stop <-chan struct{}) {
	var old sync.WaitGroup
	defer old.Wait()
	for end := false; !end; {
		l, err := w.net.Listen(address)
		if err != nil {
			w.Error(err)
			return
		}
		s := server()
		served := make(chan struct{})
		old.Go(func() {
			defer close(served)
			_ = s.Serve(context.Background(), l)
		})
		end = stopped(stop, every)
		old.Go(func() { _ = s.Shutdown(context.Background()) })
		<-served // the address is free again
	}
}

func stopped(stop <-chan struct{}, after time.Duration) bool {
	select {
	case <-stop:
		return true
	case <-time.After(after):
		return false
	}
}

// soakOnce reports whether a stream came to be; an error is one that must not
// happen.
func soakOnce(tr *hbone.Transport, p hbone.Path, rnd *rand.Rand) (bool, error) {
	conn, err := tr.Dial(context.Background(), p)
	if err != nil {
		var hop *hbone.HopError
		if !errors.As(err, &hop) || !hop.Retryable() {
			return false, fmt.Errorf("dial: %w", err)
		}
		return false, nil
	}
	defer conn.Close()
	msg := make([]byte, rnd.IntN(40_000))
	for i := range msg {
		msg[i] = byte(rnd.Uint32())
	}
	abortAt := -1
	if rnd.IntN(5) == 0 {
		abortAt = rnd.IntN(len(msg) + 1)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- soakWrite(conn, msg, abortAt) }()
	got, err := io.ReadAll(conn)
	switch {
	case abortAt >= 0 && err == nil:
		return true, errors.New("an aborted stream read a clean end")
	case abortAt >= 0 && !bytes.HasPrefix(msg, got):
		return true, errors.New("an aborted stream read something else")
	case abortAt < 0 && (err != nil || !bytes.Equal(got, msg)):
		return true, fmt.Errorf("read %d of %d bytes: %w", len(got), len(msg), err)
	}
	if err := <-wrote; err != nil {
		return true, fmt.Errorf("write: %w", err)
	}
	return true, nil
}

func soakWrite(conn *hbone.Conn, msg []byte, abortAt int) error {
	if abortAt >= 0 {
		msg = msg[:abortAt]
	}
	if _, err := conn.Write(msg); err != nil {
		return err
	}
	if abortAt >= 0 {
		conn.Abort(errors.New("enough"))
		return nil
	}
	return conn.CloseWrite()
}
