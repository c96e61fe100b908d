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

	// maxAnswers bounds what is queued to be sent above outboxLimit: answers
	// that the peer provokes without reading them.
	maxAnswers = 64 << 10

	// updatesPerFrame is how many WINDOW_UPDATE frames a peer may send for each DATA
	// frame that we send.
	updatesPerFrame = 4
	maxUpdates      = 1 << 16

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
	resets    budget // streams that end by RST_STREAM: "rapid reset", CVE-2023-44487
	pings     budget
	settings  budget
	emptyData budget // DATA frames with neither bytes nor END_STREAM
	ignored   budget // PRIORITY, unknown frames, interim responses, late WINDOW_UPDATEs
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
