//go:build !linux

package h2

import (
	"net"
	"testing"
	"time"
)

// benchTCPWire uses the system's congestion control.
func benchTCPWire(t testing.TB) (client, server net.Conn) { return tcpWire(t) }

func cpuTime() time.Duration { return 0 }
