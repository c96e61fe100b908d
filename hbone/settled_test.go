package hbone_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// silentFor is a server that says nothing for a while, and then accepts all streams.
func silentFor(d time.Duration, nc net.Conn) {
	defer nc.Close()
	fr := http2.NewFramer(nc, nc)
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	time.Sleep(d)
	if fr.WriteSettings() != nil {
		return
	}
	answerAll(fr, func() bool { return true })
}

// TestSilentPeerGetsOneDial: how many streams a tunnel carries is not known before the peer's settings came, and that some
// do not wait for it does not tell. So there is one dial, however many wait.
func TestSilentPeerGetsOneDial(t *testing.T) {
	const silence, dials = 3 * time.Second, 150
	for _, leavers := range []int{0, 20} {
		t.Run(fmt.Sprintf("%d leave", leavers), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.played(func(nc net.Conn) { silentFor(silence, nc) })
				tr := w.transport()
				errs := make(chan error)
				for i := range dials {
					go func() {
						ctx, cancel := context.WithCancel(context.Background())
						defer cancel()
						if i < leavers {
							time.AfterFunc(silence/3, cancel)
						}
						_, err := tr.Dial(ctx, w.oneHop())
						errs <- err
					}()
				}
				time.Sleep(silence / 3 * 2)
				for range leavers {
					if err := <-errs; err == nil {
						t.Error("a dial succeeded that was to be given up")
					}
				}
				synctest.Wait()
				if got := tr.Stats().Hops[0].Dials; got != 1 {
					t.Errorf("%d dials of a peer that is silent, want 1", got)
				}
				for range dials - leavers {
					if err := <-errs; err != nil {
						t.Error(err)
					}
				}
				if got := tr.Stats().Hops[0].Dials; got > 2 { // the second for those that are over the limit of a tunnel
					t.Errorf("%d dials, want 2", got)
				}
			})
		})
	}
}

// TestSilentPeerIsLeft: a tunnel whose peer does not answer does not keep another from being made.
func TestSilentPeerIsLeft(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		silence := make(chan time.Duration, 2)
		silence <- time.Hour
		silence <- 0
		w.played(func(nc net.Conn) { silentFor(<-silence, nc) })
		tr := w.transport()
		tr.HTTP2Timeout, tr.ConnectTimeout = -1, 5*time.Second
		tr.HTTP2 = hbone.HTTP2{PingInterval: -1}
		_, err := tr.Dial(context.Background(), w.oneHop())
		wantHop(t, err, 0, hbone.PhaseConnect)
		mustDial(t, tr, w.oneHop()).Close()
		tr.Close()
		time.Sleep(time.Hour) // lets the server go
	})
}
