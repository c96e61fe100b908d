package h2

import (
	"log/slog"
	"time"
)

// A Config says how a connection behaves. Its zero value works. It must not be
// changed after it was given to [NewClient] or [NewServer].
type Config struct {
	// StreamWindow is how many bytes a peer may send on one stream before
	// they are read: SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
	// If zero, 1 MiB.
	StreamWindow int

	// ConnWindow bounds the bytes of all streams of the connection that were
	// received but not read. While it is at least StreamWindow times the
	// number of streams, streams that nobody reads cannot stall the others.
	// If zero, 256 MiB.
	ConnWindow int

	// Memory bounds the same over all connections that share it. If nil, nothing does.
	Memory *Memory

	// MaxFrameSize is the largest frame that the peer may send. We send no
	// DATA frame above 64 KiB, whatever the peer allows. If zero, 1 MiB.
	MaxFrameSize int

	// MaxConcurrentStreams is how many streams a client may have open. Further
	// ones are refused. Clients ignore it. If zero, 200.
	MaxConcurrentStreams int

	// MaxHeaderBytes bounds the header list of a request or a response, counted
	// as in RFC 9113 §6.5.2. If zero, 64 KiB on a server, 16 KiB on a client.
	MaxHeaderBytes int

	// PingInterval is how long nothing may have come from the peer before
	// it is asked for a sign of life; three times as long while no stream is
	// open. If zero, 10 s. If negative, no PING is sent, and the working window lasts for
	// a second, whatever the round trip.
	PingInterval time.Duration

	// PingTimeout is how long the peer then may stay silent before the
	// connection fails. If zero, 20 s.
	PingTimeout time.Duration

	// HandshakeTimeout bounds the time until the peer's first SETTINGS frame and
	// its acknowledgement of ours, and the TLS handshake if that is still to be done.
	// If zero, 10 s.
	HandshakeTimeout time.Duration

	// AnswerTimeout bounds how long a CONNECT may wait to be sent, and then to be answered. If zero, the
	// context of Open alone does. Servers ignore it.
	AnswerTimeout time.Duration

	// StreamEnded is told of each stream that Open returned, or that was accepted, when both of
	// its directions have ended: once, without locks held. It must not block. It may be nil.
	StreamEnded func(*Stream)

	// AnyMethod gives requests of every method to a server's handler, not CONNECT
	// alone. It is for conformance suites, which ask by GET.
	AnyMethod bool

	// Logger hears why connections fail, at debug level. If nil, silence.
	Logger *slog.Logger
}

// streamWindow and connWindow lie within the limits of RFC 9113 §6.9.1.
func (c *Config) streamWindow() int { return min(max(orDefault(c.StreamWindow, 1<<20), 1), maxWindow) }
func (c *Config) connWindow() int {
	return min(max(orDefault(c.ConnWindow, 256<<20), initialWindow), maxWindow)
}

func (c *Config) maxConcurrentStreams() int { return orDefault(c.MaxConcurrentStreams, 200) }

func (c *Config) pingInterval() time.Duration { return orDefault(c.PingInterval, 10*time.Second) }
func (c *Config) pingTimeout() time.Duration  { return orDefault(c.PingTimeout, 20*time.Second) }
func (c *Config) handshakeTimeout() time.Duration {
	return orDefault(c.HandshakeTimeout, 10*time.Second)
}

// maxFrameSize lies within the limits of RFC 9113 §4.2.
func (c *Config) maxFrameSize() int {
	return min(max(orDefault(c.MaxFrameSize, 1<<20), minMaxFrameSize), maxMaxFrameSize)
}

func (c *Config) maxHeaderBytes(client bool) int {
	if client {
		return orDefault(c.MaxHeaderBytes, 16<<10)
	}
	return orDefault(c.MaxHeaderBytes, 64<<10)
}

func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

const (
	minMaxFrameSize = 1 << 14
	maxMaxFrameSize = 1<<24 - 1
)
