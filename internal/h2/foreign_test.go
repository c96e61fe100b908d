package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// Habits are how an implementation behaves where HTTP/2 leaves it the choice, and what
// it does not take from its peer.
type habits struct {
	client, server []http2.Setting // what it advertises in either role, in its order
	connWindow     uint32          // what it grows the connection's window to at once
	// refills says whether it gives credit back: of a window of limit bytes the peer has
	// left bytes, and freed bytes were read.
	refills func(limit, left, freed int64) bool
	frame   int // its largest DATA frame, if the peer allows it

	pingInterval time.Duration // after the answer to the last one
	pingJitter   time.Duration // at most, on top of that
	pingData     func() [8]byte

	abort http2.ErrCode // of the RST_STREAM for an application that is gone
	// wary keeps its limits against floods. It returns what is wrong with a frame.
	wary func(f *foreign, fr http2.Frame) error
}

// envoyHabits are those of Envoy as Istio configures it for waypoints and gateways: AllowConnect,
// 100 streams, a keepalive of 10 s, the defaults of Envoy 1.37 for the rest.
func envoyHabits() habits {
	settings := []http2.Setting{
		{ID: http2.SettingHeaderTableSize, Val: 4096},
		{ID: http2.SettingEnableConnectProtocol, Val: 1}, // by clients too
		{ID: http2.SettingMaxConcurrentStreams, Val: 100},
		{ID: http2.SettingInitialWindowSize, Val: 16 << 20},
	}
	return habits{
		client:       append([]http2.Setting{{ID: http2.SettingEnablePush, Val: 0}}, settings...),
		server:       settings,
		connWindow:   24 << 20,
		refills:      func(limit, _, freed int64) bool { return freed >= limit/2 },
		frame:        16 << 10,
		pingInterval: 10 * time.Second,
		pingJitter:   1500 * time.Millisecond, // 15 %
		pingData: func() (data [8]byte) { // milliseconds since 1970
			ms := time.Now().UnixMilli()
			for i := range data {
				data[i] = byte(ms >> (8 * i))
			}
			return data
		},
		abort: http2.ErrCodeNo, // CONNECT_ERROR only if it could not connect at all
		wary:  envoyLimits,
	}
}

// envoyLimits are the defaults of max_consecutive_inbound_frames_with_empty_payload (1),
// max_inbound_window_update_frames_per_data_frame_sent (10) and
// max_inbound_priority_frames_per_stream (100).
func envoyLimits(f *foreign, fr http2.Frame) error {
	h := fr.Header()
	empty := h.Length == 0 && !h.Flags.Has(http2.FlagDataEndStream)
	switch h.Type {
	case http2.FrameData, http2.FrameHeaders, http2.FrameContinuation:
		if !empty {
			f.counts["empty"] = 0
		} else if f.counts["empty"]++; f.counts["empty"] > 1 {
			return fmt.Errorf("inbound_empty_frames_flood: %v", fr)
		}
	case http2.FrameWindowUpdate:
		f.counts["updates"]++
		if most := 5 + 2*(len(f.streams)+10*f.counts["sent"]); f.counts["updates"] > most {
			return fmt.Errorf("inbound_window_update_frames_flood: %d for %d DATA frames", f.counts["updates"], f.counts["sent"])
		}
	case http2.FramePriority:
		if f.counts["priority"]++; f.counts["priority"] > 100*(1+len(f.streams)) {
			return fmt.Errorf("inbound_priority_frames_flood")
		}
	}
	return nil
}

