package h2

import (
	"encoding/binary"
	"net/http"
	"slices"

	"golang.org/x/net/http2"
)

// handleControl processes a frame that is not DATA, HEADERS or CONTINUATION. Of a
// frame that is longer than it may be, payload is the beginning.
func (r *reader) handleControl(h frameHeader, payload []byte) error {
	if err := checkControl(h); err != nil {
		return err
	}
	switch h.typ {
	case http2.FrameRSTStream:
		return r.handleReset(h.id, http2.ErrCode(binary.BigEndian.Uint32(payload)))
	case http2.FrameSettings:
		return r.handleSettings(h, payload)
	case http2.FramePing:
		return r.handlePing(h, [8]byte(payload))
	case http2.FrameGoAway:
		if err := charge(&r.budgets.ignored, "GOAWAY frames"); err != nil {
			return err
		}
		return r.c.handleGoAway(&goAway{
			lastID: binary.BigEndian.Uint32(payload) & maxStreamID,
			code:   http2.ErrCode(binary.BigEndian.Uint32(payload[4:])),
			debug:  slices.Clone(payload[8:]),
		})
	case http2.FrameWindowUpdate:
		return r.handleWindowUpdate(h.id, int64(binary.BigEndian.Uint32(payload)&maxWindow))
	case http2.FramePushPromise: // RFC 9113 §8.4: not without SETTINGS_ENABLE_PUSH
		return connError(http2.ErrCodeProtocol, "PUSH_PROMISE was not allowed")
	default: // PRIORITY (RFC 9113 §5.3.2) and unknown types (§5.5) are ignored
		return charge(&r.budgets.ignored, "frames of type "+h.typ.String())
	}
}

// checkControl checks length and stream id of a frame against RFC 9113 §6.3-§6.9.
func checkControl(h frameHeader) error {
	length := -1 // any
	onStream, onConn := true, true
	switch h.typ {
	case http2.FramePriority:
		length, onConn = 5, false
	case http2.FrameRSTStream:
		length, onConn = 4, false
	case http2.FrameSettings:
		onStream = false
		if h.flags.Has(http2.FlagSettingsAck) {
			length = 0
		}
	case http2.FramePing:
		length, onStream = 8, false
	case http2.FrameGoAway:
		onStream = false
		if h.length < 8 {
			length = 8
		}
	case http2.FrameWindowUpdate:
		length = 4
	}
	switch {
	case h.id == 0 && !onConn || h.id != 0 && !onStream:
		return connError(http2.ErrCodeProtocol, "%v frame on stream %d", h.typ, h.id)
	case length < 0 || h.length == length:
		return nil
	case h.typ == http2.FramePriority: // RFC 9113 §6.3
		return streamError(h.id, http2.ErrCodeFrameSize, "PRIORITY frame of wrong size")
	}
	return connError(http2.ErrCodeFrameSize, "%v frame of %d bytes", h.typ, h.length)
}

// handleReset ends a stream that the peer aborted (RFC 9113 §6.4).
func (r *reader) handleReset(id uint32, code http2.ErrCode) error {
	c := r.c
	se := &StreamError{ID: id, Code: code, Remote: true}
	if c.client && code == http2.ErrCodeRefusedStream { // RFC 9113 §8.7
		se.Cause = ErrUnprocessed
	}
	c.mu.Lock()
	if c.idle(id) {
		c.mu.Unlock()
		return connError(http2.ErrCodeProtocol, "RST_STREAM on idle stream %d", id)
	}
	if c.resets > 0 {
		c.resets--
	} else if err := charge(&r.budgets.resets, "streams reset"); err != nil {
		c.mu.Unlock()
		return err
	}
	s := c.streams[id]
	if s == nil {
		c.mu.Unlock()
		return nil
	}
	c.forget(s, se)
	c.mu.Unlock()
	s.endRecv(se, false)
	c.streamGone(s)
	return nil
}

func (r *reader) handleSettings(h frameHeader, payload []byte) error {
	if err := charge(&r.budgets.settings, "SETTINGS frames"); err != nil {
		return err
	}
	if h.flags.Has(http2.FlagSettingsAck) {
		r.c.mu.Lock()
		defer r.c.mu.Unlock()
		if !r.c.settingsAcked {
			r.c.settingsAcked = true
			r.c.inflow.roundTripEnds(r.c.sentBytes)
		}
		r.c.handshaken()
		return nil
	}
	settings, err := parseSettings(payload, r.c.client)
	if err != nil {
		return err
	}
	if err := r.c.applySettings(settings); err != nil {
		return err
	}
	r.c.available()
	return nil
}

func (r *reader) handlePing(h frameHeader, data [8]byte) error {
	c := r.c
	if h.flags.Has(http2.FlagPingAck) {
		if c.pingAnswered(data) {
			return nil
		}
		return charge(&r.budgets.ignored, "answers to no PING")
	}
	if err := charge(&r.budgets.pings, "PING frames"); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil
	}
	start := c.out.len()
	c.appendPing(http2.FlagPingAck, data[:])
	return c.flushAnswer(start)
}

// handleWindowUpdate grows a window of ours (RFC 9113 §6.9).
func (r *reader) handleWindowUpdate(id uint32, n int64) error {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.updates > 0 {
		c.updates--
	} else if err := charge(&r.budgets.updates, "WINDOW_UPDATE frames"); err != nil {
		return err
	}
	if id == 0 {
		return c.growConnWindow(n)
	}
	s := c.streams[id]
	switch {
	case s == nil && c.idle(id):
		return connError(http2.ErrCodeProtocol, "WINDOW_UPDATE on idle stream %d", id)
	case n == 0: // RFC 9113 §6.9
		return streamError(id, http2.ErrCodeProtocol, "WINDOW_UPDATE of 0")
	case s == nil:
		return nil
	case !grow(&s.send.window, n): // RFC 9113 §6.9.1
		return streamError(id, http2.ErrCodeFlowControl, "WINDOW_UPDATE overflows the window")
	}
	s.send.changed.Broadcast()
	return nil
}

