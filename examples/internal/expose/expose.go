// Package expose lets ordinary programs of the machine, such as curl, into a
// pod network: it listens on a loopback address and passes connections on to an
// address in there.
package expose

import (
	"context"
	"net"
	"sync"

	"github.com/eastwest-mesh/eastwest/hbone"
)

// Dial connects to an address of a pod network.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// TCP passes every connection of l on to address, until ctx ends or l fails. It
// closes l and waits for the connections.
func TCP(ctx context.Context, l net.Listener, dial Dial, address string) error {
	ctx, cancel := context.WithCancel(ctx)
	var passing sync.WaitGroup
	defer passing.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		passing.Go(func() { pass(ctx, conn, dial, address) })
	}
}

func pass(ctx context.Context, conn net.Conn, dial Dial, address string) {
	inside, err := dial(ctx, "tcp", address)
	if err != nil {
		// A reset: a clean end would look like an empty answer.
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
		return
	}
	// Both ends learn how the other one ended; there is nobody else to tell.
	_, _ = hbone.Relay(ctx, conn, inside)
}