// ztunnelHabits are those of ztunnel, on hyperium/h2.
func ztunnelHabits() habits {
	return habits{
		client: []http2.Setting{
			{ID: http2.SettingEnablePush, Val: 0},
			{ID: http2.SettingInitialWindowSize, Val: 4 << 20},
			{ID: http2.SettingMaxFrameSize, Val: 1 << 20},
			{ID: http2.SettingMaxHeaderListSize, Val: 16 << 10},
		},
		server: []http2.Setting{
			{ID: http2.SettingMaxConcurrentStreams, Val: 200},
			{ID: http2.SettingInitialWindowSize, Val: 4 << 20},
			{ID: http2.SettingMaxFrameSize, Val: 1 << 20},
			{ID: http2.SettingMaxHeaderListSize, Val: 64 << 10},
		},
		connWindow:   16 << 20,
		refills:      func(_, left, freed int64) bool { return freed >= left/2 },
		frame:        1 << 20,
		pingInterval: 10 * time.Second,
		pingData:     func() [8]byte { return [8]byte{0x3b, 0x7c, 0xdb, 0x7a, 0x0b, 0x87, 0x16, 0xb4} },
		abort:        http2.ErrCodeCancel, // the stream is dropped without END_STREAM
		wary:         h2Limits,
	}
}

// h2Limits are those that h2 has had since 0.4.16: 100 empty DATA frames without END_STREAM, in the
// life of a connection. Its budget of small DATA frames is for those that its application has not
// read; this one's reads at once.
func h2Limits(f *foreign, fr http2.Frame) error {
	if h := fr.Header(); h.Type == http2.FrameData && h.Length == 0 && !h.Flags.Has(http2.FlagDataEndStream) {
		if f.counts["empty"]++; f.counts["empty"] > 100 {
			return fmt.Errorf("too_many_data_frames: %v", fr)
		}
	}
	return nil
}

// A foreign is a peer that goes by the habits of another implementation. It answers by itself what
// such a one answers by itself, reads at once what comes, and keeps an eye on its peer.
type foreign struct {
	*peer
	habits
	writing sync.Mutex // frames

	mu       sync.Mutex // guards what follows
	changed  sync.Cond
	streams  map[uint32]*foreignStream
	settings map[http2.SettingID]uint32 // of our engine; nil: they have not come
	acked    bool
	in, out  int64 // the connection's windows
	freed    int64
	pongs    int
	counts   map[string]int // for wary
	err      error          // the end of the connection, or what our engine did wrong
}

type foreignStream struct {
	header  map[string]string
	data    []byte
	ended   bool
	reset   *http2.ErrCode
	in, out int64
	freed   int64
}

func newForeign(t testing.TB, conn *memnet.Conn, h habits, client bool) *foreign {
	f := &foreign{
		peer:    newPeer(t, conn),
		habits:  h,
		streams: make(map[uint32]*foreignStream),
		in:      int64(h.connWindow),
		out:     initialWindow,
		counts:  make(map[string]int),
	}
	f.changed.L = &f.mu
	settings := h.server
	if client {
		settings = h.client
		f.write(http2.ClientPreface)
	} else if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		t.Fatal(err)
	}
	f.fr.WriteSettings(settings...)
	f.fr.WriteWindowUpdate(0, h.connWindow-initialWindow)
	go f.run()
	return f
}

// foreignServer is the server of a client of ours.
func foreignServer(t testing.TB, h habits, cfg Config) (*foreign, *Conn) {
	a, b := memnet.Pipe()
	c, err := NewClient(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	f := newForeign(t, a, h, false)
	f.until(func() bool { return f.acked })
	return f, c
}

// foreignClient is the client of a server of ours.
func foreignClient(t testing.TB, h habits, cfg Config, handle func(*Stream)) (*foreign, *Conn) {
	a, b := memnet.Pipe()
	c, err := NewServer(b, cfg, handle)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return newForeign(t, a, h, true), c
}

// until waits for a condition, which is called with mu held.
func (f *foreign) until(condition func() bool) {
	f.t.Helper()
	timeout := time.AfterFunc(patience, func() { f.fail(errors.New("nothing happens")) })
	defer timeout.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for !condition() {
		if f.err != nil {
			f.t.Fatal(f.err)
		}
		f.changed.Wait()
	}
}

// patience is how long, in a bubble's time, anything may take.
const patience = 5 * time.Minute

func (f *foreign) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
		f.changed.Broadcast()
	}
}