// growConnWindow grows what we may send on all streams together. c.mu is held.
func (c *Conn) growConnWindow(n int64) error {
	switch {
	case n == 0: // RFC 9113 §6.9
		return connError(http2.ErrCodeProtocol, "WINDOW_UPDATE of 0")
	case !grow(&c.window, n): // RFC 9113 §6.9.1
		return connError(http2.ErrCodeFlowControl, "WINDOW_UPDATE overflows the connection's window")
	}
	c.callWriters()
	return nil
}

// handleHeaders processes a header block: on a server a request, on a client a
// response, on either trailers.
func (c *Conn) handleHeaders(r *reader, h frameHeader, l *headerList) error {
	c.mu.Lock()
	s, idle := c.streams[h.id], c.idle(h.id)
	late := s == nil && !idle && (c.client || c.forgotten.mayHave(h.id))
	awaited := s != nil && c.client && !s.answered
	c.mu.Unlock()
	switch {
	case awaited:
		return s.handleResponse(r, h, l)
	case s != nil:
		return s.handleTrailers(h, l)
	case late: // RFC 9113 §5.1: it may have been on its way when we ended the stream
		return charge(&r.budgets.ignored, "HEADERS on closed streams")
	case idle && !c.client && h.id%2 == 1:
		return c.handleRequest(r, h, l)
	case idle: // RFC 9113 §5.1.1
		return connError(http2.ErrCodeProtocol, "HEADERS on stream %d, which is not the peer's to open", h.id)
	default: // RFC 9113 §5.1
		return connError(http2.ErrCodeStreamClosed, "HEADERS on closed stream %d", h.id)
	}
}

// handleTrailers ends the peer's direction (RFC 9113 §8.1). What trailers say is discarded.
func (s *Stream) handleTrailers(h frameHeader, l *headerList) error {
	switch {
	case s.hasRemoteEnd(): // RFC 9113 §5.1
		return streamError(s.id, http2.ErrCodeStreamClosed, "HEADERS after END_STREAM")
	case !h.endStream():
		return streamError(s.id, http2.ErrCodeProtocol, "trailers without END_STREAM")
	case l.malformed != "" || l.present != [pseudoHeaders]bool{}:
		return streamError(s.id, http2.ErrCodeProtocol, "malformed trailers")
	}
	s.remoteEnded()
	return nil
}

// handleResponse processes the answer to a CONNECT.
func (s *Stream) handleResponse(r *reader, h frameHeader, l *headerList) error {
	if l.tooBig {
		return streamError(s.id, http2.ErrCodeProtocol, "response header too large")
	}
	code, fault := l.responseStatus()
	switch {
	case fault != "":
		return streamError(s.id, http2.ErrCodeProtocol, fault)
	case code < 200 && h.endStream(): // RFC 9113 §8.1
		return streamError(s.id, http2.ErrCodeProtocol, "interim response with END_STREAM")
	case code < 200:
		return charge(&r.budgets.ignored, "interim responses")
	}
	s.answer(code, l.fields)
	if h.endStream() {
		s.remoteEnded()
	}
	s.wakeOpener()
	return nil
}

// handleRequest opens a stream that a client asks for.
func (c *Conn) handleRequest(r *reader, h frameHeader, l *headerList) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID = h.id
	if c.err != nil || h.id > c.sentGoAway { // RFC 9113 §6.8: ignored
		c.forgotten.add(h.id)
		return nil
	}
	if l.tooBig { // RFC 6585 §5
		return c.respondOnly(r, h, http.StatusRequestHeaderFieldsTooLarge)
	}
	if fault := l.checkRequest(); fault != "" { // RFC 9113 §8.1.1
		return streamError(h.id, http2.ErrCodeProtocol, fault)
	}
	if l.pseudo[method] != http.MethodConnect && !c.cfg.AnyMethod {
		return c.respondOnly(r, h, http.StatusBadRequest) // as ztunnel does
	}
	limit := c.cfg.maxConcurrentStreams()
	if len(c.streams) >= limit || c.handlers >= 2*limit || c.out.ends >= limit { // RFC 9113 §5.1.2
		return streamError(h.id, http2.ErrCodeRefusedStream, "too many streams")
	}
	s := c.newStream(h.id, l.pseudo[authority], l.fields)
	c.streams[h.id] = s
	c.recount()
	if h.endStream() {
		s.remoteEnd, s.recv.eof = true, true
	}
	c.handlers++
	go c.serve(s)
	return nil
}

// respondOnly answers a request that never becomes a stream. c.mu is held.
func (c *Conn) respondOnly(r *reader, h frameHeader, code int) error {
	if err := charge(&r.budgets.ignored, "bad requests"); err != nil {
		return err
	}
	var space fewFields
	fields, err := responseFields(space[:0], code, nil)
	if err != nil {
		return err
	}
	start := c.out.len()
	c.appendHeaders(h.id, fields, true)
	if !h.endStream() {
		c.appendReset(h.id, http2.ErrCodeNo) // RFC 9113 §8.1
		c.forgotten.add(h.id)
	}
	return c.flushAnswer(start)
}

// serve runs the handler of one stream.
func (c *Conn) serve(s *Stream) {
	c.handle(s)
	c.mu.Lock()
	c.handlers--
	answered := s.answered
	c.mu.Unlock()
	if !answered {
		s.Close()
	}
}
