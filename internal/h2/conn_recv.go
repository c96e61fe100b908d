package h2

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A reader reads the frames of a connection. It is run by whoever has the turn. It
// is a state machine that can be stopped whenever it would read from the transport,
// and go on later: what was read is never lost, and no state changes before the
// bytes that cause it are at hand.
type reader struct {
	c    *Conn
	buf  *readBuffer
	r, w int   // buf.b[r:w] was read and is not yet processed
	err  error // why the connection ends; run returns nothing else from then on

	lead        *Stream     // runs it; nil: the background reader
	ask         func() bool // of the lead's Read, see Stream.ReadUnless; may be nil
	satisfied   bool        // the lead need not wait any more
	stopped     error       // why pause ended a read
	unannounced *Stream     // a waiting Read of it has received something, and is yet to be woken
	lender      *Stream     // its Read's buffer is being read into
	busiest     uint32      // the stream that got the last DATA frames, waiting for each
	streak      int         // so many
	favours     int         // frames that were at hand already, since run began
	yielded     bool        // for the current DATA frame

	phase   phase
	frame   frameHeader // the current one
	left    int         // bytes of its payload still to come, without padding
	padding int         // bytes of padding that follow
	bulk    bool        // the last DATA frame was large

	stream   *Stream // that gets the current DATA; nil: nobody
	settled  bool    // the first frame has come
	block    []byte  // of the current header block
	blockHdr frameHeader
	inBlock  bool // CONTINUATION must follow
	frames   int  // CONTINUATION frames of the block
	dec      *hpack.Decoder
	list     headerList // what dec makes of the block
	budgets  budgets
}

type phase func(*reader) error

// How run ends while the connection does not.
var (
	errEnough      = errors.New("the stream that leads has what it waits for")
	errPaused      = errors.New("the stream that leads must not wait")
	errInterrupted = errors.New("read interrupted")
	errRecalled    = errors.New("the Read whose buffer is lent need not wait")
)

const (
	// bulkFrame is from which size on a DATA frame is likely followed by one like it.
	// Then only the frame's header is read into our buffer, lest its payload has to be
	// copied from there.
	bulkFrame = 8 << 10

	// directRead is how much must be left of a frame to be read straight into the buffer of a
	// waiting Read.
	directRead = 4 << 10

	// maxFavours is how many frames that are at hand a stream that leads processes, after which it does not
	// go on if it has what it waits for.
	maxFavours = 8

	// longStreak is how many DATA frames in a row one stream gets before the
	// background reader leaves reading to it.
	longStreak = 4
)

type frameHeader struct {
	length int
	typ    http2.FrameType
	flags  http2.Flags
	id     uint32
}

func (r *reader) init(c *Conn) {
	r.c = c
	r.buf = newReadBuffer()
	r.dec = hpack.NewDecoder(headerTableSize, r.addField)
	r.budgets = newBudgets()
	r.phase = (*reader).frameStart
	if !c.client {
		r.phase = (*reader).preface
	}
}

// readLoop is the background reader, and what ends the connection when it broke.
func (c *Conn) readLoop() {
	c.turn.awaitCall()
	err := c.in.run(nil, nil)
	for errors.Is(err, errEnough) {
		c.turn.leave(false)
		c.turn.awaitCall()
		err = c.in.run(nil, nil)
	}
	//nolint:errorlint // only our own: a transport's may wrap that of a connection beneath
	if ce, ok := err.(*ConnError); ok && ce.Code != http2.ErrCodeNo {
		c.linger(closeGrace)
	}
	c.fail(err)
	c.turn.fix()
	c.in.abandon()
	c.in.discard()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading, c.lingering = false, false
	if !c.out.flushing {
		c.shutTransport()
	}
	c.exited.Broadcast()
}

// lead reads until s has what it waits for. It reports whether ask ended that, and whether something is at hand still. The turn is
// yet to be left.
func (c *Conn) lead(s *Stream, ask func() bool) (paused, more bool) {
	switch c.in.run(s, ask) {
	case errEnough: //nolint:errorlint // nobody wraps these
	case errPaused:
		paused = true
	default:
		c.turn.fix() // the background reader ends the connection
	}
	return paused, c.in.r < c.in.w
}

// abandon accounts for what never comes of the current DATA frame.
func (r *reader) abandon() {
	if r.stream != nil {
		r.c.consumed(r.left)
		r.stream = nil
	}
}

