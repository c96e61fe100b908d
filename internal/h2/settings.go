package h2

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2"
)

const settingSize = 6 // RFC 9113 §6.5.1

// peerSettings are the peer's, with the values that hold before they are known (RFC 9113 §6.5.2).
type peerSettings struct {
	initialWindow int64
	maxFrameSize  int
	maxStreams    int64
	maxHeaderList uint32 // 0: unlimited
}

// assumedMaxStreams holds until the peer's SETTINGS have arrived; ztunnel's h2
// assumes as many.
const assumedMaxStreams = 100

func defaultPeerSettings() peerSettings {
	return peerSettings{
		initialWindow: initialWindow,
		maxFrameSize:  minMaxFrameSize,
		maxStreams:    assumedMaxStreams,
	}
}

// localSettings are what we advertise.
func localSettings(cfg *Config, client bool) []http2.Setting {
	s := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: uint32(cfg.streamWindow())},
		{ID: http2.SettingMaxFrameSize, Val: uint32(cfg.maxFrameSize())},
		{ID: http2.SettingMaxHeaderListSize, Val: uint32(cfg.maxHeaderBytes(client))},
	}
	if client {
		return append(s, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	}
	return append(s, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(cfg.maxConcurrentStreams())})
}

// parseSettings reads a SETTINGS payload and checks each value (RFC 9113 §6.5.2).
func parseSettings(p []byte, fromServer bool) ([]http2.Setting, error) {
	if len(p)%settingSize != 0 {
		return nil, connError(http2.ErrCodeFrameSize, "SETTINGS frame of %d bytes", len(p))
	}
	settings := make([]http2.Setting, 0, len(p)/settingSize)
	for ; len(p) > 0; p = p[settingSize:] {
		s := http2.Setting{
			ID:  http2.SettingID(binary.BigEndian.Uint16(p)),
			Val: binary.BigEndian.Uint32(p[2:]),
		}
		if err := s.Valid(); err != nil {
			code := http2.ErrCodeProtocol
			if invalid, ok := errors.AsType[http2.ConnectionError](err); ok {
				code = http2.ErrCode(invalid)
			}
			return nil, connError(code, "invalid %v", s)
		}
		if s.ID == http2.SettingEnablePush && fromServer && s.Val != 0 {
			return nil, connError(http2.ErrCodeProtocol, "server enables push")
		}
		settings = append(settings, s)
	}
	return settings, nil
}

// applySettings makes the peer's settings hold, in their order.
func (c *Conn) applySettings(settings []http2.Setting) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gotSettings {
		c.gotSettings = true
		c.handshaken()
		c.peer.maxStreams = maxStreamID // unless it says otherwise
	}
	for _, s := range settings {
		switch s.ID {
		case http2.SettingHeaderTableSize:
			c.hpack.SetMaxDynamicTableSize(min(s.Val, headerTableSize))
		case http2.SettingMaxConcurrentStreams:
			c.peer.maxStreams = int64(s.Val)
		case http2.SettingInitialWindowSize:
			if err := c.setInitialWindow(int64(s.Val)); err != nil {
				return err
			}
		case http2.SettingMaxFrameSize:
			c.peer.maxFrameSize = int(s.Val)
		case http2.SettingMaxHeaderListSize:
			c.peer.maxHeaderList = s.Val
		}
	}
	c.out.queued.add(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	c.out.barrier() // what was queued before keeps to the old settings, what follows to the new
	c.recount()
	c.slotFreed.Broadcast()
	c.flush(false)
	return nil
}

// handshaken ends the handshake once both sides know each other's settings. c.mu is held.
func (c *Conn) handshaken() {
	if c.gotSettings && c.settingsAcked {
		c.handshakeTimer.Stop()
	}
}

// setInitialWindow changes the windows of all streams by the difference, which may
// make them negative (RFC 9113 §6.9.2). c.mu is held.
func (c *Conn) setInitialWindow(v int64) error {
	delta := v - c.peer.initialWindow
	c.peer.initialWindow = v
	for _, s := range c.streams {
		if !grow(&s.send.window, delta) {
			return connError(http2.ErrCodeFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE overflows the window of stream %d", s.id)
		}
		s.send.changed.Broadcast()
	}
	return nil
}
