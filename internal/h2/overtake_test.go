package h2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
)

// stalledStream opens a stream to a peer that reads nothing, and writes to it until nothing
// is taken any more. It returns how much was.
func stalledStream(t *testing.T, p *peer, c *Conn) (s *Stream, written int) {
	t.Helper()
	opened := make(chan *Stream)
	go func() { opened <- mustOpen(t, c) }()
	p.wantHeaders(1, false)
	p.answer(1, 200, false)
	s = <-opened
	for {
		n, err := s.TryWrite(make([]byte, maxSendFrame))
		if err != nil {
			t.Fatal(err)
		}
		written += n
		synctest.Wait()
		if n == 0 {
			return s, written
		}
	}
}

// playWideServer is playServer with windows that never matter.
func playWideServer(t *testing.T, settings ...http2.Setting) (*peer, *Conn) {
	p, c := playRawServer(t, Config{PingInterval: -1})
	p.handshake(append(settings,
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30},
		http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})...)
	p.fr.WriteWindowUpdate(0, 1<<30)
	synctest.Wait()
	return p, c
}

// TestSmallFramesOvertakeData: what is urgent does not wait for DATA that is queued.
func TestSmallFramesOvertakeData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playWideServer(t)
		_, left := stalledStream(t, p, c)
		p.fr.WritePing(false, [8]byte{7})
		synctest.Wait()
		go c.Open(t.Context(), "b:2", nil)
		synctest.Wait()
		var behind = map[http2.FrameType]int{}
		for left > 0 {
			f, err := p.next()
			if err != nil {
				t.Fatal(err)
			}
			if d, ok := f.(*http2.DataFrame); ok {
				left -= len(d.Data())
			} else {
				behind[f.Header().Type] = left
			}
		}
		for _, typ := range []http2.FrameType{http2.FramePing, http2.FrameHeaders} {
			if behind[typ] < outboxLimit {
				t.Errorf("%v overtook %d bytes, want all that was not yet on its way, at least %d", typ, behind[typ], outboxLimit)
			}
		}
	})
}

// TestNewStreamDoesNotOvertakeTheEndOfAnother: the peer must not count one stream too many
// (RFC 9113 §5.1.2).
func TestNewStreamDoesNotOvertakeTheEndOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playWideServer(t, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
		s, _ := stalledStream(t, p, c)
		s.Close()
		go c.Open(t.Context(), "b:2", nil)
		synctest.Wait()
		var order []http2.FrameType
		for len(order) == 0 || order[len(order)-1] != http2.FrameHeaders {
			f, err := p.next()
			if err != nil {
				t.Fatal(err)
			}
			if f.Header().Type != http2.FrameData || f.(*http2.DataFrame).StreamEnded() {
				order = append(order, f.Header().Type)
			}
		}
		if len(order) != 3 || order[0] != http2.FrameData || order[1] != http2.FrameRSTStream {
			t.Errorf("order %v, want END_STREAM and RST_STREAM before HEADERS", order)
		}
	})
}

// TestSettingsAckIsNotOvertaken: frames that were queued before keep to the settings of before.
func TestSettingsAckIsNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := playWideServer(t)
		s, written := stalledStream(t, p, c)
		p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: minMaxFrameSize})
		synctest.Wait()
		p.fr.WritePing(false, [8]byte{7})
		synctest.Wait()
		go s.Write(make([]byte, 100_000))
		acked := false
		for left := written + 100_000; left > 0; {
			f, err := p.next()
			if err != nil {
				t.Fatal(err)
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				acked = f.IsAck()
			case *http2.DataFrame:
				left -= len(f.Data())
				if acked && len(f.Data()) > minMaxFrameSize {
					t.Fatalf("DATA frame of %d bytes after the peer's limit was acknowledged", len(f.Data()))
				}
			}
		}
	})
}

// TestOutboxKeepsWhatIsQueued queues frames at random, of which some overtake others, and reads them back: each stream's
// bytes are whole and in order, and many small writes share few frames.
func TestOutboxKeepsWhatIsQueued(t *testing.T) {
	const limit = 1000
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		c := &Conn{}
		want := map[uint32][]byte{}
		pings, barriers, runs, lastID := 0, 0, 0, uint32(0)
		for range 300 {
			switch id := uint32(1 + 2*rng.IntN(3)); rng.IntN(12) {
			case 0:
				c.appendPing(0, binary.BigEndian.AppendUint64(nil, uint64(pings)))
				pings++
			case 1:
				c.out.barrier()
				barriers++
			default:
				p := randomBytes(rng.Uint64(), 1+rng.IntN(20))
				c.out.appendData(id, p, limit)
				want[id] = append(want[id], p...)
				if id != lastID {
					runs, lastID = runs+1, id
				}
			}
		}
		got := map[uint32][]byte{}
		frames, ping := 0, 0
		batch := c.out.take()
		first, rest := batch.assemble()
		fr := http2.NewFramer(nil, io.MultiReader(bytes.NewReader(first), bytes.NewReader(rest)))
		for {
			f, err := fr.ReadFrame()
			if errors.Is(err, io.EOF) {
				break
			}
			switch f := f.(type) {
			case *http2.PingFrame:
				if n := binary.BigEndian.Uint64(f.Data[:]); n != uint64(ping) {
					t.Fatalf("seed %d: PING %d comes as number %d", seed, n, ping)
				}
				ping++
			case *http2.DataFrame:
				if len(f.Data()) > limit {
					t.Fatalf("seed %d: a frame of %d bytes", seed, len(f.Data()))
				}
				got[f.StreamID] = append(got[f.StreamID], f.Data()...)
				frames++
			default:
				t.Fatalf("seed %d: %v, %v", seed, f, err)
			}
		}
		for id := range want {
			if !bytes.Equal(got[id], want[id]) {
				t.Fatalf("seed %d: stream %d has %d bytes of %d", seed, id, len(got[id]), len(want[id]))
			}
		}
		if frames > runs+barriers+pings || ping != pings {
			t.Fatalf("seed %d: %d frames for %d runs of writes, %d PINGs of %d", seed, frames, runs, ping, pings)
		}
	}
}