// discard reads until the transport ends: while something is unread, closing a
// socket resets it, and the peer might not see our GOAWAY. The connection's
// closeGrace bounds it.
func (r *reader) discard() {
	if r.buf.shared() { // with what streams have queued
		r.buf.release()
		r.buf = newReadBuffer()
	}
	for {
		r.stopped = nil
		if _, err := r.c.tr.Read(r.buf.b[:]); err != nil && !r.c.turn.goOn() && r.stopped == nil {
			break
		}
	}
	r.buf.release()
}

// run processes frames until lead has what it waits for, or, without a lead, until a
// stream may as well read for itself. While the connection works, it returns
// errEnough or errPaused.
func (r *reader) run(lead *Stream, ask func() bool) error {
	r.lead, r.ask, r.satisfied = lead, ask, false
	r.streak, r.favours = 0, 0
	defer r.announce()
	for r.err == nil {
		err := r.phase(r)
		if lead != nil && r.frame.typ != http2.FrameData {
			r.satisfied = lead.recv.settled()
		}
		switch err {
		case nil:
		case errInterrupted: //nolint:errorlint // nobody wraps these
			if lead != nil || r.enough() {
				return errEnough
			}
		case errEnough, errPaused:
			return err
		default:
			r.failed(err)
		}
	}
	return r.err
}

// failed deals with an error of a stream, or keeps one of the connection.
func (r *reader) failed(err error) {
	//nolint:errorlint // only our own: a transport's may wrap that of a stream beneath
	if se, ok := err.(*StreamError); ok {
		err = r.streamFailed(se)
	}
	r.err = err
}

// enough reports whether whoever reads may stop: a stream that leads has something, or
// a stream that gets it all may lead. What others do to a stream that leads interrupts the reading.
func (r *reader) enough() bool {
	if r.lead != nil {
		return r.satisfied
	}
	return r.streak >= longStreak && r.c.turn.unneeded()
}

// mayStop reports whether this is a place to stop at: nothing is at hand, or a stream that leads has done
// enough for others.
func (r *reader) mayStop() bool {
	if r.r == r.w {
		return true
	}
	r.favours++
	return r.lead != nil && r.favours > maxFavours
}

// pause is asked by the carrier when nothing is at hand.
func (r *reader) pause() bool {
	if r.unannounced != nil && r.unannounced == r.lender {
		r.stopped = errRecalled
		return true
	}
	r.announce()
	switch {
	case r.enough():
		r.stopped = errEnough
	case r.ask != nil && r.ask():
		r.stopped = errPaused
	}
	return r.stopped != nil
}

// announce wakes the Read that has received something. That is put off while
// there may be more for it.
func (r *reader) announce() {
	s := r.unannounced
	if s == nil {
		return
	}
	r.unannounced = nil
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	s.wake()
}

// read reads from the transport.
func (r *reader) read(p []byte) (int, error) {
	r.stopped = nil
	n, err := r.c.tr.Read(p)
	switch {
	case n > 0:
		if !r.c.received.Load() {
			r.c.received.Store(true)
		}
		return n, nil
	case err == nil:
		return 0, nil
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return 0, transportError(err)
	case r.c.turn.goOn():
		return 0, errInterrupted
	case r.stopped != nil:
		return 0, r.stopped
	}
	return 0, transportError(err) // not by us
}

// fill waits until n bytes are at hand.
func (r *reader) fill(n int) error { return r.fillUpTo(n, readBufferSize) }

// fillUpTo is fill, but keeps to most bytes at hand.
func (r *reader) fillUpTo(n, most int) error {
	for r.w-r.r < n {
		r.makeRoom(n)
		k, err := r.read(r.buf.b[r.w:min(len(r.buf.b), r.r+most)])
		if err != nil {
			return err
		}
		r.w += k
	}
	return nil
}

// makeRoom moves what is at hand to the start of a buffer, unless n bytes fit
// where it lies. A buffer that streams refer to is left to them.
func (r *reader) makeRoom(n int) {
	empty := r.r == r.w
	if r.buf.shared() {
		if len(r.buf.b)-r.r >= n && len(r.buf.b)-r.w >= readBufferSize/2 {
			return
		}
		old := r.buf
		r.buf = newReadBuffer()
		copy(r.buf.b[:], old.b[r.r:r.w])
		old.release()
	} else {
		if !empty && len(r.buf.b)-r.r >= n {
			return
		}
		copy(r.buf.b[:], r.buf.b[r.r:r.w])
	}
	r.r, r.w = 0, r.w-r.r
}

