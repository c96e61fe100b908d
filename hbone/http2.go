package hbone

import (
	"log/slog"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/h2"
)

// HTTP2 tunes the HTTP/2 connection of every tunnel of a Transport or a
// Server. Its zero value is made for the same peers as ztunnel's settings.
type HTTP2 struct {
	// StreamWindow is how many bytes the peer may send on one stream before
	// they are read. It bounds what a reader that stalls can cost.
	// If zero, the default of 1 MiB is used.
	StreamWindow int

	// TunnelWindow bounds the received and unread bytes of all streams of a
	// tunnel together. While it is at least StreamWindow times the number of
	// streams, streams that nobody reads cannot stall the others.
	// If zero, the default of 256 MiB is used.
	TunnelWindow int

	// MemoryLimit bounds the same over all tunnels of the Transport or Server,
	// in bytes, together with what peers may still send: 256 KiB to 16 MiB on a
	// tunnel, by the rate at which data comes and by the round trip. When it is used up, a tunnel has
	// 64 KiB all the same; then it is slower, and streams that nobody reads can
	// stall the others in their tunnel.
	// If zero, the default of 1 GiB is used. If negative, there is no limit.
	MemoryLimit int64

	// MaxFrameSize is the largest frame that the peer may send.
	// If zero, the default of 1 MiB is used, as by ztunnel.
	MaxFrameSize int

	// MaxHeaderBytes bounds the header of a CONNECT or of its answer.
	// If zero, the default is 64 KiB on a Server and 16 KiB on a Transport.
	MaxHeaderBytes int

	// PingInterval is how long the peer of a tunnel may be silent before it is
	// asked for a sign of life; a tunnel without streams is asked less often.
	// PINGs measure the round trip of a busy tunnel, too, so that no more is on
	// the way than its path can use.
	// If zero, the default of 10 s is used. If negative, no PING is sent.
	PingInterval time.Duration

	// PingTimeout is how long the answer may take before the tunnel fails.
	// If zero, the default of 20 s is used.
	PingTimeout time.Duration
}

const defaultMemoryLimit = 1 << 30

// memory makes what the tunnels of one Transport or Server share.
func (h HTTP2) memory() *h2.Memory {
	switch {
	case h.MemoryLimit < 0:
		return nil
	case h.MemoryLimit == 0:
		return h2.NewMemory(defaultMemoryLimit)
	}
	return h2.NewMemory(h.MemoryLimit)
}

func (h HTTP2) config(memory *h2.Memory, handshake time.Duration, logger *slog.Logger) h2.Config {
	return h2.Config{
		Memory:           memory,
		StreamWindow:     h.StreamWindow,
		ConnWindow:       h.TunnelWindow,
		MaxFrameSize:     h.MaxFrameSize,
		MaxHeaderBytes:   h.MaxHeaderBytes,
		PingInterval:     h.PingInterval,
		PingTimeout:      h.PingTimeout,
		HandshakeTimeout: handshake,
		Logger:           logger,
	}
}
