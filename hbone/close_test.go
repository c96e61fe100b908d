package hbone_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A stuckConn takes nothing any more once it is stuck, as TCP with a peer that does not read: Write then waits for Close.
type stuckConn struct {
	net.Conn
	stuck  *atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func (c *stuckConn) Write(p []byte) (int, error) {
	if c.stuck.Load() {
		<-c.closed
	}
	return c.Conn.Write(p)
}

func (c *stuckConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestCloseIsSideBySide: tunnels whose peers do not take a goodbye do not add up.
func TestCloseIsSideBySide(t *testing.T) {
	const pods = 10
	bubble(t, func(t *testing.T, w *world) {
		tr := w.transport()
		var stuck atomic.Bool
		dial := tr.DialContext
		tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &stuckConn{Conn: nc, stuck: &stuck, closed: make(chan struct{})}, nil
		}
		for i := range pods {
			path := w.oneHop()
			path.Hops[0].Address = fmt.Sprintf("pod-%d:15008", i+1)
			w.pod(path.Hops[0].Address, hold)
			mustDial(t, tr, path)
		}
		synctest.Wait()
		stuck.Store(true)
		began := time.Now()
		tr.Close()
		if took := time.Since(began); took == 0 || took > time.Second {
			t.Errorf("Close took %v for %d tunnels, want the half second that one of them has", took, pods)
		}
		if got := tr.Stats(); got.Tunnels != 0 || got.Streams != 0 {
			t.Errorf("%d tunnels and %d streams after Close", got.Tunnels, got.Streams)
		}
	})
}
