package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// Limits against peers that make us work for nothing (RFC 9113 §10.5). Each is
// far above what a peer that behaves will ever need.
const (
	// maxContinuations bounds the CONTINUATION frames of a header block; its size
	// is bounded by Config.MaxHeaderBytes.
	maxContinuations = 64

	// maxSettings bounds the payload of a SETTINGS frame.
	maxSettingsPayload = 100 * settingSize

	// maxAnswers bounds the bytes of queued answers that the peer provokes without
	// reading them.
	maxAnswers = 64 << 10

	// updatesPerFrame is how many WINDOW_UPDATE frames a peer may send for each DATA
	// frame that we send, and bytesPerUpdate for how many of its bytes it may send one more:
	// some peers return credit on the stream and on the connection for each small read.
	updatesPerFrame = 4
	bytesPerUpdate  = 512
	maxUpdates      = 1 << 16

	// resetsPerAnswer is how many RST_STREAM frames a peer may send for each CONNECT
	// that was answered: one for a stream that it closes before we do, one for what of ours
	// comes after that. Only resets before the answer make us work in vain.
	resetsPerAnswer = 2
	maxResets       = 1 << 12

	// maxDebugData bounds what is kept of a GOAWAY's debug data.
	maxDebugData = 1 << 10
)

// A budget is a token bucket: what a peer may spend on one kind of frame.
type budget struct {
	burst, perSecond float64
	spent            float64
	last             time.Time
}

// spend reports whether one more is within the budget.
func (b *budget) spend() bool {
	b.spent++
	if b.spent <= b.burst {
		return true
	}
	now := time.Now()
	b.spent = max(b.spent-now.Sub(b.last).Seconds()*b.perSecond, 1)
	b.last = now
	return b.spent <= b.burst
}

// budgets are owned by the connection's reader.
type budgets struct {
	resets    budget // RST_STREAM frames beyond resetsPerAnswer ("rapid reset", CVE-2023-44487), and stream errors
	pings     budget
	settings  budget
	emptyData budget // DATA frames with neither bytes nor END_STREAM
	ignored   budget // PRIORITY, unknown and late frames, GOAWAY, interim responses, bad requests
	updates   budget // WINDOW_UPDATE frames beyond updatesPerFrame
}

func newBudgets() budgets {
	now := time.Now()
	return budgets{
		resets:    budget{burst: 1000, perSecond: 200, last: now},
		pings:     budget{burst: 1000, perSecond: 100, last: now},
		settings:  budget{burst: 100, perSecond: 10, last: now},
		emptyData: budget{burst: 1000, perSecond: 100, last: now},
		ignored:   budget{burst: 10000, perSecond: 1000, last: now},
		updates:   budget{burst: 10000, perSecond: 1000, last: now},
	}
}

// charge spends from b, and makes the connection error for a peer that overdraws it.
func charge(b *budget, what string) error {
	if b.spend() {
		return nil
	}
	return connError(http2.ErrCodeEnhanceYourCalm, "too many %s", what)
}

// prepayResets allows the peer its resets of an answered stream. c.mu is held.
func (c *Conn) prepayResets() { c.resets = min(c.resets+resetsPerAnswer, maxResets) }
