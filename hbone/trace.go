package hbone

import (
	"crypto/tls"
	"errors"
	"time"
)

// A Trace is told what a Transport does with its tunnels and streams. Any
// function may be nil, and then costs nothing. They are called by the goroutine that
// did it, possibly several at the same time, without locks held, and must return soon.
//
// A tunnel that is made is told by TunnelDial, then TLSDone unless it is Plaintext, and then
// either TunnelReady or TunnelFailed. One that was made ends with TunnelRetired and, when its streams
// have ended, TunnelClosed. Streams that carry an inner tunnel are told like all others.
type Trace struct {
	TunnelDial    func(TunnelInfo)                      // a tunnel is about to be made
	TLSDone       func(TunnelInfo, tls.ConnectionState) // its handshake succeeded
	TunnelReady   func(TunnelInfo, time.Duration)       // it was made, in this time
	TunnelFailed  func(TunnelInfo, error)               // it could not be made, or is not needed: ErrDuplicateBackend
	TunnelReused  func(TunnelInfo)                      // a dial found it there
	TunnelWarmed  func(TunnelInfo)                      // Warm has seen that it is alive
	TunnelRetired func(TunnelInfo, RetireReason)        // it takes no new streams
	TunnelClosed  func(TunnelInfo, error)               // it ended

	Connecting    func(TunnelInfo, string)            // a CONNECT for this authority is about to be sent
	Connected     func(TunnelInfo, *Conn)             // it was answered with 200
	ConnectFailed func(TunnelInfo, string, *HopError) // it was not answered, or not with 200
	StreamClosed  func(TunnelInfo, *Conn, StreamEnd)  // both directions of a stream have ended, after Connected
}

// TunnelInfo describes a tunnel.
type TunnelInfo struct {
	ID      uint64 // unique in its Transport
	Hop     int    // depth: index of the hop that it ends at
	Address string // as in HopState
	Backend Backend
}

// A StreamEnd tells what a stream came to.
type StreamEnd struct {
	Sent     int64 // bytes that were written
	Received int64 // bytes that came, whether or not they were read

	// Cause is why it ended: nil if both directions came to a clean end, net.ErrClosed if it was closed
	// before the peer had ended its own, the cause of an Abort, or what Read then says.
	Cause error
}

// ErrDuplicateBackend is why a tunnel was given up that was to lead to a backend without one: the
// backend that the gateway chose has one already. Only Trace.TunnelFailed sees it.
var ErrDuplicateBackend = errors.New("hbone: the backend has a tunnel already")

// A RetireReason says why a tunnel takes no new streams.
type RetireReason string

// The reasons to retire a tunnel.
const (
	RetireIdle      RetireReason = "idle"      // unused: for IdleTimeout, for a second if what carries it has to end, or CloseIdle
	RetireAge       RetireReason = "age"       // older than MaxTunnelAge, and a younger one is there
	RetireDuplicate RetireReason = "duplicate" // another one leads to the same backend
	RetireDrain     RetireReason = "drain"     // Credentials.Retire: the certificates' time is over
	RetireRevoked   RetireReason = "revoked"   // Credentials.Retire: it was cut
	RetireGoAway    RetireReason = "goaway"    // the peer drains it, or it broke
	RetireClosing   RetireReason = "closing"   // Shutdown or Close
)

func (t *Trace) dial(tn *tunnel) {
	if t != nil && t.TunnelDial != nil {
		t.TunnelDial(tn.info())
	}
}

func (t *Trace) tls(tn *tunnel, state tls.ConnectionState) {
	if t != nil && t.TLSDone != nil {
		t.TLSDone(tn.info(), state)
	}
}

func (t *Trace) ready(tn *tunnel, took time.Duration) {
	if t != nil && t.TunnelReady != nil {
		t.TunnelReady(tn.info(), took)
	}
}

func (t *Trace) failed(tn *tunnel, err error) {
	if t != nil && t.TunnelFailed != nil {
		t.TunnelFailed(tn.info(), err)
	}
}

func (t *Trace) reused(tn *tunnel) {
	if t != nil && t.TunnelReused != nil {
		t.TunnelReused(tn.info())
	}
}

func (t *Trace) warmed(tn *tunnel) {
	if t != nil && t.TunnelWarmed != nil {
		t.TunnelWarmed(tn.info())
	}
}

func (t *Trace) retired(tn *tunnel, why RetireReason) {
	if t != nil && t.TunnelRetired != nil {
		t.TunnelRetired(tn.info(), why)
	}
}

func (t *Trace) closed(tn *tunnel, err error) {
	if t != nil && t.TunnelClosed != nil {
		t.TunnelClosed(tn.info(), err)
	}
}

func (t *Trace) connecting(tn *tunnel, authority string) {
	if t != nil && t.Connecting != nil {
		t.Connecting(tn.info(), authority)
	}
}

func (t *Trace) connected(tn *tunnel, c *Conn) {
	if t != nil && t.Connected != nil {
		t.Connected(tn.info(), c)
	}
	if t != nil && t.StreamClosed != nil {
		c.stream.OnEnd(func() { t.StreamClosed(tn.info(), c, c.end()) })
	}
}

func (t *Trace) connectFailed(tn *tunnel, authority string, err *HopError) {
	if t != nil && t.ConnectFailed != nil {
		t.ConnectFailed(tn.info(), authority, err)
	}
}