// next returns up to n of the bytes at hand, at least one, and consumes them.
func (r *reader) next(n int) ([]byte, error) {
	if err := r.fillUpTo(1, r.ahead(n)); err != nil {
		return nil, err
	}
	b := r.buf.b[r.r:min(r.r+n, r.w)]
	r.r += len(b)
	return b, nil
}

// ahead is how much to read where n bytes are wanted: more, unless a payload follows that is not to go
// through our buffer.
func (r *reader) ahead(n int) int {
	if r.bulk {
		return n
	}
	return readBufferSize
}

// preface is what a client sends first (RFC 9113 §3.4).
func (r *reader) preface() error {
	for i := range len(http2.ClientPreface) {
		if err := r.fill(i + 1); err != nil {
			return err
		}
		if r.buf.b[r.r+i] != http2.ClientPreface[i] {
			return connError(http2.ErrCodeProtocol, "the peer does not speak HTTP/2")
		}
	}
	r.r += len(http2.ClientPreface)
	r.phase = (*reader).frameStart
	return nil
}

// frameStart reads a frame's header, with pad length and priority if it has them.
func (r *reader) frameStart() error {
	if r.mayStop() && r.enough() {
		return errEnough
	}
	if err := r.fillUpTo(frameHeaderSize, r.ahead(frameHeaderSize)); err != nil {
		return err
	}
	h := parseFrameHeader(r.buf.b[r.r:])
	if err := r.checkFrame(h); err != nil {
		return err
	}
	prefix := h.prefix()
	if prefix > h.length { // RFC 9113 §4.2
		return connError(http2.ErrCodeFrameSize, "%v frame of %d bytes", h.typ, h.length)
	}
	if err := r.fill(frameHeaderSize + prefix); err != nil {
		return err
	}
	r.padding = 0
	if h.padded() {
		r.padding = int(r.buf.b[r.r+frameHeaderSize])
	}
	r.r += frameHeaderSize + prefix
	r.frame = h
	r.left = h.length - prefix - r.padding
	if r.left < 0 { // RFC 9113 §6.1, §6.2
		return connError(http2.ErrCodeProtocol, "%v frame with more padding than payload", h.typ)
	}
	return r.startPayload()
}

// checkFrame checks what holds for all frames.
func (r *reader) checkFrame(h frameHeader) error {
	switch {
	case h.length > r.c.cfg.maxFrameSize(): // RFC 9113 §4.2
		return connError(http2.ErrCodeFrameSize, "%v frame of %d bytes", h.typ, h.length)
	case !r.settled && (h.typ != http2.FrameSettings || h.flags.Has(http2.FlagSettingsAck)): // RFC 9113 §3.4
		return connError(http2.ErrCodeProtocol, "first frame is not SETTINGS but %v", h.typ)
	case r.inBlock && (h.typ != http2.FrameContinuation || h.id != r.blockHdr.id): // RFC 9113 §6.10
		return connError(http2.ErrCodeProtocol, "%v frame within the header block of stream %d", h.typ, r.blockHdr.id)
	}
	return nil
}

// startPayload chooses how the payload is read.
func (r *reader) startPayload() error {
	r.settled = true
	if s := r.unannounced; s != nil && s.id != r.frame.id {
		r.announce()
	}
	r.bulk = r.frame.typ == http2.FrameData && r.frame.length >= bulkFrame
	switch r.frame.typ {
	case http2.FrameData:
		r.phase = (*reader).data
		return r.startData()
	case http2.FrameHeaders, http2.FrameContinuation:
		r.phase = (*reader).fragment
		return r.startFragment()
	default:
		r.phase = (*reader).control
		return nil
	}
}

