package hbone

import "time"

// A Trace is told what a Transport does with its tunnels. Any function may be
// nil. They are called from the Transport's goroutines, possibly several at
// the same time, without locks held, and should return soon.
type Trace struct {
	TunnelDial    func(TunnelInfo)                    // a tunnel is about to be made
	TunnelReady   func(TunnelInfo, time.Duration)     // it was made, in this time
	TunnelFailed  func(TunnelInfo, error)             // it could not be made
	TunnelRetired func(TunnelInfo, RetireReason)      // it takes no new streams
	TunnelClosed  func(TunnelInfo, error)             // it ended
	Connected     func(TunnelInfo, *Conn)             // a CONNECT was answered with 200
	ConnectFailed func(TunnelInfo, string, *HopError) // a CONNECT for this authority failed
}

// TunnelInfo describes a tunnel.
type TunnelInfo struct {
	ID      uint64 // unique in its Transport; 0 while it is being made
	Hop     int    // depth: index of the hop that it ends at
	Address string // as in HopState
	Backend Backend
}

// A RetireReason says why a tunnel takes no new streams.
type RetireReason string

// The reasons to retire a tunnel.
const (
	RetireIdle    RetireReason = "idle"    // unused for IdleTimeout, or CloseIdle
	RetireAge     RetireReason = "age"     // older than MaxTunnelAge, and a younger one is there
	RetireDrain   RetireReason = "drain"   // Credentials.Retire: the certificates' time is over
	RetireGoAway  RetireReason = "goaway"  // the peer drains it, or it broke
	RetireClosing RetireReason = "closing" // Shutdown
)

func (t *Trace) dial(i TunnelInfo) {
	if t != nil && t.TunnelDial != nil {
		t.TunnelDial(i)
	}
}

func (t *Trace) ready(i TunnelInfo, took time.Duration) {
	if t != nil && t.TunnelReady != nil {
		t.TunnelReady(i, took)
	}
}

func (t *Trace) failed(i TunnelInfo, err error) {
	if t != nil && t.TunnelFailed != nil {
		t.TunnelFailed(i, err)
	}
}

func (t *Trace) retired(i TunnelInfo, why RetireReason) {
	if t != nil && t.TunnelRetired != nil {
		t.TunnelRetired(i, why)
	}
}

func (t *Trace) closed(i TunnelInfo, err error) {
	if t != nil && t.TunnelClosed != nil {
		t.TunnelClosed(i, err)
	}
}

func (t *Trace) connected(tn *tunnel, c *Conn) {
	if t != nil && t.Connected != nil {
		t.Connected(tn.info(), c)
	}
}

func (t *Trace) connectFailed(tn *tunnel, authority string, err *HopError) {
	if t != nil && t.ConnectFailed != nil {
		t.ConnectFailed(tn.info(), authority, err)
	}
}
