package h2

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/memnet"
)

// newHoldingCarrier returns a carrier that a Conn would use, and the other end of what it runs over.
func newHoldingCarrier(t *testing.T) (c *carrier, peer net.Conn) {
	near, far := memnet.Pipe()
	c = newCarrier(near)
	c.hold(func() bool { return false })
	t.Cleanup(func() { near.Close(); far.Close() })
	return c, far
}

// TestCarrierSendsAtOnce: what is written has gone, unless the carrier was told to gather.
func TestCarrierSendsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := newHoldingCarrier(t)
		got := make(chan string)
		go func() {
			b := make([]byte, 100)
			for {
				n, err := peer.Read(b)
				if err != nil {
					close(got)
					return
				}
				got <- string(b[:n])
			}
		}()

		c.Write([]byte("at once"))
		if s := <-got; s != "at once" || c.behind.Load() {
			t.Errorf("got %q", s)
		}
		c.gather()
		c.Write([]byte("two records, "))
		c.Write([]byte("one write"))
		if !c.behind.Load() {
			t.Error("sent what was to be gathered")
		}
		if all, err := c.tryFlush(); !all || err != nil {
			t.Errorf("tryFlush: %v, %v", all, err)
		}
		if s := <-got; s != "two records, one write" || c.behind.Load() {
			t.Errorf("got %q", s)
		}
		c.Write([]byte("at once again"))
		if s := <-got; s != "at once again" {
			t.Errorf("got %q", s)
		}
		c.Close()
		<-got
	})
}

// TestCarrierKeepsOrder writes, gathers and flushes at random, to a peer that is mostly slower: every byte
// arrives, in order, although much of it finds no room at first.
func TestCarrierKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := newHoldingCarrier(t)
		received := make(chan []byte)
		go func() {
			var got bytes.Buffer
			for err := error(nil); err == nil; {
				time.Sleep(time.Millisecond)
				_, err = io.CopyN(&got, peer, 50_000)
			}
			received <- got.Bytes()
		}()

		rng := rand.New(rand.NewPCG(1, 2))
		want := randomBytes(3, 8<<20)
		behind := 0
		for rest := want; len(rest) > 0; {
			n := min(len(rest), rng.IntN(100_000))
			if _, err := c.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			if c.behind.Load() {
				behind++
			}
			switch rng.IntN(4) {
			case 0:
				c.gather()
			case 1:
				c.tryFlush()
			case 2:
				c.flush()
			case 3:
				time.Sleep(time.Duration(rng.IntN(5)) * time.Millisecond)
			}
		}
		if err := c.flush(); err != nil || c.behind.Load() {
			t.Errorf("the last flush: %v", err)
		}
		c.Conn.Close()
		if got := <-received; !bytes.Equal(got, want) {
			t.Errorf("%d bytes arrived of %d, or in another order", len(got), len(want))
		}
		if behind == 0 {
			t.Error("everything always found room")
		}
	})
}
