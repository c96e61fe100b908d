package h2

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// TestEqualShares lets streams that write much at a time and streams that write little compete for a narrow path.
func TestEqualShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 4 << 20 // bytes a second
		sizes := []int{1 << 20, 64 << 10, 64 << 10, 16 << 10, 1 << 10, 1 << 10}
		handle, accepted := accepting()
		client, _ := newPair(t, narrowWire(10*time.Millisecond, rate), Config{}, handle)
		received := make([]counter, len(sizes))
		for i, size := range sizes {
			s := mustOpen(t, client)
			go io.Copy(&received[i], s)
			go writeForEver(<-accepted, size)
		}
		time.Sleep(10 * time.Second)
		for i := range received {
			received[i].take()
		}
		const seconds = 100
		time.Sleep(seconds * time.Second)
		fair := rate * seconds / len(sizes)
		for i, size := range sizes {
			if got := received[i].take(); got < fair*3/4 || got > fair*5/4 {
				t.Errorf("writes of %d bytes got %.2f of a fair share", size, float64(got)/float64(fair))
			}
		}
	})
}

func writeForEver(s *Stream, size int) {
	p := make([]byte, size)
	for {
		if _, err := s.Write(p); err != nil {
			return
		}
	}
}

// TestSmallWritesGoAhead lets many large Writes wait for the connection's window, and expects a small one to be sent
// as soon as that opens.
func TestSmallWritesGoAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const large = 20
		handle, accepted := accepting()
		p, _ := playClient(t, Config{}, handle)
		for i := range uint32(large + 1) {
			p.connect(2*i + 1)
			p.wantStatus(2*i+1, 200, false)
		}
		for range large {
			go writeForEver(<-accepted, 64<<10)
		}
		p.skipData(initialWindow, 0)
		synctest.Wait()
		small := <-accepted
		go small.Write([]byte("small"))
		synctest.Wait()
		p.fr.WriteWindowUpdate(0, 1<<20)
		if skipped := p.skipData(1<<20, small.id); skipped > 2*maxSendFrame {
			t.Errorf("a small write was sent after %d bytes of others", skipped)
		}
	})
}

// skipData reads DATA frames of so many bytes together, or up to one of a stream, and returns how many bytes came before.
func (p *peer) skipData(most int, until uint32) (skipped int) {
	p.t.Helper()
	for skipped < most {
		f := want[*http2.DataFrame](p)
		if f.StreamID == until {
			break
		}
		skipped += len(f.Data())
	}
	return skipped
}