// untilEnd waits for the end of the connection.
func (f *foreign) untilEnd() {
	f.t.Helper()
	timeout := time.AfterFunc(patience, func() { f.fail(errors.New("the connection does not end")) })
	defer timeout.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.err == nil {
		f.changed.Wait()
	}
	if f.err != io.EOF {
		f.t.Fatal(f.err)
	}
}

func (f *foreign) run() {
	for {
		fr, err := f.fr.ReadFrame()
		f.mu.Lock()
		if err == nil {
			err = f.handle(fr)
		}
		f.changed.Broadcast()
		f.mu.Unlock()
		if err != nil {
			f.fail(err)
			return
		}
	}
}

// handle processes a frame of our engine. mu is held.
func (f *foreign) handle(fr http2.Frame) error {
	if err := f.wary(f, fr); err != nil {
		return err
	}
	id := fr.Header().StreamID
	s := f.streams[id]
	if _, opens := fr.(*http2.HeadersFrame); id != 0 && s == nil && !opens {
		return fmt.Errorf("%v on an idle stream", fr)
	}
	switch fr := fr.(type) {
	case *http2.SettingsFrame:
		return f.handleSettings(fr)
	case *http2.HeadersFrame:
		return f.handleHeaders(fr)
	case *http2.DataFrame:
		return f.handleData(s, fr)
	case *http2.RSTStreamFrame:
		s.reset = new(fr.ErrCode)
	case *http2.WindowUpdateFrame:
		if fr.StreamID == 0 {
			f.out += int64(fr.Increment)
		} else {
			s.out += int64(fr.Increment)
		}
	case *http2.PingFrame:
		if fr.IsAck() {
			f.pongs++
			return nil
		}
		f.send(func() { f.fr.WritePing(true, fr.Data) })
	case *http2.GoAwayFrame:
		if fr.ErrCode != http2.ErrCodeNo {
			return fmt.Errorf("GOAWAY: %v %s", fr.ErrCode, fr.DebugData())
		}
	default:
		return fmt.Errorf("unexpected %v", fr)
	}
	return nil
}

// send writes frames.
func (f *foreign) send(write func()) {
	f.writing.Lock()
	defer f.writing.Unlock()
	write()
}

func (f *foreign) handleSettings(fr *http2.SettingsFrame) error {
	if fr.IsAck() {
		f.acked = true
		return nil
	}
	f.settings = make(map[http2.SettingID]uint32)
	defer func() { // RFC 9113 §6.9.2
		for _, s := range f.streams {
			s.out += int64(f.settings[http2.SettingInitialWindowSize]) - initialWindow
		}
	}()
	err := fr.ForeachSetting(func(s http2.Setting) error {
		f.settings[s.ID] = s.Val
		return nil
	})
	f.send(func() { f.fr.WriteSettingsAck() })
	return err
}

func (f *foreign) handleHeaders(fr *http2.HeadersFrame) error {
	fields, err := f.dec.DecodeFull(fr.HeaderBlockFragment())
	if err != nil {
		return err
	}
	s := f.streams[fr.StreamID]
	if s == nil {
		s = f.open(fr.StreamID)
	}
	s.header = make(map[string]string)
	var size uint32
	for _, hf := range fields {
		s.header[hf.Name] = hf.Value
		size += hf.Size()
	}
	s.ended = fr.StreamEnded()
	if most := f.advertised(http2.SettingMaxHeaderListSize); most > 0 && size > most {
		return fmt.Errorf("header list of %d bytes", size)
	}
	return nil
}

// open makes a stream. mu is held.
func (f *foreign) open(id uint32) *foreignStream {
	out := int64(initialWindow)
	if v, ok := f.settings[http2.SettingInitialWindowSize]; ok {
		out = int64(v)
	}
	s := &foreignStream{in: int64(f.advertised(http2.SettingInitialWindowSize)), out: out}
	f.streams[id] = s
	return s
}