// startData finds the stream of a DATA frame and takes it from its windows. The
// whole payload counts, padding included (RFC 9113 §6.9.1). If all of it is at hand, the stream gets it at once.
func (r *reader) startData() error {
	h := r.frame
	if r.left == 0 && !h.endStream() {
		if err := charge(&r.budgets.emptyData, "empty DATA frames"); err != nil {
			return err
		}
	}
	if ok := r.c.arrived(h.length); !ok {
		return connError(http2.ErrCodeFlowControl, "the peer exceeds the connection's window")
	}
	s, err := r.c.receiver(h.id)
	unread := h.length // that nobody will read
	awaited := false
	if s != nil {
		unread -= r.left
		if awaited, err = r.startFor(s); err != nil {
			s, unread = nil, h.length
		} else {
			s.returnCredit(unread)
		}
	}
	r.stream = s
	r.countStreak(h.id, awaited)
	r.yielded = false
	r.c.counted(h.length)
	r.c.consumed(unread)
	return err
}

// startFor takes the current frame from the window of s. It reports whether a Read waits for it.
func (r *reader) startFor(s *Stream) (awaited bool, err error) {
	var whole []byte
	if r.w-r.r >= r.left {
		whole = r.buf.b[r.r : r.r+r.left]
	}
	ok, awaited, unannounced := s.arrived(r.frame.length, whole, r.buf)
	if !ok {
		return false, streamError(s.id, http2.ErrCodeFlowControl, "the peer exceeds the stream's window")
	}
	if len(whole) > 0 {
		r.r += len(whole)
		r.left = 0
		r.delivered(s, unannounced)
	}
	return awaited, nil
}

// delivered notes that s got something, if only its end, and whether its Read is yet to be woken.
func (r *reader) delivered(s *Stream, unannounced bool) {
	if unannounced {
		r.unannounced = s
	}
	if s == r.lead {
		r.satisfied = true
	}
}

// countStreak notes which stream gets all DATA, if one does and waits for it each time.
func (r *reader) countStreak(id uint32, awaited bool) {
	switch {
	case !awaited:
		r.streak = 0
	case r.busiest != id:
		r.busiest, r.streak = id, 1
	default:
		r.streak++
	}
}

// data hands the payload of a DATA frame to its stream, in the pieces in which
// it comes.
func (r *reader) data() error {
	for r.left > 0 {
		n, err := r.piece()
		if err != nil {
			return err
		}
		r.left -= n
	}
	if err := r.skipPadding(); err != nil {
		return err
	}
	if s := r.stream; s != nil {
		r.stream = nil
		if r.frame.endStream() {
			s.remoteEnded()
			r.delivered(s, false)
		}
	}
	return nil
}

// piece hands over some of the payload: into the buffer of a Read that waits for it, straight from
// the transport if it is much.
func (r *reader) piece() (int, error) {
	s := r.stream
	if s != nil && r.r == r.w && r.left >= directRead {
		if dst := s.lend(r.left); dst != nil {
			return r.readInto(s, dst)
		}
		if !r.yielded {
			r.yield()
			return 0, nil
		}
		if s == r.lead && r.enough() {
			return 0, errEnough // before more is read than its Read has room for
		}
	}
	b, err := r.next(r.left)
	if err == nil && s != nil {
		r.delivered(s, s.deliver(b, r.buf))
	}
	return len(b), err
}

// yield lets other goroutines run, among them perhaps one that comes with a buffer for the current
// frame: its stream's reader, woken for the one before. A switch costs less than to copy a large frame.
func (r *reader) yield() {
	r.yielded = true
	r.announce()
	runtime.Gosched()
}

// readInto reads into the buffer that s lends.
func (r *reader) readInto(s *Stream, dst []byte) (int, error) {
	r.lender = s
	n, err := r.read(dst)
	r.lender = nil
	if unannounced := s.giveBack(n); n > 0 {
		r.delivered(s, unannounced)
	}
	if errors.Is(err, errRecalled) {
		r.announce()
		err = nil
	}
	return n, err
}

// skipPadding ends a frame.
func (r *reader) skipPadding() error {
	for r.padding > 0 {
		b, err := r.next(r.padding)
		if err != nil {
			return err
		}
		r.padding -= len(b)
	}
	r.phase = (*reader).frameStart
	return nil
}

