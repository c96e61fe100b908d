//go:build !linux

package interop

import (
	"context"
	"net"
	"time"
)

func listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

func dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

func calmSockets() (name string, err error) { return "the system's", nil }

// cpuTime is not known here.
func cpuTime() time.Duration { return 0 }