// advertised is a setting that it sent in either role.
func (f *foreign) advertised(id http2.SettingID) uint32 {
	for _, s := range slices.Concat(f.client, f.server) {
		if s.ID == id {
			return s.Val
		}
	}
	return 0
}

func (f *foreign) handleData(s *foreignStream, fr *http2.DataFrame) error {
	n := int64(len(fr.Data()))
	if most := max(f.advertised(http2.SettingMaxFrameSize), minMaxFrameSize); fr.Length > most {
		return fmt.Errorf("DATA frame of %d bytes", fr.Length)
	}
	s.in -= n
	f.in -= n
	if s.in < 0 || f.in < 0 {
		return fmt.Errorf("%v exceeds a window", fr)
	}
	s.data = append(s.data, fr.Data()...)
	s.ended = fr.StreamEnded()
	s.freed += n
	f.freed += n
	if limit := int64(f.advertised(http2.SettingInitialWindowSize)); s.freed > 0 && f.refills(limit, s.in, s.freed) {
		f.update(fr.StreamID, &s.in, &s.freed)
	}
	if f.freed > 0 && f.refills(int64(f.connWindow), f.in, f.freed) {
		f.update(0, &f.in, &f.freed)
	}
	return nil
}

func (f *foreign) update(id uint32, window, freed *int64) {
	n := uint32(*freed)
	f.send(func() { f.fr.WriteWindowUpdate(id, n) })
	*window += *freed
	*freed = 0
}

// fields sends a HEADERS frame.
func (f *foreign) fields(id uint32, endStream bool, fields ...string) {
	f.mu.Lock()
	if f.streams[id] == nil {
		f.open(id)
	}
	f.mu.Unlock()
	f.send(func() { f.headers(id, endStream, fields...) })
}

// data sends DATA frames as the windows allow, and END_STREAM in an empty one, as both
// implementations do when an application ends later than it has written.
func (f *foreign) data(id uint32, b []byte, end bool) {
	f.t.Helper()
	for len(b) > 0 {
		var n int
		f.until(func() bool {
			s := f.streams[id]
			most := min(int64(f.frame), int64(f.settings[http2.SettingMaxFrameSize]), s.out, f.out, int64(len(b)))
			n = int(max(most, 0))
			s.out -= int64(n)
			f.out -= int64(n)
			if n > 0 {
				f.counts["sent"]++
			}
			return n > 0
		})
		f.send(func() { f.fr.WriteData(id, false, b[:n]) })
		b = b[n:]
	}
	if end {
		f.send(func() { f.fr.WriteData(id, true, nil) })
	}
}

func (f *foreign) reset(id uint32, code http2.ErrCode) {
	f.send(func() { f.fr.WriteRSTStream(id, code) })
}

// wantWhole waits for the end of a stream and compares what came.
func (f *foreign) wantWhole(id uint32, want []byte) {
	f.t.Helper()
	f.until(func() bool { s := f.streams[id]; return s != nil && s.ended })
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := f.streams[id].data; !bytes.Equal(got, want) {
		f.t.Errorf("stream %d: %d bytes came, want %d", id, len(got), len(want))
	}
}

// wantFields waits for the header of a stream.
func (f *foreign) wantFields(id uint32, want map[string]string) {
	f.t.Helper()
	f.until(func() bool { s := f.streams[id]; return s != nil && s.header != nil })
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := f.streams[id].header; !maps.Equal(got, want) {
		f.t.Errorf("stream %d: header %v, want %v", id, got, want)
	}
}

// keepAlive pings for a time, as it does, and wants each PING to be answered.
func (f *foreign) keepAlive(d time.Duration) {
	f.t.Helper()
	end := time.Now().Add(d)
	for i := 1; time.Now().Before(end); i++ {
		time.Sleep(f.pingInterval + f.pingJitter*time.Duration(i%4)/3)
		f.send(func() { f.fr.WritePing(false, f.pingData()) })
		f.until(func() bool { return f.pongs == i })
	}
}