// startFragment begins or continues a header block (RFC 9113 §4.3).
func (r *reader) startFragment() error {
	h := r.frame
	switch {
	case h.typ == http2.FrameHeaders:
		if h.id == 0 { // RFC 9113 §6.2
			return connError(http2.ErrCodeProtocol, "HEADERS frame without a stream")
		}
		r.blockHdr, r.block, r.frames = h, r.block[:0], 0
	case !r.inBlock: // RFC 9113 §6.10
		return connError(http2.ErrCodeProtocol, "CONTINUATION without HEADERS")
	default:
		r.frames++
	}
	if r.frames > maxContinuations || len(r.block)+r.left > r.c.cfg.maxHeaderBytes(r.c.client) {
		return connError(http2.ErrCodeEnhanceYourCalm, "header block too large")
	}
	r.inBlock = !h.flags.Has(http2.FlagHeadersEndHeaders)
	return nil
}

// fragment gathers a fragment of a header block, and decodes the block if it was the last.
func (r *reader) fragment() error {
	for r.left > 0 {
		b, err := r.next(r.left)
		if err != nil {
			return err
		}
		r.left -= len(b)
		r.block = append(r.block, b...)
	}
	if err := r.skipPadding(); err != nil || r.inBlock {
		return err
	}
	l, err := r.decode()
	if err != nil {
		return err
	}
	if cap(r.block) > 4<<10 {
		r.block = nil
	}
	return r.c.handleHeaders(r, r.blockHdr, l)
}

// decode decodes a header block. A list that is too large is decoded to its end
// all the same, to keep the HPACK state, but not kept. What it returns holds until the next block.
func (r *reader) decode() (*headerList, error) {
	r.list = headerList{limit: r.c.cfg.maxHeaderBytes(r.c.client)}
	r.dec.SetEmitEnabled(true)
	_, err := r.dec.Write(r.block)
	if err == nil {
		err = r.dec.Close()
	}
	if err != nil { // RFC 9113 §4.3
		return nil, connError(http2.ErrCodeCompression, "header block: %v", err)
	}
	return &r.list, nil
}

func (r *reader) addField(f hpack.HeaderField) {
	r.list.add(f)
	if r.list.tooBig {
		r.dec.SetEmitEnabled(false)
	}
}

// control reads the payload of a frame that is small or not of interest.
func (r *reader) control() error {
	keep := r.left
	switch r.frame.typ {
	case http2.FrameSettings:
		if keep > maxSettingsPayload {
			return connError(http2.ErrCodeEnhanceYourCalm, "SETTINGS frame of %d bytes", keep)
		}
	case http2.FrameGoAway:
		keep = min(keep, 8+maxDebugData)
	case http2.FrameRSTStream, http2.FrameWindowUpdate, http2.FramePing, http2.FramePriority:
		keep = min(keep, 8)
	default:
		keep = 0
	}
	if err := r.fill(keep); err != nil {
		return err
	}
	payload := r.buf.b[r.r : r.r+keep]
	r.r += keep
	r.left -= keep
	r.padding = r.left // the rest is skipped
	r.phase = (*reader).skipPadding
	return r.handleControl(r.frame, payload)
}

// streamFailed resets a stream on which the peer broke a rule (RFC 9113 §5.4.2).
func (r *reader) streamFailed(se *StreamError) error {
	if err := charge(&r.budgets.resets, "stream errors"); err != nil {
		return err
	}
	c := r.c
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil //nolint:nilerr // that the connection ended before is no fault of this stream
	}
	s := c.streams[se.ID]
	start := c.out.len()
	c.appendReset(se.ID, se.Code)
	c.forgotten.add(se.ID)
	if s != nil {
		c.forget(s, se)
	}
	err := c.flushAnswer(start)
	c.mu.Unlock()
	if s != nil {
		s.endRecv(se, true)
		c.streamGone(s)
	}
	return err
}

func parseFrameHeader(b []byte) frameHeader {
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		typ:    http2.FrameType(b[3]),
		flags:  http2.Flags(b[4]),
		id:     binary.BigEndian.Uint32(b[5:]) & maxStreamID,
	}
}

func (h frameHeader) padded() bool {
	return (h.typ == http2.FrameData || h.typ == http2.FrameHeaders) && h.flags.Has(http2.FlagDataPadded)
}

// prefix is the length of what comes before the payload proper.
func (h frameHeader) prefix() (n int) {
	if h.padded() {
		n++
	}
	if h.typ == http2.FrameHeaders && h.flags.Has(http2.FlagHeadersPriority) {
		n += 5 // RFC 9113 §6.2; ignored
	}
	return n
}

func (h frameHeader) endStream() bool { return h.flags.Has(http2.FlagDataEndStream) }
