package hbone_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// Tunnels that can be made but take no stream: dialling more of them helps nobody.

// TestExpiredCredentialsMakeNoTunnels: a tunnel that has to be drained as soon as it stands is a dial that failed.
func TestExpiredCredentialsMakeNoTunnels(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.pod(podAddr, echo)
		w.net.SetLatency("client", "pod-1", time.Millisecond)
		tr := w.transport()
		path := w.oneHop()
		creds := w.client(podID)
		creds.DrainAt(time.Now())
		path.Hops[0].TLS = creds
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := tr.Dial(ctx, path)
		if wantHop(t, err, 0, hbone.PhaseTLS); !errors.Is(err, hbone.ErrExpired) {
			t.Errorf("dial: %v, want ErrExpired", err)
		}
		if got := tr.Stats().Hops[0].Dials; got != 1 {
			t.Errorf("%d dials, want 1", got)
		}
		creds.DrainAt(time.Time{})
		time.Sleep(time.Second) // the backoff
		mustDial(t, tr, path).Close()
	})
}

// TestPeerThatTakesNoStreams: a limit of no streams is not a full tunnel.
func TestPeerThatTakesNoStreams(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.net.SetLatency("pod-1", "client", time.Millisecond)
		open := make(chan struct{})
		w.played(func(nc net.Conn) { closedFor(open, nc) })
		tr := w.transport()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := tr.Dial(ctx, w.oneHop())
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial: %v, want context.DeadlineExceeded", err)
		}
		_, err = tr.Dial(ctx, w.oneHop())
		wantHop(t, err, 0, hbone.PhaseWait)
		if got := tr.Stats().Hops[0].Dials; got != 1 {
			t.Errorf("%d dials, want 1", got)
		}
		time.AfterFunc(time.Second, func() { close(open) })
		mustDial(t, tr, w.oneHop()).Close()
	})
}

// closedFor is a server that takes no streams until open is closed, and refuses those that come.
func closedFor(open <-chan struct{}, nc net.Conn) {
	defer nc.Close()
	fr := http2.NewFramer(nc, nc)
	limit := http2.Setting{ID: http2.SettingMaxConcurrentStreams}
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil || fr.WriteSettings(limit) != nil {
		return
	}
	go func() {
		<-open
		limit.Val = 1
		_ = http2.NewFramer(nc, nil).WriteSettings(limit)
	}()
	answerAll(fr, func() bool {
		select {
		case <-open:
			return true
		default:
			return false
		}
	})
}

// TestNegativeMaxStreams: as with the other limits, negative is none but the peer's.
func TestNegativeMaxStreams(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.podWithLimit(podAddr, 150, hold)
		w.net.SetLatency("client", "pod-1", time.Millisecond)
		tr := w.transport()
		tr.MaxStreamsPerTunnel = -1
		tr.MaxTunnels = 50 // lest a mistake never end
		conns, errs := herd(tr, w.oneHop(), 300)
		if len(errs) > 0 {
			t.Fatalf("%d dials failed, the first: %v", len(errs), errs[0])
		}
		if got := tr.Stats().Tunnels; got > 3 {
			t.Errorf("%d tunnels for 300 streams at 150 each", got)
		}
		for _, c := range conns {
			c.Close()
		}
	})
}

// TestRefusedStreamsWait: a peer that counts a stream which has just ended still refuses the next one for a moment. Dials
// must not use up their attempts within it.
func TestRefusedStreamsWait(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		began := time.Now()
		w.played(func(nc net.Conn) {
			defer nc.Close()
			if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
				return
			}
			fr := http2.NewFramer(nc, nc)
			_ = fr.WriteSettings()
			answerAll(fr, func() bool { return time.Since(began) >= 15*time.Millisecond })
		})
		mustDial(t, w.transport(), w.oneHop()).Close()
		if took := time.Since(began); took > 50*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}
