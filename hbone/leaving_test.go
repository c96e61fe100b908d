package hbone_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestDrainingGatewayIsLeft: tunnels that carry nothing do not hold up a gateway that wants to end, and others do
// for as long as their streams.
func TestDrainingGatewayIsLeft(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		g := w.gateway(map[string][]string{reviews: {podAddr}, ratings: {podAddr}})
		tr := w.transport()
		mustDial(t, tr, w.twoHops(ratings)).Close()
		conn := mustDial(t, tr, w.twoHops(reviews))
		time.AfterFunc(10*time.Second, func() {
			wantEcho(t, conn, "undisturbed")
			if got := tr.Stats().Hops[1].Tunnels; got != 1 {
				t.Errorf("%d inner tunnels, want the one with a stream", got)
			}
			conn.Close()
		})
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := g.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("took %v, want until the last stream ended", took)
		}
	})
}

// TestCloseIdleDoesNotQueue: peers that do not answer cost their time together, not one after the other.
func TestCloseIdleDoesNotQueue(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		tr := w.transport()
		for i := range 20 {
			host := fmt.Sprint("pod-", i)
			w.pod(host+":15008", echo)
			path := w.oneHop()
			path.Hops[0].Address = host + ":15008"
			mustDial(t, tr, path).Close()
			defer w.net.Heal("client", host)
		}
		synctest.Wait()
		for i := range 20 {
			w.net.Blackhole("client", fmt.Sprint("pod-", i))
		}
		began := time.Now()
		tr.CloseIdle()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v for 20 tunnels to peers that are gone", took)
		}
		if got := tr.Stats().Tunnels; got != 0 {
			t.Errorf("%d tunnels left", got)
		}
	})
}
